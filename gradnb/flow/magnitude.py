"""Gradients that fall or grow by orders of magnitude between the loss and a parameter.

A small or large norm alone is no fault: losses are scaled, heads start small, residual branches start at zero. So three things must
come together, in every recorded step: the parameter is out of proportion to the others that the same optimizer moves; the step
that the optimizer would make with it is out of proportion too; and the profile of a backward pass shows a mechanism for it, the
same operation again and again, or a saturated one.

Where the numbers come from: first to last layer 1e-3 for vanishing is AutoTrainer's test, taken ten times stricter here; an
update below 1e-8 of the weight is SageMaker Debugger's; a gradient norm above 1e3 is torchmortem's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..recorder.recording import Event, Location, Parameter, Recording
from .cuts import graph_of
from .gains import Blame, blame
from .lead import Lead
from .profile import Group, Step, Ways, groups, rise, total

RATIO = 1e-4  # of the largest root mean square among an optimizer's gradients
UPDATE = 1e-8  # of the weight's own size
NOTHING = 1e-15  # norm of a gradient that no optimizer can use, whatever the others are
LARGE = 1e3  # norm of a gradient
FALL = 4.0  # powers of ten
RISE = 3.0
POINT = 5.0  # powers of ten at one single node
REPEATS = 4
SATURATING = frozenset("Sigmoid Tanh Softmax LogSoftmax Hardsigmoid LogSigmoid Softplus Gelu Silu Exp Erf".split())
STEEP = frozenset("Div Pow Sqrt Rsqrt Log Reciprocal BinaryCrossEntropy Acos Asin Exp Norm LinalgVectorNorm Atanh Tan LinalgInvEx".split())
_WEIGHTED = frozenset("linear conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d bilinear addmm".split())
_ADAPTIVE = ("Adam", "RMSprop", "Adagrad", "Adadelta", "Lion", "Adafactor", "Rprop")


def magnitudes(recording: Recording) -> list[Lead]:
    """Leads for vanishing and exploding gradients."""
    if recording.memo.get("nan from") is not None:
        return []
    found = growing(recording)
    return [*_vanishing(recording), *([found] if found is not None else _diverging(recording))]


@dataclass(slots=True)
class _Found:
    group: Group
    blame: Blame
    numbers: list[int]
    way: list[Step]
    kind: str  # "chain" | "point"


# -- vanishing -------------------------------------------------------------------------------------------------------------


def _vanishing(recording: Recording) -> list[Lead]:
    found: dict[tuple, _Found] = {}
    for index in range(len(recording.optimizers)):
        steps = _steps(recording, index)
        small = _negligible(recording, index, steps)
        for number in small:
            if number in recording.memo.get("explained", ()) or _cancels(recording, number, small):
                continue
            way = _way(recording, number)
            if -total(way) < FALL:
                continue
            group, kind = _mechanism(recording, way, -1)
            if group is None:
                continue
            _add(recording, found, group, kind, number, way)
    return [_lead(recording, "vanishing", f) for f in found.values() if not f.blame.learned]


def faded(recording: Recording, op: int, numbers: list[int]) -> Lead | None:
    """The lead for a gradient that fell until it was no number any more but zero."""
    for ways in _profiles(recording):
        way = ways.from_op(op)
        group, kind = _mechanism(recording, way, -1)
        if group is not None:
            return _lead(recording, "vanishing", _Found(group, blame(recording, group), numbers, way, kind))
    return None


def _steps(recording: Recording, optimizer: int) -> list[Event]:
    return [e for e in recording.events if e.kind == "step" and e.optimizer == optimizer and e.states]


def _negligible(recording: Recording, optimizer: int, steps: list[Event]) -> list[int]:
    """The parameters whose gradient is next to nothing in every step that has one, beside others that learn."""
    small: dict[int, int] = {}
    large: set[int] = set()
    for event in steps:
        sizes = {n: norm / math.sqrt(_count(recording.parameters[n])) for n, (s, norm) in event.states.items() if s == "ok" and norm}
        most = max(sizes.values(), default=0.0)
        for number, size in sizes.items():
            if (size <= RATIO * most or most < NOTHING) and _no_step(recording, optimizer, number, size):
                small[number] = small.get(number, 0) + 1
            else:
                large.add(number)
    chosen = [n for n, times in small.items() if n not in large and times >= min(2, len(steps))]
    return [n for n in chosen if not _only_a_bias(recording, n, chosen)]


def _only_a_bias(recording: Recording, number: int, small: list[int]) -> bool:
    """A bias whose weight learns: in front of a softmax or a normalisation its gradient is zero up to rounding."""
    prefix = recording.parameters[number].name.rpartition(".")[0]
    if len(recording.parameters[number].shape) > 1 or not prefix:
        return False
    beside = [i for i, p in enumerate(recording.parameters) if i != number and p.name.rpartition(".")[0] == prefix and p.ever_trainable]
    return bool(beside) and not any(i in small for i in beside)


def _cancels(recording: Recording, number: int, small: list[int]) -> bool:
    """A bias whose weight learns: the gradient arrives, and adds up to nothing (before a softmax over keys, before a normalisation)."""
    if len(recording.parameters[number].shape) > 1:
        return False
    for op in recording.ops:
        if op.name not in _WEIGHTED:
            continue
        given = [recording.values[v].parameter for v in op.inputs[1:]]
        if number in given:
            return any(n >= 0 and n != number and n not in small and len(recording.parameters[n].shape) > 1 for n in given)
    return False


def _no_step(recording: Recording, optimizer: int, number: int, size: float) -> bool:
    options = recording.options.get(optimizer, {})
    if recording.optimizers[optimizer].name.startswith(_ADAPTIVE):
        return size <= options.get("eps", 1e-8)  # their epsilon outweighs it
    weight = recording.weights.get(number, 0.0) / math.sqrt(_count(recording.parameters[number]))
    return options.get("lr", 1e-3) * size <= UPDATE * max(weight, 1e-3)


def _count(parameter: Parameter) -> int:
    return max(1, math.prod(parameter.shape))


# -- exploding -------------------------------------------------------------------------------------------------------------


def growing(recording: Recording) -> Lead | None:
    """The place where the gradient grows on its way, if its size throws the weights away."""
    found: dict[tuple, _Found] = {}
    for index in range(len(recording.optimizers)):
        steps = _steps(recording, index)
        for number in dict.fromkeys(n for group in recording.optimizers[index].groups for n in group):
            sizes = [e.states[number][1] for e in steps if e.states.get(number, ("", None))[0] == "ok"]
            if not sizes or not all(_throws(recording, index, number, size or 0.0) for size in sizes):
                continue
            way = _way(recording, number)
            if rise(way) < RISE or any(recording.ops[s.op].kind == "grad" for s in way if s.op >= 0):
                continue  # the derivative of a derivative has a scale of its own
            group, kind = _mechanism(recording, way, 1)
            if group is not None:
                _add(recording, found, group, kind, number, way)
    if not found:
        return None
    best = max(found.values(), key=lambda f: (len(f.numbers), f.group.gain))
    best.numbers = list(dict.fromkeys(n for f in found.values() for n in f.numbers))
    return _lead(recording, "exploding", best)


def _throws(recording: Recording, optimizer: int, number: int, size: float) -> bool:
    """Is a gradient so large that one step with it replaces the weight, where the optimizer does not scale it anyway."""
    if recording.optimizers[optimizer].name.startswith(_ADAPTIVE):
        return size >= 10 * LARGE
    rate = recording.options.get(optimizer, {}).get("lr", 1e-3)
    return size >= LARGE or rate * size >= 10 * max(recording.weights.get(number, 0.0), 1.0)


def _diverging(recording: Recording) -> list[Lead]:
    """The loss grows from step to step, and the weights with it: the steps are too large."""
    for index, optimizer in enumerate(recording.optimizers):
        steps = _steps(recording, index)
        losses = [v for v in (loss.value for loss in recording.losses) if v is not None]
        norms = [math.hypot(*(norm or 0.0 for _, norm in e.states.values())) for e in steps]
        if len(norms) < 3 or len(losses) < 3 or not optimizer.stack:
            continue
        grows = all(b > a for a, b in zip(norms, norms[1:])) and norms[-1] > LARGE * max(norms[0], 1e-6)
        if grows and abs(losses[-1]) > LARGE * max(abs(losses[0]), 1e-6):
            lead = Lead("exploding", recording.location(optimizer.stack), "warning", rank=150)
            lead.expression = lead.location.code if lead.location else ""
            lead.affected = [recording.parameters[n].name for n in steps[-1].states if recording.parameters[n].listed]
            lead.details = {"kind": "diverged", "losses": losses[-8:], "options": recording.options.get(index, {})}
            return [lead]
    return []


# -- the mechanism ---------------------------------------------------------------------------------------------------------


def _way(recording: Recording, number: int) -> list[Step]:
    return max((ways.way(number) for ways in _profiles(recording)), key=len, default=[])


def _profiles(recording: Recording) -> list[Ways]:
    if "ways" not in recording.memo:
        recording.memo["ways"] = [Ways(recording, profile) for profile in recording.profiles]
    return recording.memo["ways"]


def _mechanism(recording: Recording, way: list[Step], sign: int) -> tuple[Group | None, str]:
    """The operation that repeats along the way and carries the change, or the single one that does; None where it is neither."""
    whole = sum(sign * step.gain for step in way if sign * step.gain > 0)
    parts = sorted(groups(recording, way), key=lambda g: sign * g.gain, reverse=True)
    if not parts or whole <= 0:
        return None, ""
    worst = parts[0]
    if len([s for s in worst.steps if sign * s.gain > 0.02]) >= REPEATS and sign * worst.gain >= 0.4 * whole:
        return worst, "chain"
    kinds: dict[str, list[Group]] = {}
    for group in parts:
        kinds.setdefault(group.kind, []).append(group)
    kind = max(kinds, key=lambda k: sign * sum(g.gain for g in kinds[k]))
    steps = [s for g in kinds[kind] for s in g.steps if sign * s.gain > 0.02]
    if len(steps) >= REPEATS and sum(sign * s.gain for s in steps) >= 0.4 * whole and max(sign * s.gain for s in steps) <= 0.6 * whole:
        merged = Group(min(kinds[kind], key=lambda g: min(s.op for s in g.steps)).site, kind)
        merged.steps = steps
        return merged, "chain"
    single = max(way, key=lambda s: sign * s.gain)
    wanted = SATURATING if sign < 0 else STEEP
    if single.kind in wanted and sign * single.gain >= (FALL - 1 if sign < 0 else POINT):
        return next((g for g in parts if single in g.steps), None), "point"
    return None, ""


def _add(recording: Recording, found: dict[tuple, _Found], group: Group, kind: str, number: int, way: list[Step]) -> None:
    key = (group.site, group.kind)
    if key in found:
        found[key].numbers.append(number)
    else:
        found[key] = _Found(group, blame(recording, group), [number], way, kind)


def _lead(recording: Recording, cause: str, found: _Found) -> Lead:
    where: Location = found.blame.location
    lead = Lead(cause, where, "error", rank=140)
    lead.expression = graph_of(recording).slicer.text(where)
    lead.operation = recording.ops[found.group.steps[0].op].name
    lead.affected = [recording.parameters[n].name for n in found.numbers if recording.parameters[n].listed]
    lead.related = list(found.blame.related)
    steps = [s for s in found.group.steps if abs(s.gain) > 0.005] or found.group.steps
    lead.details = {
        "kind": found.kind,
        "blame": found.blame.kind,
        "operation": lead.operation,
        "factor": found.blame.factor,
        "times": len(steps),
        "each": 10 ** (found.group.gain / len(steps)),
        "whole": 10 ** max(min(total(found.way), 300.0), -300.0),
        "norm": next((p.grad_norm for p in (recording.parameters[n] for n in found.numbers) if p.grad_norm), None),
        "largest": max((p.grad_norm for p in recording.parameters if p.grad_norm and math.isfinite(p.grad_norm)), default=None),
    }
    return lead
