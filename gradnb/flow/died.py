"""Units that learned at first and then died for good: a step threw them where their activation is flat."""

from __future__ import annotations

from ..recorder.recording import Recording, ZeroBirth
from .cuts import graph_of
from .lead import Lead

_ACTIVATIONS = ("Relu", "Threshold", "Sigmoid", "Tanh", "Hardtanh", "Hardsigmoid", "Hardswish", "Clamp", "Elu", "Gelu")


def died(recording: Recording) -> list[Lead]:
    """One lead for each optimizer whose later steps all find zeros where the first ones found gradients."""
    if recording.memo.get("nan from") is not None or not _loses(recording):
        return []
    explained: set[int] = recording.memo.setdefault("explained", set())
    leads = []
    for index, optimizer in enumerate(recording.optimizers):
        dead = {n: since for n, since in _dead(recording, index).items() if n not in explained}
        held = [n for group in optimizer.groups for n in group if recording.parameters[n].ever_trainable]
        if not dead or 2 * len(dead) < len(held):
            continue
        births = [
            b for b in recording.births if b.kind == "zero" and b.node.startswith(_ACTIVATIONS) and b.stack and b.event > min(dead.values())
        ]
        birth = max(births, key=lambda b: (len(dead.keys() & set(b.parameters)), b.op), default=None)
        if birth is None:
            continue
        leads.append(_lead(recording, index, birth, sorted(dead), min(dead.values())))
        explained.update(dead)
    return leads


def _dead(recording: Recording, optimizer: int) -> dict[int, int]:
    """Parameter -> the event of the last step that found a gradient, where at least the last two found zeros only."""
    steps = [(i, e) for i, e in enumerate(recording.events) if e.kind == "step" and e.optimizer == optimizer and e.states]
    dead = {}
    for number in {n for _, e in steps for n in e.states}:
        states = [(i, e.states[number][0]) for i, e in steps if number in e.states]
        alive = [i for i, s in states if s == "ok"]
        after = [s for i, s in states if alive and i > alive[-1]]
        if len(after) >= 2 and set(after) == {"zero"}:
            dead[number] = alive[-1]
    return dead


def _loses(recording: Recording) -> bool:
    """Is there still something to learn: the last loss is no smaller than a thousandth of the first."""
    values = [loss.value for loss in recording.losses if loss.value is not None]
    return len(values) > 2 and abs(values[-1]) > 1e-3 * abs(values[0])


def _lead(recording: Recording, index: int, birth: ZeroBirth, numbers: list[int], since: int) -> Lead:
    op = recording.ops[birth.op]
    lead = Lead("zero-gradient", recording.location(birth.stack), operation=op.name, rank=70 + len(numbers))
    lead.expression = graph_of(recording).text(birth.op)
    lead.affected = [recording.parameters[n].name for n in numbers]
    lead.details = {"kind": "died", "operation": op.name, "node": birth.node, "options": recording.options.get(index, {})}
    step = recording.location(recording.events[since].stack)
    if step is not None:
        lead.related.append((step, "they had a gradient until this step, and none since"))
    built = recording.location(recording.optimizers[index].stack)
    if built is not None:
        lead.related.append((built, "the learning rate is set here"))
    return lead
