"""Errors that GradScaler raises: FP16 gradients, unscaled twice, no gradient at all, updated without a step."""

from __future__ import annotations

import ast
from collections import Counter

from ..recorder.recording import Event, Location, Recording
from .cuts import graph_of
from .lead import Lead
from .places import called, locate, sources
from .rounds import clears, feeds, guard, held, label, names, parting, scaler_of

_HALF = {"float16", "half"}


def scaler_errors(recording: Recording) -> list[Lead]:
    """A lead for the error of a GradScaler that ended the cell."""
    raised = recording.raised
    if raised is None:
        return []
    event = next((e for e in reversed(recording.events) if not e.ok and e.scaler >= 0), None)
    if event is None or event.error is None or raised.message[:60] not in event.error:
        return []
    if "unscale FP16" in raised.message:
        return [_fp16(recording, event)]
    if "unscale_()" in raised.message:
        return [_twice(recording, event)]
    if "step() has already been called" in raised.message:
        return [_never_updated(recording, event, "scaler-misuse", "step-twice")]
    if "_scale is None" in raised.message:
        return [_never_scaled(recording, event)]
    if "No inf checks" in raised.message:
        return [_no_update(recording, event) if event.kind == "update" else _nothing(recording, event)]
    return []


def _lead(recording: Recording, cause: str, kind: str, event: Event, location: Location | None = None) -> Lead:
    symptom = recording.location(event.stack)
    lead = Lead(cause, location or symptom, rank=130)
    lead.expression = graph_of(recording).slicer.text(lead.location) if lead.location else ""
    lead.details = {"kind": kind, "optimizer": label(recording, event.optimizer), "raised": True}
    if (
        symptom is not None
        and lead.location is not None
        and (symptom.filename, symptom.line) != (lead.location.filename, lead.location.line)
    ):
        lead.related.append((symptom, "the error is raised here"))
    return lead


def _never_scaled(recording: Recording, event: Event) -> Lead:
    """The scaler is asked to step and has never scaled a loss: the backward before it took the bare one."""
    mask = held(recording, event.optimizer) if event.optimizer is not None else 0
    before = recording.events[: recording.events.index(event)]
    backward = next((e for e in reversed(before) if e.kind == "backward" and (not mask or feeds(recording, e) & mask)), None)
    if backward is not None and scaler_of(recording, backward) >= 0:
        lead = _lead(recording, "scaler-misuse", "other-scaler", event)
        lead.related.extend(
            [(place, "the loss was scaled by another GradScaler") for place in [recording.location(backward.stack)] if place]
        )
        return lead
    return _lead(recording, "scaler-misuse", "loss-not-scaled", event, recording.location(backward.stack) if backward is not None else None)


# -- FP16 ----------------------------------------------------------------------------------------------------------------------


def _fp16(recording: Recording, event: Event) -> Lead:
    """The place that made the optimizer's parameters half precision."""
    index = event.optimizer
    numbers = [n for n in (n for g in recording.optimizers[index].groups for n in g)] if index is not None else []
    half = [n for n in numbers if recording.parameters[n].dtype == "float16" and recording.parameters[n].trainable]
    origins = Counter(site for n in half for site in [_origin(recording, n)] if site >= 0)
    location: Location | None = None
    if origins:
        location = recording.sites[origins.most_common(1)[0][0]]
    default = _default_dtype(recording)
    if default is not None and (location is None or not any(recording.parameters[n].cast for n in half)):
        location = default if location is None or not _mentions_half(location.code) else location
    lead = _lead(recording, "fp16-unscale", "half", event, location or _written_half(recording))
    lead.affected = names(recording, sum(1 << n for n in set(half)))
    lead.details["cast"] = bool(half) and recording.parameters[half[0]].cast is not None
    return lead


def _origin(recording: Recording, number: int) -> int:
    """The site where a parameter was cast to half precision or made in it, -1 where that came before the recording."""
    parameter = recording.parameters[number]
    if parameter.cast is not None and parameter.cast[0] == "float16" and parameter.cast[1]:
        return parameter.cast[1][0]
    for value, known in enumerate(recording.values):
        if known.parameter != number:
            continue
        while known.op >= 0:
            op = recording.ops[known.op]
            if op.kind != "inplace" or not op.inputs:
                return _says_dtype(recording, op.stack)
            value = op.inputs[0]
            known = recording.values[value]
        return -1
    return -1


def _says_dtype(recording: Recording, stack: tuple[int, ...]) -> int:
    """Of the calls that led to a parameter's creation the innermost one that speaks of a dtype, else the innermost one."""
    for site in stack:
        if _mentions_half(recording.sites[site].code) or "dtype" in recording.sites[site].code:
            return site
    return stack[0] if stack else -1


def _mentions_half(code: str) -> bool:
    return any(word in code for word in ("float16", "half"))


def _default_dtype(recording: Recording) -> Location | None:
    for source in sources(recording):
        for node in ast.walk(source.tree):  # type: ignore[arg-type]
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "set_default_dtype":
                if node.args and _mentions_half(ast.unparse(node.args[0])):
                    return locate(recording, source, node)
    return None


def _written_half(recording: Recording) -> Location | None:
    """The first place in the user's code that asks for half precision outside of autocast."""
    for source in sources(recording):
        for node in ast.walk(source.tree):  # type: ignore[arg-type]
            called = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "half"
            named = isinstance(node, ast.Attribute) and node.attr in _HALF and not called
            statement = source.statement(node) if called or named else None
            if statement is None or isinstance(statement, ast.With) or "autocast" in ast.unparse(statement):
                continue
            return locate(recording, source, node)
    return None


# -- unscale_ and step, twice -----------------------------------------------------------------------------------------------------


def _twice(recording: Recording, event: Event) -> Lead:
    before = recording.events[: recording.events.index(event)]
    last_update = max((i for i, e in enumerate(before) if e.kind == "update" and e.ok and e.scaler == event.scaler), default=-1)
    mask = held(recording, event.optimizer) if event.optimizer is not None else 0
    since = before[last_update + 1 :]
    first = next((i for i, e in enumerate(since) if e.kind == "unscale" and e.optimizer == event.optimizer and e.ok), None)
    if first is not None and _new_round(recording, since[first + 1 :], event, mask):
        return _never_updated(recording, event, "unscale-twice", "update-missing")
    after_step = "after step()" in (event.error or "") or any(
        e.kind == "scaler.step" and e.optimizer == event.optimizer for e in since[first or 0 :]
    )
    earlier = [e.stack for e in before if e.kind == "unscale" and e.ok and e.stack != event.stack]
    lead = _lead(recording, "unscale-twice", "after-step" if after_step else "again", event, parting(recording, event.stack, earlier))
    if first is not None and since[first].stack:
        note = "GradScaler.step() unscales here" if since[first].inner else "the gradients are unscaled here already"
        place = recording.location(since[first].stack)
        if place is not None and lead.location is not None and place.line != lead.location.line:
            lead.related.append((place, note))
    return lead


def _new_round(recording: Recording, since: list[Event], event: Event, mask: int) -> bool:
    """Did the loop go round: gradients cleared or a step taken since the first unscale, and a backward after that."""
    over = False
    for e in since:
        over = over or e.kind == "scaler.step" or (event.optimizer is not None and clears(recording, e, event.optimizer, mask))
        if over and e.kind == "backward" and feeds(recording, e) & mask:
            return True
    return False


def _never_updated(recording: Recording, event: Event, cause: str, kind: str) -> Lead:
    """An iteration ended without ``scaler.update()``: the call that was left out this time, else the step it belongs after."""
    before = recording.events[: recording.events.index(event)]
    update = next((e for e in reversed(before) if e.kind == "update" and e.ok and e.scaler == event.scaler), None)
    step = next((e for e in reversed(before) if e.kind == "scaler.step" and e.scaler == event.scaler), None)
    if kind == "step-twice" and step is not None:
        mask = held(recording, event.optimizer) if event.optimizer is not None else 0
        between = before[before.index(step) + 1 :]
        if not any(e.kind == "backward" and feeds(recording, e) & mask for e in between):
            lead = _lead(recording, cause, kind, event, parting(recording, event.stack, [step.stack]))
            lead.related.extend([(place, "stepped here already") for place in [recording.location(step.stack)] if place is not None])
            return lead
    if update is not None:
        location = recording.location(update.stack)
        lead = _lead(recording, cause, "update-skipped", event, location)
        condition = guard(recording, location)
        if condition is not None:
            lead.related.append((condition, "this condition leaves scaler.update() out"))
        return lead
    return _lead(recording, cause, "update-missing", event, recording.location(step.stack) if step is not None else None)


# -- no gradient -------------------------------------------------------------------------------------------------------------------


def _no_update(recording: Recording, event: Event) -> Lead:
    """``update()`` although no optimizer was stepped or unscaled since the last one."""
    before = [e.stack for e in recording.events if e.kind == "update" and e.ok]
    return _lead(recording, "scaler-misuse", "update-without-step", event, parting(recording, event.stack, before))


def _nothing(recording: Recording, event: Event) -> Lead:
    """``scaler.step()`` found no gradient: cleared too early, stepped already, cut off from the loss, or never fed."""
    index = event.optimizer
    mask = held(recording, index) if index is not None else 0
    before = recording.events[: recording.events.index(event)]
    fed = max((i for i, e in enumerate(before) if e.kind == "backward" and feeds(recording, e) & mask), default=-1)
    taken = max((i for i, e in enumerate(before) if e.kind == "scaler.step" and e.optimizer == index and e.ok), default=-1)
    cleared = next((e for e in before[fed + 1 :] if index is not None and clears(recording, e, index, mask)), None) if fed >= 0 else None
    if fed >= 0 and taken > fed:
        lead = _lead(recording, "no-inf-checks", "stepped-already", event, parting(recording, event.stack, _steps(recording, index)))
        place = recording.location(before[taken].stack)
        lead.details["leftover"] = _accumulates(recording, index or 0, mask)
        if place is not None and lead.location is not None and place.line != lead.location.line:
            lead.related.append((place, "the step before, which used these gradients"))
    elif cleared is not None:
        lead = _lead(recording, "no-inf-checks", "cleared", event, recording.location(cleared.stack))
    else:
        lead = _cut(recording, event)
    lead.affected = lead.affected or names(recording, mask)
    return lead


def _steps(recording: Recording, index: int | None) -> list[tuple[int, ...]]:
    return [e.stack for e in recording.events if e.kind == "scaler.step" and e.optimizer == index and e.ok]


def _accumulates(recording: Recording, index: int, mask: int) -> bool:
    """Are several backward passes made for one step."""
    steps = [i for i, e in enumerate(recording.events) if e.kind == "step" and e.optimizer == index and e.ok]
    first = recording.events[: steps[0]] if steps else []
    return sum(bool(feeds(recording, e) & mask) for e in first) > 1


def _cut(recording: Recording, event: Event) -> Lead:
    """No backward ever reached these parameters: the cut on the way, where there is one, told as the reason of this error."""
    cuts: list[Lead] = recording.memo.get("cut leads", [])
    cut = max((lead for lead in cuts if lead.location is not None and not lead.inert), key=lambda lead: lead.rank, default=None)
    if cut is None:
        numbers = [n for g in recording.optimizers[event.optimizer].groups for n in g] if event.optimizer is not None else []
        built = recording.optimizers[event.optimizer].stack if event.optimizer is not None else ()
        left_out = _left_out(recording)
        stale = left_out is None and bool(numbers) and not any(recording.parameters[n].reached for n in numbers)
        lead = _lead(recording, "no-inf-checks", "never-fed", event, recording.location(built) if stale else None)
        lead.related.extend([(left_out, "this condition leaves a backward out")] if left_out is not None else [])
        return lead
    lead = _lead(recording, "no-inf-checks", "cut", event, cut.location)
    lead.expression, lead.path, lead.affected = cut.expression, cut.path, list(cut.affected)
    lead.related.extend(cut.related)
    lead.details.update(cut=cut.cause, operation=cut.operation)
    recording.memo["cut leads"] = [other for other in cuts if other is not cut]
    recording.memo.setdefault("told", []).append(cut)
    return lead


def _left_out(recording: Recording) -> Location | None:
    """The condition before a backward that no iteration came to; where its other branch has one that ran, nothing is missing."""
    places = [recording.location(e.stack) for e in recording.events if e.kind == "backward"]
    ran = {(place.filename, place.line) for place in places if place is not None}
    for place in called(recording, "backward"):
        condition = guard(recording, place) if (place.filename, place.line) not in ran else None
        found = graph_of(recording).slicer.at(condition) if condition is not None else None
        branch = found[0].parents.get(found[2]) if found is not None else None
        if isinstance(branch, ast.If) and not any((place.filename, n) in ran for n in range(branch.lineno, (branch.end_lineno or 0) + 1)):
            return condition
    return None
