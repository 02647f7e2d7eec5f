"""Gradient scaling that runs through and is wrong: clipping scaled gradients, a step past the scaler, a loss that was not scaled."""

from __future__ import annotations

import ast
from dataclasses import dataclass, field

from ..recorder.recording import Event, Recording
from .cuts import graph_of
from .lead import Lead
from .places import statement_of
from .rounds import clears, feeds, held, label, names, scaler_of

_BY_HAND = {"clamp_", "clip_"}
_CHECKS = {"isnan", "isinf", "isfinite", "isreal"}  # they say the same of scaled gradients
_DIVIDING = set("mul_ div_ __imul__ __itruediv__ copy_ _foreach_mul_ _foreach_div_".split())


@dataclass(slots=True)
class _State:
    """What the gradients of one optimizer are like while the loop goes on."""

    scaler: int = -1  # the GradScaler whose scale is in them
    filled: bool = False
    unscaled: bool = False
    stepped: bool = False
    backward: Event | None = None
    updated: Event | None = None  # an update of that scaler while they wait
    round: list[Event] = field(default_factory=list)


def scaling(recording: Recording) -> list[Lead]:
    """Leads for each optimizer that is trained with an enabled GradScaler, or with gradients that are clipped too late."""
    leads: dict[tuple, Lead] = {}
    for index in range(len(recording.optimizers)):
        if recording.optimizers[index].groups and not _replaced(recording, index):
            for lead in _follow(recording, index):
                place = (lead.location.filename, lead.location.line) if lead.location else ()
                known = leads.setdefault((lead.cause, lead.details.get("kind"), place), lead)
                if known is not lead:
                    known.affected = list(dict.fromkeys([*known.affected, *lead.affected]))
    return list(leads.values())


def _replaced(recording: Recording, index: int) -> bool:
    """Does an optimizer never step, while others step its parameters."""
    mask = held(recording, index)
    return not recording.optimizers[index].steps and any(o.steps and held(recording, i) & mask for i, o in enumerate(recording.optimizers))


def _follow(recording: Recording, index: int) -> list[Lead]:
    mask, state, found = held(recording, index), _State(), list[Lead]()
    uses_scaler = any(e.kind == "scaler.step" and e.optimizer == index and e.enabled for e in recording.events)
    asks_scale = any(e.kind == "get_scale" and not e.inner for e in recording.events)
    for position, event in enumerate(recording.events):
        if not event.ok and event.kind != "step":
            continue
        if event.kind == "backward" and feeds(recording, event) & mask:
            state.scaler = scaler_of(recording, event)
            found.extend(_scaled_twice(recording, index, mask, event))
            state.filled, state.unscaled, state.stepped, state.backward, state.updated = True, False, False, event, None
        elif event.kind == "unscale" and event.optimizer is not None and held(recording, event.optimizer) & mask == mask:
            found.extend(_by_hand(recording, index, mask, state, event, asks_scale))
            state.unscaled = True
        elif event.kind == "update" and event.enabled and state.filled and not state.stepped and event.scaler == state.scaler:
            state.updated = event
        elif event.kind == "clip":
            found.extend(_clip(recording, index, mask, state, position, asks_scale))
        elif event.kind == "scaler.step" and event.optimizer == index and event.enabled:
            found.extend(_scaler_step(recording, index, mask, state, event))
            state.stepped = state.stepped or event.skipped
        elif event.kind == "step" and event.optimizer == index:
            found.extend(_step(recording, index, mask, state, event, uses_scaler))
            state.stepped = True
        elif clears(recording, event, index, mask):
            found.extend(_by_hand(recording, index, mask, state, event, asks_scale))
            state.filled = state.stepped = False
    return found


def _scaled_twice(recording: Recording, index: int, mask: int, event: Event) -> list[Lead]:
    """A loss that was scaled already goes through ``scaler.scale`` again."""
    reached = graph_of(recording).cone(event.losses).edges
    scales = [e for e in recording.events if e.kind == "scale" and e.ok and e.enabled and any(v in reached for v in e.losses)]
    for second in reversed(scales):
        behind = {v for value in second.losses if value in reached for v in _behind(recording, value)}
        first = next((e for e in scales if e is not second and any(v in behind for v in e.losses)), None)
        if first is not None:
            lead = _lead(recording, "scaler-misuse", "scaled-twice", second, index, mask, rank=76)
            lead.related.extend(_here(recording, first, "the loss is scaled here already"))
            return [lead]
    return []


def _behind(recording: Recording, value: int) -> set[int]:
    """The values that a value was computed from, as far as one expression's way goes."""
    todo, seen = [value], set[int]()
    while todo and len(seen) < 300:
        made = recording.values[todo.pop()].op
        if made >= 0 and recording.ops[made].kind != "grad":  # a gradient penalty scales on its way, too, and takes it out again
            new = [v for v in recording.ops[made].inputs if v not in seen]
            seen.update(new)
            todo.extend(new)
    return seen


def _clip(recording: Recording, index: int, mask: int, state: _State, position: int, asks_scale: bool) -> list[Lead]:
    event = recording.events[position]
    mine = sum(1 << n for n in set(event.numbers)) & mask if event.numbers else mask * (len(recording.optimizers) == 1)
    if not mine:
        return []
    if state.filled and state.scaler >= 0 and not state.unscaled and not state.stepped and not asks_scale:
        return [_lead(recording, "clip-scaled", "scaled", event, index, mask, rank=70)]
    if state.filled and state.stepped and _useless(recording, index, mask, position):
        return [_lead(recording, "clip-scaled", "after-step", event, index, mask, rank=70)]
    return []


def _useless(recording: Recording, index: int, mask: int, position: int) -> bool:
    """Are the gradients cleared (or does the run end) before any step uses them, and did nothing clip them before the step."""
    for event in reversed(recording.events[:position]):
        if event.kind == "clip" and (not event.numbers or sum(1 << n for n in set(event.numbers)) & mask):
            return False
        if event.kind == "backward" and feeds(recording, event) & mask:
            break
    for event in recording.events[position + 1 :]:
        if event.kind == "step" and event.optimizer == index:
            return False
        if clears(recording, event, index, mask):
            return True
        if event.kind == "backward" and feeds(recording, event) & mask:
            return False
    return True


def _by_hand(recording: Recording, index: int, mask: int, state: _State, event: Event, asks_scale: bool) -> list[Lead]:
    """The user's own code clamps gradients, or decides by their size, while the scale is still in them."""
    if not state.filled or state.scaler < 0 or state.unscaled or state.stepped or asks_scale or state.backward is None:
        return []
    start = state.backward.time
    read = {v for op in recording.ops[start : event.time] if op.name == "grad" and op.kind == "op" and op.via is None for v in op.outputs}
    memory = {recording.values[v].group for v in read}
    for number, op in enumerate(recording.ops[start : event.time], start):
        if not op.inputs or op.via is not None:
            continue
        if op.name in _BY_HAND and recording.values[op.inputs[0]].group in memory:
            return [_lead(recording, "clip-scaled", "scaled", Event("clip", op.stack, 0), index, mask, rank=70)]
        decides = op.name == "__bool__" or op.name in ("item", "__float__") and event.kind == "zero_grad"  # the round ended without a step
        if decides and read and _comes_from(recording, op.inputs[0], read, start):
            lead = _lead(recording, "clip-scaled", "decided", Event("clip", _asked(recording, op.stack), number), index, mask, rank=68)
            lead.severity = "warning"
            return [lead]
    return []


def _asked(recording: Recording, stack: tuple[int, ...]) -> tuple[int, ...]:
    """The stack from the frame on that wanted the number: helpers that only return it are passed over."""
    for depth in range(len(stack) - 1):
        found = statement_of(recording, recording.sites[stack[depth]])
        if found is None or not isinstance(found[1], ast.Return):
            return stack[depth:]
    return stack


def _comes_from(recording: Recording, value: int, wanted: set[int], start: int) -> bool:
    """Was a value computed from some others, by operations since a time."""
    todo, seen = [value], set[int]()
    while todo and len(seen) < 500:
        v = todo.pop()
        if v in wanted:
            return True
        made = recording.values[v].op
        if v not in seen and made >= start and recording.ops[made].name not in _CHECKS:
            seen.add(v)
            todo.extend(recording.ops[made].inputs)
    return False


def _scaler_step(recording: Recording, index: int, mask: int, state: _State, event: Event) -> list[Lead]:
    if not state.filled or state.stepped or state.backward is None:
        return []
    if state.scaler < 0:
        lead = _lead(recording, "scaler-misuse", "loss-not-scaled", state.backward, index, mask, rank=75)
        lead.related.extend(_here(recording, event, "the gradients are divided by the scale here"))
        return [lead]
    if state.scaler != event.scaler:
        lead = _lead(recording, "scaler-misuse", "other-scaler", event, index, mask, rank=75)
        lead.related.extend(_here(recording, state.backward, "the loss was scaled by another GradScaler"))
        return [lead]
    if state.updated is not None and not state.unscaled:
        lead = _lead(recording, "scaler-misuse", "update-between", state.updated, index, mask, rank=55)
        lead.severity = "warning"
        lead.related.extend(_here(recording, event, "these gradients carry the scale from before the update"))
        return [lead]
    return []


def _step(recording: Recording, index: int, mask: int, state: _State, event: Event, uses_scaler: bool) -> list[Lead]:
    if event.inner or not state.filled or not event.ok:
        return []
    if state.stepped:
        if not uses_scaler:
            return []
        lead = _lead(recording, "scaler-misuse", "stepped-past", event, index, mask, rank=72)
        first = next((e for e in recording.events if e.kind == "scaler.step" and e.optimizer == index), None)
        lead.related.extend(_here(recording, first, "the same gradients were applied here already") if first else [])
        return [lead]
    if state.scaler >= 0 and not state.unscaled and not _divided(recording, mask, state, event):
        lead = _lead(recording, "scaler-misuse", "plain-step", event, index, mask, rank=75)
        if state.backward is not None:
            lead.related.extend(_here(recording, state.backward, "the gradients of this backward carry the scale"))
        return [lead]
    return []


def _divided(recording: Recording, mask: int, state: _State, event: Event) -> bool:
    """Did the user's own code take the scale out of the gradients between backward and the step."""
    memory = {recording.values[v].group for op in recording.ops if op.name == "grad" and op.kind == "op" for v in op.outputs}
    ops = recording.ops[state.backward.time if state.backward else 0 : event.time]
    written = any(o.name in _DIVIDING and o.via is None and o.inputs and recording.values[o.inputs[0]].group in memory for o in ops)
    return written or any(p.hand_set for n, p in enumerate(recording.parameters) if mask >> n & 1)


def _here(recording: Recording, event: Event, note: str) -> list:
    place = recording.location(event.stack)
    return [(place, note)] if place is not None else []


def _lead(recording: Recording, cause: str, kind: str, event: Event, index: int, mask: int, rank: float) -> Lead:
    lead = Lead(cause, recording.location(event.stack), rank=rank)
    lead.expression = graph_of(recording).slicer.text(lead.location) if lead.location else ""
    lead.affected = names(recording, mask)
    lead.details = {"kind": kind, "optimizer": label(recording, index)}
    return lead
