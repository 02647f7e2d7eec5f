"""Cuts a recording into training steps: which losses belong to each, and which part of the run."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import takewhile

from ...recorder.recording import Event, Recording

MANY = 8  # results of a run without a backward that are followed


@dataclass(slots=True)
class Round:
    """One training step: what ran after the step before it, up to its own ``optimizer.step()``."""

    title: str
    start: int  # first op
    end: int  # one past the last op
    events: list[int] = field(default_factory=list)  # its backward passes (or calls of autograd.grad): positions in Recording.events
    step: int = -1  # its optimizer.step(): position in Recording.events, -1 where none followed
    ends: tuple[int, ...] = ()  # without a backward: the values to end at


def rounds(recording: Recording) -> list[Round]:
    """The recorded training steps in order; one for all that ran where there is no backward."""
    found: list[Round] = []
    start, waiting = 0, list[int]()
    for index, event in enumerate(recording.events):
        if event.kind in ("backward", "grad") and event.losses and event.full:
            waiting.append(index)
        elif waiting and event.full and _ends_step(recording.events, index):
            found.append(_round(recording, waiting, start, event.time, index))
            start, waiting = event.time, []
    if waiting:
        found.append(_round(recording, waiting, start, len(recording.ops), -1))
    if not found and recording.ops:
        found.append(Round("what ran", 0, len(recording.ops), ends=_results(recording)))
    elif recording.raised is not None and start < len(recording.ops) and recording.raised.op >= start and not waiting:
        found.append(Round("the failing call", start, len(recording.ops), ends=_results(recording, start)))
    _number(recording, found)
    return found


def _ends_step(events: list[Event], index: int) -> bool:
    """The optimizer's own ``step()``, also inside of ``GradScaler.step()``; of a scaler that skipped its step its own call."""
    if events[index].kind == "scaler.step":
        calls = takewhile(lambda event: event.inner, events[index + 1 :])  # those that it made itself
        return all(event.kind != "step" for event in calls)
    return events[index].kind == "step"


def _round(recording: Recording, waiting: list[int], start: int, end: int, step: int) -> Round:
    events = recording.events
    passes = [i for i in waiting if events[i].kind == "backward"]
    return Round("", start, max(end, max(events[i].time for i in waiting)), passes or waiting, step)


def _number(recording: Recording, found: list[Round]) -> None:
    """Titles: "step 2", with the optimizer's name where there are several."""
    counts: dict[int | None, int] = {}
    several = len({_optimizer(recording, r) for r in found if r.step >= 0}) > 1
    for r in found:
        if r.title:
            continue
        if r.step < 0:
            r.title = "backward without a step" if len(found) > 1 else "backward"
            continue
        which = _optimizer(recording, r)
        counts[which] = counts.get(which, 0) + 1
        label = _label(recording, which) if several and which is not None else ""
        r.title = f"step {counts[which]}" + (f" of {label}" if label else "")


def _label(recording: Recording, which: int) -> str:
    """An optimizer by the user's name for it, else by the modules that it trains."""
    optimizer = recording.optimizers[which]
    roots = sorted({recording.parameters[n].root for group in optimizer.groups for n in group} - {""})
    return optimizer.label or (f"{optimizer.name} ({', '.join(roots)})" if roots else optimizer.name)


def _optimizer(recording: Recording, r: Round) -> int | None:
    event: Event | None = recording.events[r.step] if r.step >= 0 else None
    return event.optimizer if event is not None else None


def _results(recording: Recording, start: int = 0) -> tuple[int, ...]:
    """The values that nothing recorded went on with, the last ones first where they are many."""
    used = {v for op in recording.ops[start:] for v in op.inputs}
    made = [v for op in recording.ops[start:] if op.parent < 0 and op.kind != "escape" for v in op.outputs if v not in used]
    failed = recording.raised.op if recording.raised is not None else -1
    if failed >= start:
        return recording.ops[failed].inputs
    wanted = [v for v in made if recording.values[v].requires_grad] or made
    return tuple(wanted[-MANY:])
