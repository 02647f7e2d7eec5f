"""Layers that a forward pass builds for itself: trainable, on the way to the loss, and no module registers them."""

from __future__ import annotations

from ..recorder.recording import Parameter, Recording
from .cuts import fed_by, graph_of
from .lead import Lead


def rebuilt(recording: Recording) -> list[Lead]:
    """One lead for each line in a forward pass that makes parameters which get a gradient and which nobody moves."""
    trains = any(o.steps and any(recording.parameters[n].registered for g in o.groups for n in g) for o in recording.optimizers)
    if not trains:
        return []
    fed = fed_by(recording, [e for e in recording.events if e.kind == "backward"])
    hidden = {n for h in recording.holders for n in h.numbers}
    asked = {recording.values[v].parameter for e in recording.events if e.kind == "grad" for v in e.inputs}
    leads: dict[tuple, Lead] = {}
    for number, p in enumerate(recording.parameters):
        if not fed >> number & 1 or number in hidden or number in asked or not _nobodys(p) or not _made_in_forward(recording, p):
            continue
        place = recording.location(recording.ops[recording.values[p.value].op].stack)
        if place is None:
            continue
        lead = leads.setdefault((place.filename, place.line), Lead("unregistered", place, "warning", rank=80))
        lead.expression = graph_of(recording).slicer.text(place)
        lead.details = {"rebuilt": True}
        if p.name not in lead.affected:
            lead.affected.append(p.name)
    return list(leads.values())


def _nobodys(p: Parameter) -> bool:
    return p.is_parameter and p.trainable and not p.registered and p.optimizer is None and not p.moved and not p.hand_set


def _made_in_forward(recording: Recording, p: Parameter) -> bool:
    """Born while a module's forward ran, with first numbers of its own: one that was computed is a cut, and told as one."""
    made = recording.values[p.value].op if p.value >= 0 else -1
    if made < 0 or recording.ops[made].kind != "leaf" or recording.ops[made].module is None:
        return False
    return not graph_of(recording).cone((p.value,)).reached() & ~(1 << recording.values[p.value].parameter)
