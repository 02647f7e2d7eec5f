"""The first NaN or infinity that reached a loss or a gradient, told at the operation where it was born."""

from __future__ import annotations

from ..recorder.numeric import NonFinite, Numbers
from ..recorder.recording import Event, Location, Recording
from .cuts import graph_of
from .lead import Lead
from .origin import origin

_OVERFLOWS = ("overflow", "unknown", "inf-meets-inf", "exp-overflow", "zero-times-inf", "parameter")
_BAD = ("nan", "inf")


def nonfinite(recording: Recording) -> list[Lead]:
    """At most one lead: what comes after the first NaN is its echo."""
    births = [b for b in recording.nonfinite if not _scaled(recording, b)]
    if not births:
        seen = [b for b in recording.escaped if not _scaled(recording, b)]
        return [_lead(recording, seen[0], "info" if _trained(recording) else "error")] if seen else []
    root = min(births, key=lambda b: (b.event if b.event >= 0 else len(recording.events), b.phase == "backward" and not b.hidden))
    lead = _lead(recording, root, _severity(recording, root))
    if lead.location is None:
        return []
    if lead.severity == "error":
        _silence_echoes(recording, root)
    return [lead]


def _lead(recording: Recording, birth: NonFinite, severity: str) -> Lead:
    grown = _grown(recording, birth)
    if grown:
        from .magnitude import growing

        architecture = growing(recording)
        if architecture is not None:  # it was too large from the first step on
            architecture.rank, architecture.severity = 300, severity
            _relate(recording, birth, architecture, True)
            return architecture
    lead = Lead("exploding" if grown else "nan", _place(recording, birth), severity, rank=300)
    op = recording.ops[birth.op] if birth.op >= 0 else None
    lead.operation = op.name if op is not None else ""
    if lead.location is not None and birth.stack:
        lead.expression = graph_of(recording).slicer.text(lead.location)
    lead.affected = [recording.parameters[n].name for n in _spoilt(recording, birth) if recording.parameters[n].listed]
    lead.details = {
        "kind": "diverged" if grown else birth.key,
        "phase": birth.phase,
        "state": "NaN" if birth.state == "nan" else "inf",
        "operation": _inside(birth) or lead.operation,
        "node": birth.node,
        "hidden": birth.hidden,
        "inputs": [said(n) for n in birth.inputs[:2]],
        "losses": _losses(recording, birth.event),
        "options": dict(birth.options),
    }
    if birth.phase == "input" and birth.op >= 0:
        lead.details["name"] = _argument(recording, birth)
        made = origin(recording, birth.stack)
        if made is not None and made != lead.location:
            if lead.location is not None:
                lead.related.append((lead.location, "it is used here first"))
            lead.location, lead.details["made"] = made, True
            lead.expression = graph_of(recording).slicer.text(made)
    if birth.parameters and birth.phase in ("parameter", "step", "late"):
        lead.details["name"] = recording.parameters[birth.parameters[0]].name
    _relate(recording, birth, lead, grown)
    if grown:
        name, (before, after) = max(
            ((recording.parameters[n].name, sizes) for n, sizes in birth.growth.items()),
            key=lambda item: item[1][1] / max(item[1][0], 1e-9),
        )
        lead.details.update(name=name, before=before, after=after)
        lead.expression = lead.location.code if lead.location else ""
    return lead


# -- is it one -------------------------------------------------------------------------------------------------------------


def _scaled(recording: Recording, birth: NonFinite) -> bool:
    """An overflow that GradScaler makes and mends itself: it skips the step and lowers its scale."""
    if birth.op >= 0 and recording.ops[birth.op].via == "GradScaler":
        return True
    if birth.event < 0 or birth.event >= len(recording.events):
        return False
    losses = set(recording.events[birth.event].losses)
    scaled = any(e.kind == "scale" and e.enabled and losses & set(e.losses) for e in recording.events[: birth.event])
    return scaled and birth.phase == "backward" and birth.key in ("overflow", "unknown")


def _severity(recording: Recording, birth: NonFinite) -> str:
    """ "info" where the user's code leaves the bad batch out, "warning" where the loss is bad and its gradient happens to be fine."""
    steps = [(i, e) for i, e in enumerate(recording.events) if e.kind == "step" and e.states]
    if birth.phase in ("parameter", "step", "late") or any(s in _BAD for _, e in steps for s, _ in e.states.values()):
        return "error"
    after = [i for i, _ in steps if i > birth.event >= 0]
    if not after:
        return "error"
    between = recording.events[birth.event + 1 : after[0]]
    return "info" if any(e.kind == "backward" for e in between) else "warning"


def _trained(recording: Recording) -> bool:
    return any(e.kind == "step" and e.states and all(s not in _BAD for s, _ in e.states.values()) for e in recording.events)


def _grown(recording: Recording, birth: NonFinite) -> bool:
    """The parameters grew from step to step until something overflowed: the steps are too large, not the operation wrong."""
    return bool(birth.growth) and (birth.key in _OVERFLOWS or birth.phase == "step") and _trained(recording)


def _silence_echoes(recording: Recording, birth: NonFinite) -> None:
    """Zero gradients, steps that a NaN check left out, … behind the birth need no finding of their own."""
    recording.memo["nan from"] = birth.event if birth.event >= 0 else len(recording.events)


# -- where -----------------------------------------------------------------------------------------------------------------


def _place(recording: Recording, birth: NonFinite) -> Location | None:
    if _grown(recording, birth):
        holder = next((o for o in recording.optimizers if any(n in group for n in birth.growth for group in o.groups)), None)
        if holder is not None and holder.stack:
            return recording.location(holder.stack)
    if birth.phase == "step":
        built = recording.optimizers[birth.optimizer].stack if birth.optimizer >= 0 else ()
        return recording.location(built) or recording.location(recording.events[birth.event].stack)
    if birth.phase == "parameter":
        made = [stack for number, stack in recording.inits if number == birth.parameters[0] and stack]
        written = [
            op.stack for op in recording.ops if op.kind == "inplace" and op.stack and _writes(recording, op.inputs, birth.parameters[0])
        ]
        born = recording.parameters[birth.parameters[0]].value
        creator = recording.values[born].op if born >= 0 else -1
        stack = (written or made or [recording.ops[creator].stack if creator >= 0 else birth.stack])[-1]
        return recording.location(stack)
    if birth.stack:
        return recording.location(birth.stack)
    return recording.location(recording.events[birth.event].stack) if 0 <= birth.event < len(recording.events) else None


def _writes(recording: Recording, inputs: tuple[int, ...], number: int) -> bool:
    return bool(inputs) and recording.values[inputs[0]].parameter == number


def _relate(recording: Recording, birth: NonFinite, lead: Lead, grown: bool) -> None:
    def tell(stack: tuple[int, ...], note: str) -> None:
        where = recording.location(stack)
        if where is not None and where != lead.location and all(where != r for r, _ in lead.related):
            lead.related.append((where, note))

    if grown and birth.stack:
        tell(birth.stack, f"the first {'NaN' if birth.state == 'nan' else 'inf'} comes up here")
    if birth.filled >= 0:
        tell(recording.ops[birth.filled].stack, "the infinities are written here, as a mask")
    event: Event | None = recording.events[birth.event] if 0 <= birth.event < len(recording.events) else None
    if event is not None and event.kind == "step":
        tell(event.stack, "the step that made it so")
    elif event is not None:
        what = "the gradient turns out not to be finite in this backward pass" if birth.hidden or birth.phase == "backward" else ""
        tell(event.stack, what or "the loss is not finite here")
    if recording.raised is not None:
        tell(recording.raised.stack, "the error is raised here")


def _spoilt(recording: Recording, birth: NonFinite) -> list[int]:
    if birth.parameters:
        return list(birth.parameters)
    if 0 <= birth.event < len(recording.events):
        return _fed(recording, recording.events[birth.event].losses)
    return _fed(recording, (birth.value,)) if birth.value >= 0 else []


def _fed(recording: Recording, losses: tuple[int, ...]) -> list[int]:
    if not losses:
        return []
    fed = graph_of(recording).cone(losses).fed()
    return [n for n in range(len(recording.parameters)) if fed >> n & 1]


# -- in words --------------------------------------------------------------------------------------------------------------


def said(found: Numbers) -> str:
    """Shape, count and range in a few words: "shape (12, 1), 1 of 12 elements is 0, range 0 … 4"."""
    parts = [f"shape {tuple(found.shape)}" if found.shape else "a scalar"]
    for count, what in ((found.nan, "NaN"), (found.inf, "infinite"), (found.zero, "0")):
        if count and found.count == 1:
            parts.append(f"it is {what}")
        elif count:
            verb = "is" if count == 1 else "are"
            parts.append(f"{count} of {found.count} elements {verb} {what}" if count < found.count else f"all elements are {what}")
    if found.low is not None and found.high is not None and found.count > 1:
        parts.append(f"range {found.low:.3g} … {found.high:.3g}" + (" (the finite ones)" if not found.finite else ""))
    elif found.low is not None and found.low:
        parts.append(f"value {found.low:.3g}")
    elif not found.count:
        parts.append("no elements")
    if found.dtype in ("float16", "bfloat16"):
        parts.append(found.dtype)
    return ", ".join(parts)


def _inside(birth: NonFinite) -> str:
    return birth.inner


def _losses(recording: Recording, until: int) -> list[float]:
    return [loss.value for loss in recording.losses if loss.value is not None and (until < 0 or loss.index <= until)][-8:]


def _argument(recording: Recording, birth: NonFinite) -> str:
    """What the user calls the value that was bad from the start."""
    import ast

    found = graph_of(recording).slicer.at(recording.sites[birth.stack[0]]) if birth.stack else None
    met = recording.met.get(birth.value)
    if found is None or met is None:
        return ""
    node = found[2]
    if isinstance(node, ast.BinOp):
        node = node.left if met[1] == 0 else node.right
    elif isinstance(node, ast.Call):
        arguments = (
            [node.func.value, *node.args] if isinstance(node.func, ast.Attribute) and not _is_module(node.func.value) else list(node.args)
        )
        if met[1] >= len(arguments):
            return ""
        node = arguments[met[1]]
    elif isinstance(node, ast.Subscript):
        node = node.value
    return found[0].segment(node, 40)


def _is_module(node: object) -> bool:
    import ast

    return isinstance(node, ast.Name) and node.id in ("torch", "F", "nn", "np", "functional")
