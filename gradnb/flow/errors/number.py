"""A loss that is a Python number: where its tensors left torch."""

from __future__ import annotations

from ...recorder.recording import Event, Location, Recording, Value
from ..cuts import graph_of, group_cuts
from ..graph import Cone, Edge
from ..lead import Lead
from ..path import gradient_path

_NUMBERS = ("'float' object", "'int' object", "'numpy.")


def number(recording: Recording) -> list[Lead]:
    """``loss.backward()`` on a number: follow the expression back to where its tensors left torch."""
    error = recording.raised
    if error is None or error.type != "AttributeError" or "has no attribute 'backward'" not in error.message:
        return []
    graph = graph_of(recording)
    value = len(recording.values)
    recording.values.append(Value(-1, False, "python", (), kind="python"))
    raised = recording.location(error.stack)
    text = graph.slicer.text(raised) if raised is not None else ""
    called = "backward" in text
    graph._parents[value] = graph.of_receiver(value, error.stack, len(recording.ops)) if called else _handed_over(recording, value)
    recording.events.append(Event("backward", error.stack, len(recording.ops), False, error.message, (value,)))
    cone: Cone = graph.cone((value,))
    numbers = list(dict.fromkeys(n for o in recording.optimizers for g in o.groups for n in g)) or [
        i for i, p in enumerate(recording.parameters) if p.listed and p.ever_trainable
    ]
    mask = sum(1 << n for n in numbers) & cone.reached()
    groups = group_cuts(graph, cone, mask) if mask else []
    if not groups:
        return []
    best = max(groups, key=lambda g: (g.starved.bit_count(), g.mends, g.depth))
    cut = best.first
    names = [recording.parameters[n].name for n in numbers if best.starved >> n & 1]
    location: Location = recording.sites[cut.site]
    lead = Lead(cut.cause, location, operation=cut.operation, affected=names, rank=120)
    lead.expression = graph.slicer.text(location)
    lead.details = {**cut.details, "raised": True, "loss": text.split(".backward")[0] if called else "loss"}
    if raised is not None:
        lead.related.append((raised, "the loss is a Python number here, so it has no backward()"))
    lead.path = gradient_path(graph, cone, cut.edge, next(n for n in numbers if best.starved >> n & 1))
    return [lead]


def _handed_over(recording: Recording, value: int) -> list[Edge]:
    """A trial step called ``backward()``: its loss function ended with the number, so the last tensor to leave torch is the one."""
    plain = recording.raised is not None and recording.raised.message.startswith(_NUMBERS)
    last = next((i for i in range(len(recording.ops) - 1, -1, -1) if recording.ops[i].kind == "escape"), None) if plain else None
    return [] if last is None else [Edge(source, value, last, False) for source in recording.ops[last].inputs]
