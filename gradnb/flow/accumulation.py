"""Several backward passes for one step: gradients cleared too early, stepped twice, left over, or wrongly averaged."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..recorder.recording import Event, Location, Recording
from .cuts import graph_of
from .lead import Lead
from .places import counted
from .rounds import clears, feeds, guard, held, label, names, parting


@dataclass(slots=True)
class Round:
    """What happened before one step of an optimizer, since its step before."""

    fed: list[Event] = field(default_factory=list)  # backward passes whose gradients are in ``.grad`` at the step
    lost: list[tuple[Event, Event]] = field(default_factory=list)  # a backward, and the zero_grad that threw it away
    step: Event | None = None  # None for what came after the last step
    cleared: Event | None = None  # the last zero_grad
    used: bool = True  # the gradients of the round before were still there when it began
    read: bool = False  # the user's code read ``.grad``


def rounds(recording: Recording, index: int) -> list[Round]:
    """The rounds of one optimizer; the last one has no step where backward passes came after the last step."""
    mask, found, now = held(recording, index), list[Round](), Round()
    waiting: list[Event] = []
    for event in recording.events:
        if event.kind == "gap":  # nothing is known of what came in between
            now, waiting = Round(used=False), []
        elif event.kind == "backward" and feeds(recording, event) & mask:
            waiting.append(event)
        elif clears(recording, event, index, mask):
            now.lost.extend((e, event) for e in waiting)
            waiting, now.cleared, now.used = [], event, False
        elif event.kind == "step" and event.optimizer == index and event.ok or event.skipped and event.optimizer == index:
            now.fed, now.step = waiting, event
            found.append(now)
            now, waiting = Round(), []
    if waiting or now.lost:
        now.fed = waiting
        found.append(now)
    return found


def accumulation(recording: Recording) -> list[Lead]:
    """Leads for each optimizer that stepped."""
    leads = []
    for index, optimizer in enumerate(recording.optimizers):
        if not optimizer.steps or not optimizer.groups:
            continue
        mine = rounds(recording, index)
        for find in (_cleared_too_early, _cleared_between, _stepped_twice, _stepped_on_nothing, _left_over, _wrongly_divided):
            lead = find(recording, index, mine)
            if lead is not None:
                lead.affected = lead.affected or names(recording, held(recording, index))
                lead.details["optimizer"] = label(recording, index)
                leads.append(lead)
                break
    return leads


def _lead(recording: Recording, cause: str, kind: str, location: Location | None, rank: float, **details: object) -> Lead:
    lead = Lead(cause, location, rank=rank)
    lead.expression = graph_of(recording).slicer.text(location) if location else ""
    lead.details = {"kind": kind, **details}
    return lead


# -- zero-grad-misplaced -----------------------------------------------------------------------------------------------------------


def _cleared_too_early(recording: Recording, index: int, mine: list[Round]) -> Lead | None:
    """Every step finds nothing, because zero_grad stands between backward and it."""
    stepped = [r for r in mine if r.step is not None]
    empty = [r for r in stepped if not r.fed and r.lost and r.step is not None and _starved(r.step)]
    if not empty or 2 * len(empty) < len(stepped):
        return None
    backward, zero = empty[0].lost[-1]
    lead = _lead(recording, "zero-grad-misplaced", "before-step", recording.location(zero.stack), 80)
    _point(lead, recording, backward, "the gradients are computed here")
    _point(lead, recording, empty[0].step, "and the step finds none")
    return lead


def _starved(step: Event) -> bool:
    return bool(step.states) and all(state in ("none", "zero") for state, _ in step.states.values())


def _cleared_between(recording: Recording, index: int, mine: list[Round]) -> Lead | None:
    """Of several backward passes of one line only the last one survives to the step, round after round."""
    stepped = [r for r in mine if r.step is not None]
    losing = [r for r in stepped if _same_line(recording, r) and not _inside_step(r) and not _read_between(recording, r)]
    if not losing or len(losing) < len(stepped):
        return None
    backward, zero = losing[0].lost[-1]
    kept, gone = len(losing[0].fed), len(losing[0].lost)
    lead = _lead(recording, "zero-grad-misplaced", "between", recording.location(zero.stack), 65, kept=kept, lost=gone)
    _point(lead, recording, losing[0].step, f"the step sees {kept} of {kept + gone} backward passes")
    return lead


def _same_line(recording: Recording, one: Round) -> bool:
    """Were backward passes thrown away that come from the same line as the one that stays."""
    if not one.fed:
        return False
    return any(backward.stack == one.fed[-1].stack for backward, _ in one.lost)


def _inside_step(one: Round) -> bool:
    """Did the step itself ask for the backward passes, by its closure: a line search tries several points."""
    stack = one.step.stack if one.step is not None else ()
    return bool(stack) and len(one.fed[-1].stack) > len(stack) and one.fed[-1].stack[-len(stack) :] == stack


def _read_between(recording: Recording, one: Round) -> bool:
    """Did the user's code look at the gradients before they were thrown away."""
    for backward, zero in one.lost:
        if any(op.name == "grad" and op.kind == "op" and op.via is None for op in recording.ops[backward.time : zero.time]):
            return True
        between = recording.events[recording.events.index(backward) : recording.events.index(zero)]
        if any(e.kind in ("clip", "step") for e in between):
            return True
    return False


# -- double-step and steps on nothing ----------------------------------------------------------------------------------------------


def _stepped_twice(recording: Recording, index: int, mine: list[Round]) -> Lead | None:
    """The same gradients are applied again: no backward and no zero_grad since the step before."""
    stepped = [r for r in mine if r.step is not None]
    again = [
        (before, r)
        for before, r in zip(stepped, stepped[1:])
        if r.used and not r.fed and before.fed and r.step is not None and not r.step.skipped and not _starved(r.step)
    ]
    if not again or any(e.kind == "scaler.step" and e.optimizer == index and e.enabled for e in recording.events):
        return None
    before, second = again[0]
    assert before.step is not None and second.step is not None
    if _touched(recording, before.step, second.step):
        return None
    leftover = _is_leftover(stepped, second)
    others = [r.step.stack for r in stepped if r.step is not None and r is not second and r.fed]
    location = parting(recording, second.step.stack, others)
    lead = _lead(recording, "remainder" if leftover else "double-step", "twice", location, 62)
    _point(lead, recording, before.step, "the same gradients were applied here already")
    return lead


def _touched(recording: Recording, first: Event, second: Event) -> bool:
    """Were gradients written between two steps by other means than backward."""
    asked = any(op.kind == "grad" and op.via is None for op in recording.ops[first.time : second.time])
    return asked or _written(recording, first.time, second.time) or any(p.hand_set for p in recording.parameters)


def _written(recording: Recording, start: int, end: int) -> bool:
    """Did the user's code write into gradients between two times; an average of the weights or a buffer is none of them."""
    memory = {recording.values[v].group for op in recording.ops if op.name == "grad" and op.kind == "op" for v in op.outputs}
    ops = (op for op in recording.ops[start:end] if op.kind == "inplace" and op.name != "data" and op.via is None)
    return any(recording.values[v].group in memory for op in ops for v in (op.inputs if op.name.startswith("_foreach") else op.inputs[:1]))


def _is_leftover(stepped: list[Round], one: Round) -> bool:
    """Is it a step outside of the rhythm: most steps follow several backward passes, and come from another place."""
    full = [r for r in stepped if r.fed]
    return (
        bool(full)
        and max(len(r.fed) for r in full) > 1
        and one.step is not None
        and all(r.step and r.step.stack != one.step.stack for r in full)
    )


def _stepped_on_nothing(recording: Recording, index: int, mine: list[Round]) -> Lead | None:
    """A step at another place than the regular ones, after the gradients were cleared and before any backward."""
    stepped = [r for r in mine if r.step is not None]
    full = [r for r in stepped if r.fed]
    empty = [r for r in stepped if not r.fed and not r.lost and r.cleared is not None and r.step is not None and _starved(r.step)]
    regular = {r.step.stack for r in full if r.step is not None}
    empty = [r for r in empty if r.step is not None and r.step.stack not in regular]
    if not empty or not full:
        return None
    assert empty[0].step is not None
    lead = _lead(recording, "remainder", "empty", parting(recording, empty[0].step.stack, list(regular)), 50)
    _point(lead, recording, empty[0].cleared, "the gradients are cleared here, and no backward follows")
    return lead


# -- leftovers ---------------------------------------------------------------------------------------------------------------------


def _left_over(recording: Recording, index: int, mine: list[Round]) -> Lead | None:
    """The last backward passes of an epoch never reach a step."""
    stepped = [r for r in mine if r.step is not None and r.fed]
    size = _usual(stepped)
    if size < 2:
        return None
    thrown = [
        r
        for r in stepped
        if 0 < len(r.lost) < size and all(b.stack == r.fed[-1].stack for b, _ in r.lost) and not _read_between(recording, r)
    ]
    tail = mine[-1] if mine[-1].step is None and 0 < len(mine[-1].fed) + len(mine[-1].lost) < size and _complete(recording) else None
    leaked = [r for r in stepped if size < len(r.fed) < 2 * size]
    step = next(r.step for r in stepped if r.step is not None)
    place = _condition(recording, step)
    regular = place is not None and "%" in place.code  # the rhythm is a count, and starts anew with each epoch
    if thrown:
        kind, count = "lost", len(thrown[0].lost)
    elif leaked and regular and len(stepped) > 2:
        kind, count = "leaked", len(leaked[0].fed) - size
    elif tail is not None and not leaked:
        kind, count = "lost", len(tail.fed) + len(tail.lost)
    else:
        return None
    lead = _lead(recording, "remainder", kind, place, 48, count=count, size=size)
    lead.severity = "warning"
    if thrown:
        _point(lead, recording, thrown[0].lost[-1][1], "the gradients left over are thrown away here")
    return lead


def _complete(recording: Recording) -> bool:
    """Was the run recorded to its end."""
    return not recording.counted_steps and recording.raised is None and not any("recording stopped" in note for note in recording.notes)


def _usual(stepped: list[Round]) -> int:
    """The number of backward passes that most steps follow, 0 where there is none."""
    sizes = [len(r.fed) for r in stepped]
    best = max(set(sizes), key=sizes.count) if sizes else 0
    return best if sizes.count(best) * 2 > len(sizes) or len(sizes) == 1 else 0


def _condition(recording: Recording, step: Event) -> Location | None:
    """The ``if`` that decides when a step is due, innermost first, or the line that counts for it."""
    for number, site in enumerate(step.stack):
        found = guard(recording, recording.sites[site])
        if found is not None and "%" in found.code:
            return found
        counts = counted(recording, [found, *(recording.sites[s] for s in step.stack[number + 1 :])]) if found is not None else None
        if counts is not None:
            return counts
    return recording.location(step.stack)


def _wrongly_divided(recording: Recording, index: int, mine: list[Round]) -> Lead | None:
    """The last group is smaller than the others, and its losses are divided by the size of a full group."""
    stepped = [r for r in mine if r.step is not None and r.fed and not r.lost]
    size = _usual(stepped)
    short = [r for r in stepped if 0 < len(r.fed) < size]
    if size < 2 or not short:
        return None
    for one in short:
        if one.step is not None and _rescaled(recording, one):
            continue
        for op, kind, number in one.fed[-1].factors:
            divisor = number if kind == "div" else 1 / number if number else 0
            if op >= 0 and abs(divisor - size) < 1e-3 * size:
                lead = _lead(
                    recording, "remainder", "divided", recording.location(recording.ops[op].stack), 47, count=len(one.fed), size=size
                )
                lead.severity = "warning"
                _point(lead, recording, one.step, f"this step follows {len(one.fed)} backward pass{'es' * (len(one.fed) != 1)}, not {size}")
                return lead
    return None


def _rescaled(recording: Recording, one: Round) -> bool:
    """Did the user's code change the gradients of the short group before its step."""
    assert one.step is not None
    return _written(recording, one.fed[-1].time, one.step.time)


def _point(lead: Lead, recording: Recording, event: Event | None, note: str) -> None:
    place = recording.location(event.stack) if event is not None else None
    if place is not None and lead.location is not None and place.line != lead.location.line:
        lead.related.append((place, note))
