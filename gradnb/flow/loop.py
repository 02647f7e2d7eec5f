"""Faults of the training loop itself: gradients that pile up, steps that never come."""

from __future__ import annotations

from ..recorder.recording import Event, Location, Optimizer, Recording
from .cuts import fed_by
from .lead import Lead
from .places import called, uncalled
from .rounds import guard

_CLEARING = set("zero_ mul_ copy_ fill_ set_ sub_ __imul__ __isub__ _foreach_zero_ _foreach_mul_".split())


def loop(recording: Recording) -> list[Lead]:
    other = _other_stepped(recording)
    # a step of the wrong optimizer also finds gradients that nobody cleared: that is its echo
    piling = [] if any(lead.severity == "error" for lead in other) else _piling_up(recording)
    return [*piling, *_never_stepped(recording), *_no_backward(recording), *other]


# -- zero-grad-missing ------------------------------------------------------------------------------------------------------


def _piling_up(recording: Recording) -> list[Lead]:
    """Between two steps of an optimizer a backward added to gradients that the first of them had already used."""
    leads = []
    for index, optimizer in enumerate(recording.optimizers):
        steps = [(i, e) for i, e in enumerate(recording.events) if e.kind == "step" and e.optimizer == index]
        piled = [
            (before, after)
            for before, after in zip(steps, steps[1:])
            if after[1].uncleared
            and not _gap(recording, before[0], after[0])
            and _added(recording, before[0], after[0], after[1].uncleared)
            and not _cleared_by_hand(recording, before[1], after[1])
        ]
        if len(piled) < max(1, (len(steps) - 1) // 2):
            continue
        backward = next((e for e in reversed(recording.events[: piled[0][1][0]]) if e.kind == "backward" and e.ok), piled[0][1][1])
        lead = Lead("zero-grad-missing", recording.location(backward.stack), rank=30)
        lead.expression = lead.location.code if lead.location else ""
        lead.affected = [recording.parameters[n].name for n in dict.fromkeys(n for g in optimizer.groups for n in g)]
        lead.details = {"optimizer": optimizer.label or optimizer.name, "steps": len(piled) + 1}
        step = recording.location(steps[0][1].stack)
        if step is not None:
            lead.related.append((step, "the optimizer steps here"))
        leads.append(lead)
    return leads


def _gap(recording: Recording, start: int, end: int) -> bool:
    """Was a part of the run between two events only counted."""
    return any(e.kind == "gap" for e in recording.events[start + 1 : end])


def _added(recording: Recording, start: int, end: int, numbers: tuple[int, ...]) -> bool:
    """Did a backward between two events give these parameters more gradient."""
    between = [e for e in recording.events[start + 1 : end] if e.kind == "backward" and e.ok]
    return bool(fed_by(recording, between) & sum(1 << n for n in numbers))


def _cleared_by_hand(recording: Recording, before: Event, after: Event) -> bool:
    """``p.grad.zero_()`` and its like leave the same tensor in place; the operations show it."""
    memory = {recording.values[v].group for op in recording.ops if op.name == "grad" and op.kind == "op" for v in op.outputs}
    for op in recording.ops[before.time : after.time]:
        if op.kind == "inplace" and op.name in _CLEARING:
            if op.name.startswith("_foreach") or any(recording.values[v].group in memory for v in op.inputs[:1]):
                return True
    return False


# -- step-missing ------------------------------------------------------------------------------------------------------------


def _never_stepped(recording: Recording) -> list[Lead]:
    """Backward after backward, an optimizer that holds the parameters, and no step at all."""
    backwards = [e for e in recording.events if e.kind == "backward" and e.ok and e.losses]
    if recording.raised is not None or len(backwards) < 2 or any(e.kind == "step" for e in recording.events):
        return []
    holding = [o for o in recording.optimizers if _receives(recording, o)]
    moved = any(p.moved for p in recording.parameters) or any(p.hand_set for p in recording.parameters)
    read = any(op.name == "grad" and op.kind == "op" for op in recording.ops)
    if not holding or moved or read:
        return []
    location, kind = _never(recording, backwards[-1])
    lead = Lead("step-missing", location, rank=45)
    lead.expression = lead.location.code if lead.location else ""
    lead.affected = [recording.parameters[n].name for o in holding for g in o.groups for n in g]
    lead.details = {"kind": kind, "optimizer": holding[0].label or holding[0].name}
    if kind != "never":
        backward = recording.location(backwards[-1].stack)
        lead.related.extend([(backward, "the gradients of this backward are never used")] if backward is not None else [])
    return [lead]


def _never(recording: Recording, backward: Event) -> tuple[Location | None, str]:
    """Why no step ran: one that is named and not called, one behind a condition, a scheduler's; else only the backward is known."""
    named = uncalled(recording, "step")
    if named is not None:
        return named, "not-called"
    for call in called(recording, "step"):
        condition = guard(recording, call)
        if condition is not None:
            return condition, "condition"
        # it ran, for the function around it made the backward too, and no optimizer felt it
        if any(_same_function(call, recording.sites[site]) for site in backward.stack):
            return call, "scheduler"
    return recording.location(backward.stack), "never"


def _same_function(one: Location, other: Location) -> bool:
    return one.filename == other.filename and one.function == other.function


def _no_backward(recording: Recording) -> list[Lead]:
    """Steps, and in all the run no backward that gives the optimizer anything."""
    leads = []
    for index, optimizer in enumerate(recording.optimizers):
        steps = [e for e in recording.events if e.kind == "step" and e.optimizer == index and e.ok]
        numbers = [n for g in optimizer.groups for n in g]
        if not steps or recording.raised is not None or any(recording.parameters[n].reached for n in numbers):
            continue
        if any(state != "none" for e in steps for state, _ in e.states.values()) or any(recording.parameters[n].hand_set for n in numbers):
            continue
        if not any(e.states for e in steps) or not any(recording.parameters[n].called for n in numbers):
            continue
        named = uncalled(recording, "backward")
        lead = Lead("step-missing", named or recording.location(steps[0].stack), rank=45)
        lead.affected = [recording.parameters[n].name for n in numbers]
        if named is None:
            named = next((place for call in called(recording, "backward") if (place := guard(recording, call)) is not None), None)
            lead.location, kind = named or lead.location, "backward-condition" if named is not None else "no-backward"
        else:
            kind = "not-called"
        lead.expression = lead.location.code if lead.location else ""
        lead.details = {"kind": kind, "optimizer": optimizer.label or optimizer.name}
        leads.append(lead)
    return leads


def _receives(recording: Recording, optimizer: Optimizer) -> bool:
    """Do the optimizer's parameters get a gradient from some backward."""
    from .wiring import fed_parameters

    fed = fed_parameters(recording)
    return any(fed >> n & 1 for g in optimizer.groups for n in g)


def _other_stepped(recording: Recording) -> list[Lead]:
    """The optimizer that steps holds nothing that the losses reach; the one that holds it never steps."""
    stepping = [i for i, o in enumerate(recording.optimizers) if o.steps]
    idle = [
        o for o in recording.optimizers if not o.steps and o.alive and not o.failed and _receives(recording, o) and not _moved(recording, o)
    ]
    if recording.raised is not None or not stepping or not idle:
        return []
    named = uncalled(recording, "step")
    if named is not None:
        lead = Lead("step-missing", named, rank=46, expression=named.code)
        lead.affected = [recording.parameters[n].name for g in idle[0].groups for n in g]
        lead.details = {"kind": "not-called", "optimizer": idle[0].label or idle[0].name}
        return [lead]
    leads = _zeroed_and_fed_only(recording, idle, stepping)
    if leads:
        return leads
    for index in stepping:
        if not _steps_for_nothing(recording, index):
            continue
        step = next(e for e in recording.events if e.kind == "step" and e.optimizer == index)
        lead = Lead("step-missing", recording.location(step.stack), rank=46)
        lead.expression = lead.location.code if lead.location else ""
        lead.affected = [recording.parameters[n].name for g in idle[0].groups for n in g]
        lead.details = {"kind": "other", "optimizer": idle[0].label or idle[0].name}
        leads.append(lead)
    return leads


def _zeroed_and_fed_only(recording: Recording, idle: list[Optimizer], stepping: list[int]) -> list[Lead]:
    """An optimizer that is zeroed and fed round after round beside one that steps, and that never steps itself."""
    leads = []
    for optimizer in idle:
        index = recording.optimizers.index(optimizer)
        zeroed = sum(e.kind == "zero_grad" and e.optimizer == index for e in recording.events)
        steps = [(i, e) for i, e in enumerate(recording.events) if e.kind == "step" and e.optimizer in stepping]
        if zeroed < 2 or len(steps) < 2:
            continue
        mask = sum(1 << n for g in optimizer.groups for n in g)
        # the step that follows a backward for the idle one stands where the idle one's own step belongs
        astray = [e for i, e in steps if fed_by(recording, _last_backward(recording, i)) & mask]
        step, sure = (astray[0], True) if len(astray) > 1 else (steps[0][1], False)
        lead = Lead("step-missing", recording.location(step.stack), "error" if sure else "warning", rank=46)
        lead.expression = lead.location.code if lead.location else ""
        lead.affected = [recording.parameters[n].name for g in optimizer.groups for n in g]
        lead.details = {"kind": "other", "optimizer": optimizer.label or optimizer.name}
        leads.append(lead)
    return leads


def _last_backward(recording: Recording, position: int) -> list[Event]:
    return next(([e] for e in reversed(recording.events[:position]) if e.kind == "backward" and e.ok), [])


def _moved(recording: Recording, optimizer: Optimizer) -> bool:
    return any(recording.parameters[n].moved for g in optimizer.groups for n in g)


def _steps_for_nothing(recording: Recording, index: int) -> bool:
    """An optimizer whose parameters no loss reaches, or that steps again on gradients it has already used."""
    numbers = tuple(n for g in recording.optimizers[index].groups for n in g)
    parameters = [recording.parameters[n] for n in numbers]
    if parameters and all(not p.reached and p.gradient == "none" for p in parameters):
        return True
    steps = [(i, e) for i, e in enumerate(recording.events) if e.kind == "step" and e.optimizer == index]
    return any(
        after[1].uncleared and not _gap(recording, before[0], after[0]) and not _added(recording, before[0], after[0], after[1].uncleared)
        for before, after in zip(steps, steps[1:])
    )
