"""An error measure that training makes larger: a minus in the loss, or ``maximize=True``."""

from __future__ import annotations

from ...recorder.recording import Event, Recording
from ..cuts import graph_of
from ..graph import Cone
from ..lead import Lead
from ..rounds import held
from .entry import make, slope, text
from .terms import ERRORS, straight, terms, way


def error(recording: Recording, event: Event, cone: Cone) -> Lead | None:
    """The only optimizer maximises an error measure: a minus in the loss, or ``maximize=True``."""
    if sum(bool(o.steps) for o in recording.optimizers) != 1 or any(e.kind == "grad" for e in recording.events):
        return None
    measures = [t for t in terms(recording, cone) if t.kind in ERRORS]
    index = next(i for i, o in enumerate(recording.optimizers) if o.steps)
    optimizer = recording.optimizers[index]
    if attacks(recording, cone, held(recording, index)):
        return None
    if optimizer.maximize:
        if not measures or len(terms(recording, cone)) > len(measures) or any(event.signs.get(t.op) != "+" for t in measures):
            return None
        if not optimizer.stack:
            return None
        built = recording.sites[optimizer.stack[0]]
        details = {"kind": "maximize", "term": text(recording, measures[0].op), "operation": measures[0].kind}
        return Lead("sign", built, rank=60, expression=graph_of(recording).slicer.text(built), details=details)
    if not measures or len(terms(recording, cone)) > len(measures) or any(event.signs.get(t.op) != "-" for t in measures):
        return None
    ops = way(cone, measures[0].value)
    if not straight(recording, cone, ops) or _pulled(recording, cone, ops, measures[0].value):
        return None
    lead = make(recording, "error", _negation(recording, measures[0].op, ops), text(recording, measures[0].op), 50)
    if lead is not None:
        lead.details["operation"] = measures[0].kind
    return lead


def attacks(recording: Recording, cone: Cone, mine: int) -> bool:
    """Does the gradient come back through a network that the optimizer does not hold: a perturbation is made to mislead it."""
    for value in cone.order:
        if not cone.live.get(value, 0) & mine:
            continue
        for edge in cone.edges[value]:
            number = recording.values[edge.source].parameter
            if number >= 0 and not mine >> number & 1 and recording.parameters[number].owner:
                return True
    return False


def _pulled(recording: Recording, cone: Cone, ops: list[int], value: int) -> bool:
    """Does another learning quantity join the loss on the way."""
    on_way = {value}
    for index in ops:
        op = recording.ops[index]
        if any(v not in on_way and recording.values[v].requires_grad for v in op.inputs):
            return True
        on_way.update(op.outputs)
    return False


def _negation(recording: Recording, start: int, ops: list[int]) -> int:
    """The op that turns the sign: a negation, a difference, else a product with a negative number."""
    for index in ops:
        if slope(recording, index, recording.ops[index].inputs[-1] if recording.ops[index].inputs else -1) < 0:
            return index
    return ops[0] if ops else start
