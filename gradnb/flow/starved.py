"""Which parameters an optimizer was about to move without a gradient, and which losses they should have learned from."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..recorder.recording import Event, Recording

UNUSED = "appears to not have been used in the graph"
NO_GRAD_ERRORS = ("does not require grad", "does not have a grad_fn", "does not require a gradient")


@dataclass(slots=True)
class Hunger:
    """Parameters of one optimizer (or of one failing backward) that starve, and the backward passes that concern them."""

    parameters: list[int]
    losses: list[tuple[int, ...]] = field(default_factory=list)
    optimizer: int | None = None
    event: Event | None = None  # the backward that raised
    zero: set[int] = field(default_factory=set)  # those with a gradient that is exactly zero
    wanted: tuple[int, ...] = ()  # values that autograd.grad() asked for


def hungry(recording: Recording) -> list[Hunger]:
    """One Hunger for the backward that raised, else one for each optimizer that stepped."""
    failed = failing(recording)
    if failed is not None:
        return [_of_failure(recording, failed)]
    found = _without_gradient(recording)
    for index, optimizer in enumerate(recording.optimizers):
        steps = [(i, e) for i, e in enumerate(recording.events) if e.kind == "step" and e.optimizer == index]
        if not steps:
            continue
        hunger = Hunger([], optimizer=index)
        for number in dict.fromkeys(n for group in optimizer.groups for n in group):
            parameter = recording.parameters[number]
            states = [e.states[number][0] for _, e in steps if number in e.states]
            if not states or "ok" in states or "nan" in states or "inf" in states:
                continue
            if parameter.hand_set or parameter.fed_late or parameter.gradient == "ok" and not parameter.steps:
                continue
            if all(number in e.frozen for _, e in steps) or not parameter.ever_trainable:
                continue
            if parameter.anonymous and any(p.registered for p in recording.parameters):
                continue  # left over in the optimizer: its module has another parameter now
            if parameter.moved and "zero" not in states:
                continue  # something other than this optimizer moves it
            if _fed_elsewhere(recording, index, number):
                continue
            hunger.parameters.append(number)
            if "zero" in states:
                hunger.zero.add(number)
        hunger.losses = losses_before(recording, steps)
        if hunger.parameters:
            found.append(hunger)
    return found


def failing(recording: Recording) -> Event | None:
    """The backward or autograd.grad that ended the cell because its loss has no history."""
    raised = recording.raised
    if raised is None:
        return None
    for event in reversed(recording.events):
        if event.kind in ("backward", "grad") and not event.ok and event.error and raised.message[:60] in event.error:
            if any(text in event.error for text in NO_GRAD_ERRORS):
                return event
            break
    asked = unanswered(recording)
    return asked if asked is not None and any(recording.values[v].parameter >= 0 for v in asked.inputs) else None


def unanswered(recording: Recording) -> Event | None:
    """The autograd.grad that ended the cell because some inputs have no gradient: at once, or when their None was used as a number."""
    raised = recording.raised
    if raised is None:
        return None
    if UNUSED in raised.message:
        return next((e for e in reversed(recording.events) if e.kind == "grad" and not e.ok and UNUSED in (e.error or "")), None)
    return _allowed(recording) if raised.type in ("TypeError", "AttributeError") and "None" in raised.message else None


def _allowed(recording: Recording) -> Event | None:
    """The ``autograd.grad(…, allow_unused=True)`` whose result the failing statement reads."""
    from .cuts import graph_of

    assert recording.raised is not None
    slicer = graph_of(recording).slicer
    stack = [recording.sites[s] for s in recording.raised.stack]
    calls = {e.stack[0]: e for e in recording.events if e.kind == "grad" and e.ok and e.stack}
    found = slicer.at(stack[0]) if stack and calls else None
    if found is None:
        return None
    read = slicer.trace(stack, [found[2]])
    return next((e for site, e in reversed(calls.items()) if read.holds(recording.sites[site])), None)


def _without_gradient(recording: Recording) -> list[Hunger]:
    """Parameters whose ``.grad`` was None where the failing statement needed a number."""
    numbers = [a.parameter for a in recording.absent if a.leaf and a.trainable and a.parameter >= 0]
    losses = [e.losses for e in reversed(recording.events) if e.kind == "backward" and e.ok and e.losses]
    return [Hunger(numbers, list(dict.fromkeys(losses)))] if numbers and losses else []


def losses_before(recording: Recording, steps: list[tuple[int, Event]]) -> list[tuple[int, ...]]:
    """The losses of the backward passes between an optimizer's steps: the last rounds, newest first."""
    found: list[tuple[int, ...]] = []
    start = -1
    for position, _ in steps:
        between = [e for e in recording.events[start + 1 : position] if e.kind == "backward" and e.ok and e.losses]
        found.extend(e.losses for e in between)
        start = position
    return list(dict.fromkeys(reversed(found)))


def _fed_elsewhere(recording: Recording, optimizer: int, number: int) -> bool:
    """Another optimizer holds the parameter too and moved it with a gradient."""
    return any(e.kind == "step" and e.optimizer != optimizer and e.states.get(number, ("none", None))[0] == "ok" for e in recording.events)


def _of_failure(recording: Recording, event: Event) -> Hunger:
    numbers = dict.fromkeys(n for o in recording.optimizers for g in o.groups for n in g)
    if not numbers:
        numbers = dict.fromkeys(i for i, p in enumerate(recording.parameters) if p.listed)
    asked = [recording.values[v].parameter for v in event.inputs if recording.values[v].parameter >= 0]
    trainable = [n for n in (asked or numbers) if recording.parameters[n].ever_trainable]
    if not asked:
        # what another loss feeds does not wait for this one
        elsewhere = _fed_by_others(recording, event)
        trainable = [n for n in trainable if not elsewhere >> n & 1] or trainable
    return Hunger(trainable, [event.losses], event=event, wanted=event.inputs)


def _fed_by_others(recording: Recording, event: Event) -> int:
    """Bit set of the parameters that some other backward, one that worked, gives a gradient to."""
    from .cuts import fed_by  # cuts asks this file who starves

    return fed_by(recording, [e for e in recording.events if e.kind in ("backward", "grad") and e.ok and e is not event])
