"""Two optimizers whose losses push the same output: a generator that helps its discriminator, an actor that lowers its critic."""

from __future__ import annotations

import re

from ...recorder.recording import Event, Op, Recording
from ..cuts import graph_of
from ..graph import Cone
from ..lead import Lead
from ..rounds import feeds, held, parting
from .entry import make
from .terms import ERRORS, terms, way

# terms of the field: what a critic is fitted to when it stands for a value, and when for a cost, which is to be lowered
_REWARDS = re.compile(r"reward|returns\b|gamma|discount", re.IGNORECASE)
_COSTS = re.compile(r"cost|constraint|risk|energy|penalt", re.IGNORECASE)


def adversaries(recording: Recording) -> list[Lead]:
    """A lead for each pair of optimizers whose losses push the output of the second's module the same way."""
    stepping = [i for i, o in enumerate(recording.optimizers) if o.steps]
    if any(recording.optimizers[i].maximize for i in stepping):
        return []  # the same loss may then be right for both
    first: dict[tuple, Event] = {}
    for event in recording.events:
        if event.kind == "backward" and event.signs and event.ok:
            first.setdefault(event.losses, event)
    for ours in stepping:
        for theirs in stepping:
            if ours == theirs:
                continue
            for event in first.values():
                if not feeds(recording, event) & held(recording, ours):
                    continue
                others = list(first.values())
                lead = _helped(recording, event, others, ours, theirs) or _lowered(recording, event, others, ours, theirs)
                if lead is not None:
                    return [lead]
    return []


def _helped(recording: Recording, event: Event, events: list[Event], ours: int, theirs: int) -> Lead | None:
    """Does our loss push the judgement of what we made the same way as the judge's own loss does."""
    made_by_us, judges = held(recording, ours), held(recording, theirs)
    cone = graph_of(recording).cone(event.losses)
    mine = [(op, v) for op, v in _judgements(recording, cone, judges) if cone.live.get(v, 0) & made_by_us]
    for op, value in mine:
        direction = event.signs.get(op)
        if direction not in ("+", "-"):
            continue
        for other in events:
            if other is event or not feeds(recording, other) & judges or feeds(recording, other) & made_by_us:
                continue
            theirs_cone = graph_of(recording).cone(other.losses)
            calls = _judgements(recording, theirs_cone, judges)
            fake = {other.signs.get(o) for o, v in calls if _given(recording, theirs_cone, o) & made_by_us}
            real = {other.signs.get(o) for o, v in calls if not _given(recording, theirs_cone, o) & made_by_us}
            if fake == {direction} and real == {"-" if direction == "+" else "+"}:
                lead = make(recording, "adversarial", _end(recording, cone, value, op), graph_of(recording).text(op, 60), 43)
                if lead is not None:  # a helper that both losses call is right in one of them
                    end = recording.ops[_end(recording, cone, value, op)].stack
                    theirs_ends = [recording.ops[_end(recording, theirs_cone, v, o)].stack for o, v in calls]
                    lead.location = parting(recording, end, theirs_ends)
                return lead
    return None


def _lowered(recording: Recording, event: Event, events: list[Event], ours: int, theirs: int) -> Lead | None:
    """Does our loss push down the judgement of what we made, while the judge is fitted to rewards: values are to be raised."""
    made_by_us, judges = held(recording, ours), held(recording, theirs)
    cone = graph_of(recording).cone(event.losses)
    mine = [(op, v) for op, v in _judgements(recording, cone, judges) if cone.live.get(v, 0) & made_by_us]
    if not mine or any(event.signs.get(op) != "+" for op, _ in mine):
        return None
    for other in events:
        if other is event or not feeds(recording, other) & judges or feeds(recording, other) & made_by_us:
            continue
        theirs_cone = graph_of(recording).cone(other.losses)
        fitted = any(t.kind in ERRORS for t in terms(recording, theirs_cone))
        fitted = fitted or any(other.signs.get(op) == "±" for op, _ in _judgements(recording, theirs_cone, judges))
        words = " ".join(graph_of(recording).text(made) for v in theirs_cone.order for made in [recording.values[v].op] if made >= 0)
        if fitted and _REWARDS.search(words) and not _COSTS.search(words):
            op, value = mine[0]
            return make(recording, "value", _end(recording, cone, value, op), graph_of(recording).text(op, 60), 43)
    return None


def _judgements(recording: Recording, cone: Cone, judges: int) -> list[tuple[int, int]]:
    """(op, value) of each output that a module of these parameters gives to the code outside of it."""
    found = []
    for value in cone.order:
        made = recording.values[value].op
        if made < 0 or not cone.data.get(value, 0) & judges:
            continue
        op = recording.ops[made]
        inside = _root(op)
        if inside and _owns(recording, inside, judges) and all(_root(recording.ops[e.op]) != inside for e in cone.children.get(value, ())):
            found.append((made, value))
    return found


def _given(recording: Recording, cone: Cone, op: int) -> int:
    """Bit set of the parameters that the input of the module call around an op depends on, besides its own."""
    found = 0
    for value in recording.ops[op].outputs:
        found |= cone.data.get(value, 0)
    return found


def _root(op: Op) -> str:
    return op.module.split(".")[0] if op.module else ""


def _owns(recording: Recording, root: str, numbers: int) -> bool:
    return any(numbers >> n & 1 and (p.root == root or p.name.split(".")[0] == root) for n, p in enumerate(recording.parameters))


def _end(recording: Recording, cone: Cone, value: int, op: int) -> int:
    """The first op outside of the module that works on the judgement, past mere averages that stand in the same expression."""
    ops = way(cone, value)
    return ops[0] if ops else op
