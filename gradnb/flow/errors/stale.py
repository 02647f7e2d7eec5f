"""A tensor computed from parameters once and used again after they have moved: no error shows it, its values are old."""

from __future__ import annotations

from ...recorder.recording import Event, Location, Recording
from ..cuts import graph_of, loss_text
from ..graph import Cone
from ..lead import Lead
from .again import Crossing, crossing, held, history, relate, shared
from .carried import kept


def stale(recording: Recording) -> list[Lead]:
    """Leads for tensors that go from one round of a loop into the next, over a step of the optimizer that trains them."""
    if recording.raised is not None and "inplace" in recording.raised.message:
        return []
    found: dict[tuple, Lead] = {}
    last: dict[tuple[int, ...], Event] = {}
    for event in recording.events:
        if event.kind != "backward" or not event.ok or not event.losses:
            continue
        before = last.get(event.stack)
        last[event.stack] = event
        lead = _between(recording, before, event) if before is not None else None
        if lead is not None and lead.location is not None:
            found.setdefault((lead.location.filename, lead.location.line), lead)
    return list(found.values())[:2]


def _between(recording: Recording, before: Event, event: Event) -> Lead | None:
    graph = graph_of(recording)
    start, end = recording.events.index(before), recording.events.index(event)
    steps = [e for e in recording.events[start:end] if e.kind == "step" and e.ok and e.optimizer is not None]
    if not steps:
        return None
    cone = graph.cone(event.losses)
    mine = history(cone)
    both = shared(recording, mine, history(graph.cone(before.losses)))
    found = crossing(recording, cone, {v for v in both if not _looks_into(recording, cone, v)}, mine, before)
    if found is None:
        return None
    behind = cone.live.get(found.value, 0)
    moved = [e for e in steps if e.optimizer is not None and held(recording, e.optimizer) & behind]
    if not moved:
        return None
    return _lead(recording, event, found, moved[0])


def _looks_into(recording: Recording, cone: Cone, value: int) -> bool:
    """A view of a parameter, such as a transposed weight: it moves with the parameter."""
    group = recording.values[value].group
    return any(recording.values[v].group == group and recording.values[v].parameter >= 0 for v in cone.upstream(value) if v != value)


def _lead(recording: Recording, event: Event, found: Crossing, step: Event) -> Lead:
    graph = graph_of(recording)
    made = recording.values[found.value].op
    producer = recording.ops[made].stack if made >= 0 else ()
    used = recording.ops[found.op].stack if found.op >= 0 else event.stack
    where = kept(recording, producer, used, found.freed_by.stack, event.stack) if producer else None
    place: Location | None = where.location if where is not None else recording.location(producer or used)
    lead = Lead("second-backward", place, "warning", rank=55)
    lead.expression = place.code if place else ""
    lead.details = {"kind": "stale", "name": where.name if where else "", "loss": loss_text(graph, graph.cone(event.losses))}
    lead.details["kept"] = found.freed_by.retain
    numbers = graph.cone(event.losses).live.get(found.value, 0)
    lead.affected = [p.name for i, p in enumerate(recording.parameters) if numbers >> i & 1 and p.listed]
    if made >= 0:
        relate(lead, recording.location(producer), f"the tensor is made here: `{graph.text(made)}`")
    relate(lead, recording.location(used), "and used again here, in a later round")
    if found.freed_by.retain:
        relate(lead, recording.location(event.stack), "`retain_graph=True` keeps its graph alive, so that no error shows")
    relate(lead, recording.location(step.stack), "the parameters behind it move here")
    return lead
