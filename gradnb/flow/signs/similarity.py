"""Similarities that are minimised although their two sides belong together."""

from __future__ import annotations

from ...recorder.recording import Event, Recording
from ..cuts import graph_of
from ..graph import Cone
from ..lead import Lead
from .entry import make, text
from .terms import joins, straight, way


def cosine(recording: Recording, event: Event, cone: Cone) -> Lead | None:
    """The similarity of two outputs of one encoder, pair by pair, is minimised, and no other pair is pulled together."""
    similar = [
        (v, recording.values[v].op)
        for v in cone.order
        if recording.values[v].op >= 0 and recording.ops[recording.values[v].op].name == "cosine_similarity"
    ]
    if any(event.signs.get(op) in ("-", "±") for _, op in similar):
        return None
    for value, op in similar:
        if event.signs.get(op) != "+" or not (_twins(recording, op) or _pupil(recording, op)):
            continue
        ops = way(cone, value)
        if straight(recording, cone, ops):
            return make(recording, "cosine", joins(recording, ops, value), text(recording, op), 45)
    return None


def _twins(recording: Recording, op: int) -> bool:
    """Do both operands come out of the same module, called twice: from the same line, or by the same weights."""
    first, second = (recording.ops[op].inputs + (-1, -1))[:2]
    if first < 0 or second < 0 or recording.values[first].shape != recording.values[second].shape:
        return False
    made = []
    for value in (first, second):
        maker = recording.values[value].op
        for _ in range(4):
            if (
                maker >= 0
                and recording.ops[maker].name in ("detach", "normalize", "view", "reshape", "float", "to")
                and recording.ops[maker].inputs
            ):
                maker = recording.values[recording.ops[maker].inputs[0]].op
        made.append(maker)
    a, b = made
    if a < 0 or b < 0 or a == b:
        return False
    one, two = recording.ops[a], recording.ops[b]
    if not one.module or one.module != two.module or one.name != two.name:
        return False
    weights = [{recording.values[v].parameter for v in op.inputs} - {-1} for op in (one, two)]
    return one.stack[:1] == two.stack[:1] or bool(weights[0] & weights[1])


def _pupil(recording: Recording, op: int) -> bool:
    """Is one operand constant and computed from the same input as the one that learns, as a teacher's answer is."""
    first, second = (recording.ops[op].inputs + (-1, -1))[:2]
    if first < 0 or second < 0 or recording.values[first].shape != recording.values[second].shape:
        return False
    if recording.values[first].requires_grad == recording.values[second].requires_grad:
        return False
    return bool(_inputs(recording, first) & _inputs(recording, second))


def _inputs(recording: Recording, value: int) -> set[int]:
    """The values that no operation made and that are no parameters, behind a value."""
    graph, todo, seen, found = graph_of(recording), [value], set[int](), set[int]()
    while todo and len(seen) < 400:
        v = todo.pop()
        if v in seen:
            continue
        seen.add(v)
        made = recording.values[v].op
        if (made < 0 or not recording.ops[made].inputs) and recording.values[v].parameter < 0 and not recording.values[v].requires_grad:
            found.add(v)
        todo.extend(e.source for e in graph.parents(v))
    return found
