"""A loss that broadcasts in silence: ``[N, 1]`` against ``[N]`` gives ``[N, N]``, and every sample is compared with every other."""

from __future__ import annotations

from dataclasses import dataclass

from ...recorder.recording import Op, Recording
from ..cuts import graph_of, loss_text
from ..graph import Cone
from ..lead import Lead
from .history import relate

LOSSES = set("mse_loss l1_loss smooth_l1_loss huber_loss poisson_nll_loss gaussian_nll_loss kl_div binary_cross_entropy".split())
_PAIRING = (
    set(
        "add sub rsub mul div true_divide multiply subtract divide minimum maximum min max where __add__ __radd__ __sub__ __rsub__ __mul__ "
        "__rmul__ __truediv__ __rtruediv__ __rdiv__".split()
    )
    | LOSSES
)
# what leaves each element in its place
_ELEMENTWISE = (
    set(
        "pow __pow__ square abs __abs__ neg __neg__ exp log sqrt clamp clip clamp_min clamp_max relu softplus sigmoid tanh logsigmoid "
        "detach data float double to clone contiguous nan_to_num sign pow_ mul_ add_ sub_ div_ __imul__ __iadd__ __isub__ __itruediv__ "
        "requires_grad_ type".split()
    )
    | _PAIRING
)
_KEEPING = set("sum mean amax amin max min norm var std".split())
_TOTAL = set("mean sum nanmean nansum".split())
_SHAPING = set(
    "unsqueeze view reshape __getitem__ expand expand_as sum mean amax amin max min norm var std t T transpose permute repeat tile".split()
)


ROUNDS = 3  # of each training line; shapes seldom change


@dataclass(slots=True)
class Blown:
    """A call that made a value larger than either of its operands, or repeated the prediction."""

    op: int
    kind: str  # "pairs": [N, 1] with [N]; "repeated": the prediction [N, 1] against a target [N, A]
    small: int  # the operand with the axis of size 1
    other: int


def broadcast(recording: Recording) -> list[Lead]:
    """Leads for losses whose operands have one sample axis each that do not meet."""
    found: dict[tuple, Lead] = {}
    rounds: dict[tuple[int, ...], int] = {}
    for event in recording.events:
        if event.kind != "backward" or not event.ok or not event.losses:
            continue
        rounds[event.stack] = rounds.get(event.stack, 0) + 1
        if rounds[event.stack] > ROUNDS:
            continue
        cone = graph_of(recording).cone(event.losses)
        for blown in _blown(recording, cone):
            lead = _lead(recording, cone, blown)
            if lead.location is not None:
                found.setdefault((lead.location.filename, lead.location.line), lead)
        if len(found) > 4:
            break
    return list(found.values())[:3]


def _blown(recording: Recording, cone: Cone) -> list[Blown]:
    """Walk back from the loss through reductions and elementwise calls only, to where a shape was blown up."""
    values, ops = recording.values, recording.ops
    found: dict[int, Blown] = {}
    todo = [(loss, False) for loss in cone.losses]  # (value, was it reduced in full on its way to the loss)
    seen: set[tuple[int, bool]] = set()
    while todo and len(seen) < 2000:
        value, reduced = todo.pop()
        made = values[value].op
        if (value, reduced) in seen or made < 0:
            continue
        seen.add((value, reduced))
        op = ops[made]
        size = values[value].shape or ()
        if op.name in LOSSES:
            blown = _of_loss(recording, made, op)
            if blown is not None:
                found[made] = blown
            todo.extend((v, True) for v in op.inputs)
        elif op.name in _TOTAL and not size:
            todo.extend((v, True) for v in op.inputs)
        elif op.name in _ELEMENTWISE or op.name in ("cat", "stack") and not size:
            blown = _of_pair(recording, made, op) if reduced and op.name in _PAIRING else None
            if blown is not None:
                found[made] = blown
                continue
            if reduced and _matrix_of_its_own(recording, op, value):
                continue
            todo.extend((v, reduced) for v in op.inputs)
        elif op.kind in ("op", "function") and not size and op.inputs and not values[op.inputs[0]].shape:
            todo.extend((v, reduced) for v in op.inputs)
    # where the target was blown up before, the loss is only its echo
    echo = {b.op for b in found.values() for o in found.values() if o is not b and o.kind == "pairs" and _feeds(cone, ops[o.op], ops[b.op])}
    return [b for b in found.values() if b.op not in echo]


def _feeds(cone: Cone, first: Op, second: Op) -> bool:
    return any(set(first.outputs) & cone.upstream(v, carrying=False) for v in second.inputs)


# -- one call ------------------------------------------------------------------------------------------------------------------


def _of_loss(recording: Recording, made: int, op: Op) -> Blown | None:
    """``F.mse_loss(prediction, target)`` of different sizes; torch only warns."""
    if len(op.inputs) < 2:
        return None
    a, b = op.inputs[:2]
    pairs = _pairs(recording, a, b)
    if pairs is not None:
        return Blown(made, "pairs", *pairs)
    first, second = recording.values[a].shape or (), recording.values[b].shape or ()
    for mine, other, x, y in ((first, second, a, b), (second, first, b, a)):
        # the learning side is repeated along an axis behind the samples' one
        if len(mine) == len(other) >= 2 and mine[0] == other[0] > 1 and recording.values[x].requires_grad:
            if any(m == 1 and o > 1 for m, o in zip(mine[1:], other[1:])) and not _explicit(recording, x, made):
                return Blown(made, "repeated", x, y)
    return None


def _of_pair(recording: Recording, made: int, op: Op) -> Blown | None:
    if len(op.inputs) != 2 or not op.outputs:
        return None
    pairs = _pairs(recording, *op.inputs)
    if pairs is None:
        return None
    small, other = pairs
    if (
        _explicit(recording, small, made)
        or _same_source(recording, small, other)
        or _of_parameters(recording, small)
        or _of_parameters(recording, other)
    ):
        return None
    return Blown(made, "pairs", small, other)


def _pairs(recording: Recording, a: int, b: int) -> tuple[int, int] | None:
    """The operands ordered as ``[N, 1, …]`` and ``[N, …]`` where broadcasting them gives N twice."""
    for small, other in ((a, b), (b, a)):
        s, o = recording.values[small].shape or (), recording.values[other].shape or ()
        if len(s) == len(o) + 1 and len(o) >= 1 and s[0] == o[0] > 1 and s[1] == 1 and s[2:] == o[1:]:
            return small, other  # [N, 1, D] with [N, D]
        if len(s) == len(o) + 1 and len(o) >= 1 and s[0] == o[0] > 1 and s[-1] == 1 and s[:-1] == o and len(set(o)) == 1:
            return small, other  # [N, 1] with [N]
    return None


def _explicit(recording: Recording, value: int, made: int) -> bool:
    """Did the code ask for the axis of size 1 where it combines the two: ``x[:, None]``, ``unsqueeze``, ``keepdim=True``."""
    ops, values, sites = recording.ops, recording.values, recording.sites
    for _ in range(12):
        born = values[value].op
        if born < 0:
            return False
        op = ops[born]
        source = op.inputs[0] if op.inputs else -1
        if op.name in _SHAPING and op.stack and _adds_the_axis(recording, op, value):
            if not _same_function(recording, op, ops[made]):
                return False
            if sites[op.stack[0]].function == "<module>" or not values[value].requires_grad:
                return _same_statement(recording, op, ops[made])
            return True
        if op.name in _SHAPING and source >= 0 and op.name not in _ELEMENTWISE:
            return False
        if op.name not in _ELEMENTWISE or source < 0:
            return False
        same = [v for v in op.inputs if values[v].shape == values[value].shape]
        value = same[0] if same else source
    return False


def _adds_the_axis(recording: Recording, op: Op, value: int) -> bool:
    """Is the axis of size 1 asked for here: ``unsqueeze``, ``x[:, None]``, ``view(-1, 1)``."""
    before = recording.values[op.inputs[0]].shape or () if op.inputs else ()
    after = recording.values[value].shape or ()
    if op.name in _KEEPING:
        return False  # keepdim=True is often a slip, and not how a matrix of pairs is asked for
    return len(after) > len(before) or op.name in ("view", "reshape", "t", "T", "transpose", "permute", "expand")


def _same_function(recording: Recording, a: Op, b: Op) -> bool:
    slicer = graph_of(recording).slicer
    if not a.stack or not b.stack:
        return False
    first, second = slicer.at(recording.sites[a.stack[0]]), slicer.at(recording.sites[b.stack[0]])
    return first is not None and second is not None and first[1] is second[1]


def _same_statement(recording: Recording, a: Op, b: Op) -> bool:
    slicer = graph_of(recording).slicer
    first, second = slicer.at(recording.sites[a.stack[0]]), slicer.at(recording.sites[b.stack[0]])
    if first is None or second is None:
        return recording.sites[a.stack[0]].line == recording.sites[b.stack[0]].line
    return first[0].statement(first[2]) is second[0].statement(second[2])


def _same_source(recording: Recording, a: int, b: int) -> bool:
    """``x.unsqueeze(1) - x``: both operands look at one tensor."""
    return recording.values[a].group == recording.values[b].group


def _of_parameters(recording: Recording, value: int) -> bool:
    """Computed from parameters alone: its axis is no axis of samples."""
    graph = graph_of(recording)
    todo, seen = [value], set[int]()
    met = False
    while todo and len(seen) < 300:
        v = todo.pop()
        if v in seen:
            continue
        seen.add(v)
        if recording.values[v].parameter >= 0:
            met = True
            continue
        parents = graph.parents(v)
        if not parents:
            return False
        todo.extend(e.source for e in parents)
    return met


def _matrix_of_its_own(recording: Recording, op: Op, value: int) -> bool:
    """A pairing in which another operand is already ``[N, N]``: a distance or similarity matrix is meant."""
    size = recording.values[value].shape or ()
    whole = [v for v in op.inputs if recording.values[v].shape == size]
    return len(op.inputs) > 1 and len(size) >= 2 and size[0] == size[1] > 1 and any(_native(recording, v) for v in whole)


def _native(recording: Recording, value: int) -> bool:
    """Made as a matrix by a product, a comparison, a constructor … and not by elementwise broadcasting."""
    for _ in range(16):
        made = recording.values[value].op
        if made < 0:
            return True
        op = recording.ops[made]
        if op.name not in _ELEMENTWISE:
            return True
        same = [v for v in op.inputs if recording.values[v].shape == recording.values[value].shape]
        if not same:
            return False
        value = same[0]
    return True


# -- the lead ------------------------------------------------------------------------------------------------------------------


def _lead(recording: Recording, cone: Cone, blown: Blown) -> Lead:
    graph = graph_of(recording)
    op = recording.ops[blown.op]
    lead = Lead("shape-mismatch", recording.location(op.stack), "error" if op.name in LOSSES else "warning", rank=60)
    lead.operation, lead.expression = op.name, graph.text(blown.op)
    shapes = {"small": recording.values[blown.small].shape, "other": recording.values[blown.other].shape}
    lead.details = {"kind": blown.kind, **shapes, "loss": loss_text(graph, cone)}
    for value in (blown.small, blown.other):
        made = recording.values[value].op
        if made >= 0 and recording.ops[made].stack:
            note = f"{list(recording.values[value].shape or ())} comes from `{graph.text(made, 50)}`"
            relate(lead, recording.location(recording.ops[made].stack), note)
    number = cone.fed()
    lead.affected = [p.name for i, p in enumerate(recording.parameters) if number >> i & 1 and p.listed]
    return lead
