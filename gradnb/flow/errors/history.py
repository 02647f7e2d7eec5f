"""What the analyses of failed backward passes share: whose history a loss walks through, and where two of them meet."""

from __future__ import annotations

from dataclasses import dataclass

from ...recorder.recording import Event, Location, Recording
from ..graph import Cone
from ..lead import Lead

RANK = 300  # what ended the cell comes before what is merely odd
# operations whose node keeps nothing that could be freed
_KEEPS_NOTHING = set(
    "add sub rsub neg __add__ __radd__ __sub__ __rsub__ __neg__ __iadd__ __isub__ view reshape flatten transpose t permute squeeze "
    "unsqueeze "
    "expand sum mean cat stack chunk split contiguous clone to float unbind select narrow T mT".split()
)


@dataclass(slots=True)
class Crossing:
    """A tensor of the freed graph that the new loss hangs on, and the call that takes it in (-1: it is the loss)."""

    value: int
    op: int
    freed_by: Event
    common: set[int]


def failed(recording: Recording, message: str) -> Event | None:
    """The backward pass that ended the cell with this message."""
    if recording.raised is None or message not in recording.raised.message:
        return None
    return next((e for e in reversed(recording.events) if e.kind in ("backward", "grad") and not e.ok and message in (e.error or "")), None)


def history(cone: Cone) -> set[int]:
    """The values that the gradient of the losses walks through, without the leaves."""
    found: set[int] = set()
    for loss in cone.losses:
        found |= cone.upstream(loss)
    recording = cone.graph.recording
    leaves = {i for i, p in enumerate(recording.parameters) if p.leaf}
    values = recording.values
    return {v for v in found if values[v].requires_grad and not values[v].leaf and values[v].parameter not in leaves}


def shared(recording: Recording, mine: set[int], theirs: set[int]) -> set[int]:
    """The values whose autograd nodes two losses have in common; the outputs of one call, such as an LSTM's, share a node."""
    several = {op for v in theirs if (op := recording.values[v].op) >= 0 and len(recording.ops[op].outputs) > 1}
    return {v for v in mine if v in theirs or recording.values[v].op in several}


def crossing(recording: Recording, cone: Cone, common: set[int], mine: set[int], earlier: Event) -> Crossing | None:
    """Of the tensors on the border between the old graph and the new one, the one with most of the old graph behind it."""
    if any(loss in common for loss in cone.losses):
        return Crossing(next(v for v in cone.losses if v in common), -1, earlier, common)
    border = [e for v in mine - common for e in cone.edges.get(v, ()) if e.carries and e.source in common]
    if not border:
        return None
    weight = {e.source: sum(keeps(recording, v) for v in cone.upstream(e.source) & common) for e in border}
    best = max(border, key=lambda e: (weight[e.source], -e.op))
    return Crossing(best.source, best.op, earlier, common)


def keeps(recording: Recording, value: int) -> bool:
    made = recording.values[value].op
    return made < 0 or recording.ops[made].name not in _KEEPS_NOTHING


def apart(recording: Recording, first: tuple[int, ...], second: tuple[int, ...]) -> Location | None:
    """The first call's place in the frame where it parts from the second: a helper that both go through is not it."""
    a, b = list(reversed(first)), list(reversed(second))
    for mine, other in zip(a, b):
        if mine != other:
            return recording.sites[mine]
    return recording.location(first)


def relate(lead: Lead, location: Location | None, note: str) -> None:
    if location is not None and location != lead.location and all(location != known for known, _ in lead.related):
        lead.related.append((location, note))


def late(recording: Recording, cause: str, message: str) -> list[Lead]:
    """For an error that came after the steps that are recorded in full: where it was raised is all that is known."""
    error = recording.raised
    if error is None or message not in error.message or not error.stack or not recording.counted_steps:
        return []
    lead = Lead(cause, recording.location(error.stack), rank=RANK)
    lead.expression = lead.location.code if lead.location else ""
    lead.details = {"kind": "late", "raised": True}
    return [lead]
