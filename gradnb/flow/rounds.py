"""The training loop as rounds: what each backward feeds, what each zero_grad clears, and where two calls part ways."""

from __future__ import annotations

import ast

from ..recorder.recording import Event, Location, Recording
from .cuts import fed_by, graph_of


def held(recording: Recording, optimizer: int) -> int:
    """Bit set of an optimizer's parameters."""
    return sum(1 << n for n in {n for group in recording.optimizers[optimizer].groups for n in group})


def feeds(recording: Recording, event: Event) -> int:
    """Bit set of the parameters that a backward, one that worked, gives a gradient to."""
    if event.kind != "backward" or not event.ok or not event.losses:
        return 0
    return fed_by(recording, [event])


def meant_for(recording: Recording, event: Event) -> int:
    """Bit set of the parameters that a backward is for: what is stepped next, else what was zeroed last before it."""
    position = recording.events.index(event)
    found = 0
    for later in recording.events[position + 1 :]:
        if later.kind in ("backward", "grad"):
            break
        if later.kind == "step" and later.optimizer is not None:
            found |= held(recording, later.optimizer)
    if found:
        return found
    for before in reversed(recording.events[:position]):
        if before.kind in ("backward", "grad", "step"):
            break
        if before.kind == "zero_grad":
            found |= held(recording, before.optimizer) if before.optimizer is not None else sum(1 << n for n in set(before.numbers))
    return found


def clears(recording: Recording, event: Event, optimizer: int, mask: int) -> bool:
    """Does a zero_grad (of the optimizer, of a module, by ``p.grad = None``) clear most of these parameters."""
    if event.kind != "zero_grad":
        return False
    if event.optimizer == optimizer:
        return True
    cleared = held(recording, event.optimizer) if event.optimizer is not None else sum(1 << n for n in set(event.numbers))
    return 2 * (cleared & mask).bit_count() > mask.bit_count()


def scaler_of(recording: Recording, event: Event) -> int:
    """The GradScaler that scaled the loss of a backward, -1 where none did."""
    scaled = {v: e.scaler for e in recording.events if e.kind == "scale" and e.ok and e.enabled for v in e.losses}
    if not scaled:
        return -1
    reached = graph_of(recording).cone(event.losses).edges
    return next((scaler for value, scaler in scaled.items() if value in reached), -1)


def parting(recording: Recording, stack: tuple[int, ...], others: list[tuple[int, ...]]) -> Location | None:
    """Where a call came another way than the calls like it: the innermost frame that none of them shares."""
    if not stack:
        return None
    shared = 0
    for other in others:
        same = 0
        while same < min(len(stack), len(other)) and stack[same] == other[same]:
            same += 1
        shared = max(shared, same)
    return recording.sites[stack[shared if shared < len(stack) else 0]]


def guard(recording: Recording, location: Location | None) -> Location | None:
    """The ``if`` line that decides whether the statement at a location runs, within its own function."""
    if location is None:
        return None
    found = graph_of(recording).slicer.at(location)
    if found is None:
        return None
    source, scope, node = found
    from .places import locate

    parent = source.parents.get(node)
    while parent is not None and parent is not scope:
        if isinstance(parent, ast.If):
            return locate(recording, source, parent.test, location.function)
        parent = source.parents.get(parent)
    return None


def names(recording: Recording, mask: int) -> list[str]:
    """The names of a bit set of parameters."""
    return [p.name for n, p in enumerate(recording.parameters) if mask >> n & 1 and p.listed]


def label(recording: Recording, optimizer: int | None) -> str:
    """The user's name for an optimizer, else its class."""
    if optimizer is None:
        return ""
    return recording.optimizers[optimizer].label or recording.optimizers[optimizer].name
