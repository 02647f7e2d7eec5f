"""A tensor computed from parameters once and used again after they have moved: no error shows it, its values are old."""

from __future__ import annotations

from ...recorder.recording import Event, Location, Recording
from ..cuts import graph_of, loss_text
from ..lead import Lead
from ..rounds import held
from .carried import kept
from .history import Crossing, crossing, history, relate, shared

ROUNDS = 6  # of each training line


def stale(recording: Recording) -> list[Lead]:
    """Leads for tensors that go from one round of a loop into the next, over a step of the optimizer that trains them."""
    if recording.raised is not None and "inplace" in recording.raised.message:
        return []
    found: dict[tuple, Lead] = {}
    last: dict[tuple[int, ...], int] = {}
    rounds: dict[tuple[int, ...], int] = {}
    # a view of a parameter, such as a transposed weight, moves with the parameter
    views = {value.group for value in recording.values if value.parameter >= 0}
    for position, event in enumerate(recording.events):
        if event.kind != "backward" or not event.ok or not event.losses:
            continue
        before = last.get(event.stack, -1)
        last[event.stack] = position
        rounds[event.stack] = rounds.get(event.stack, 0) + 1
        if before < 0 or rounds[event.stack] > ROUNDS:
            continue
        steps = [e for e in recording.events[before:position] if e.kind == "step" and e.ok and e.optimizer is not None]
        lead = _between(recording, recording.events[before], event, steps, views) if steps else None
        if lead is not None and lead.location is not None:
            found.setdefault((lead.location.filename, lead.location.line), lead)
    return list(found.values())[:2]


def _between(recording: Recording, before: Event, event: Event, steps: list[Event], views: set[int]) -> Lead | None:
    graph = graph_of(recording)
    cone = graph.cone(event.losses)
    mine = history(cone)
    both = shared(recording, mine, history(graph.cone(before.losses)))
    found = crossing(recording, cone, {v for v in both if recording.values[v].group not in views}, mine, before)
    if found is None:
        return None
    behind = cone.live.get(found.value, 0)
    moved = [e for e in steps if e.optimizer is not None and held(recording, e.optimizer) & behind]
    if not moved:
        return None
    return _lead(recording, event, found, moved[0])


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
