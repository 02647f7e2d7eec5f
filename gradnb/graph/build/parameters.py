"""What the gradient did at each parameter of a gathered step: by the ways of autograd, and by what was read from ``.grad``."""

from __future__ import annotations

from ...recorder.recording import Parameter, Recording
from .gather import Gathered, _parameter
from .rest import some

_READ = {"ok": "flows", "zero": "zero", "nan": "nan", "inf": "inf"}  # recorded state of a gradient -> state of the node


def known(recording: Recording, found: Gathered, number: int) -> tuple[str, float | None] | None:
    """State and L2 norm of a parameter's gradient as the step found it, else at the end of the run; None where nobody read it."""
    step = recording.events[found.round.step] if found.round.step >= 0 else None
    if step is not None and number in step.states:
        return step.states[number]
    return next((s for e in reversed(found.round.events) if (s := recording.events[e].states.get(number)) is not None), None)


def drop_unfed(recording: Recording, found: Gathered, fed: set[int]) -> set[int]:
    """The parameters that end without a gradient, though there is a way and nobody cleared it: nothing came along their edges."""
    r = found.round
    if not r.events or any(not recording.events[e].ok for e in r.events):
        return set()
    cleared = _cleared(recording, found)
    without = {
        index
        for number, index in found.of_parameter.items()
        if index in fed and number not in cleared and (known(recording, found, number) or ("",))[0] == "none"
    }
    without |= _silent(recording, found, fed)
    for key, carries in found.carries.items():
        if carries and key[0] in without:
            found.carries[key] = False
            found.dropped.add(key)
    return without


def _silent(recording: Recording, found: Gathered, fed: set[int]) -> set[int]:
    """Leaves that no pass reached, as the input of a second derivative: the ``autograd.grad`` in between is drawn as one operation."""
    passes = {p.event: p for p in recording.profiles if p.event in found.round.events}
    stages = [stage for p in passes.values() for stage in p.stages]
    silent = found.origins.silent
    if len(passes) == len(found.round.events) and not any(s.parameter < 0 and s.node.endswith("AccumulateGrad") for s in stages):
        reached = {s.parameter for s in stages if s.parameter >= 0}
        silent |= {number for number, index in found.of_parameter.items() if index in fed and number not in reached}
        silent -= reached
    unread = [n for n in silent if n in found.of_parameter and (known(recording, found, n) or ("none",))[0] not in _READ]
    return {found.of_parameter[n] for n in unread} & fed


def _cleared(recording: Recording, found: Gathered) -> set[int]:
    """The parameters whose gradient was set to None after the last backward pass, before anybody read it."""
    r = found.round
    numbers: set[int] = set()
    for event in recording.events[r.events[-1] + 1 : r.step if r.step >= 0 else None]:
        if event.kind == "zero_grad":
            numbers.update(event.numbers)
            if event.optimizer is not None:
                numbers.update(n for group in recording.optimizers[event.optimizer].groups for n in group)
    return numbers


def give_parameters(recording: Recording, found: Gathered, fed: set[int], waiting: set[int]) -> None:
    """Set ``state`` and ``norm`` of the parameters; ``fed`` are the nodes that a gradient goes back to, ``waiting`` those behind a cut."""
    step = recording.events[found.round.step] if found.round.step >= 0 else None
    elsewhere = bool(found.foreign)
    failed = any(not recording.events[e].ok for e in found.round.events)
    for number, index in found.of_parameter.items():
        node, p = found.nodes[index], recording.parameters[number]
        read, norm = known(recording, found, number) or ("", None)
        if not node.requires_grad and (not p.trainable or step is not None and number in step.frozen):
            node.state, node.trainable = "frozen", False
        elif index in fed:
            node.state, node.norm = _READ.get(read, "data" if failed else "flows"), norm
        elif elsewhere and read in _READ and not p.hand_set:  # through code that was not recorded, as a note tells
            node.state, node.norm = _READ[read], norm
        else:  # what its .grad holds is of another loss or step
            node.state = "starved" if index in waiting else "data"


def add_absent(recording: Recording, found: Gathered, roots: set[str]) -> None:
    """The trainable parameters of the modules concerned that no loss of this step depends on, as far as was recorded."""
    unseen = []
    elsewhere = bool(found.foreign)
    for number, p in enumerate(recording.parameters):
        if number in found.of_parameter or not _concerned(p, roots):
            continue
        read, norm = known(recording, found, number) or ("", None)
        arrived = read in _READ and not p.hand_set
        if p.reached and not (arrived and elsewhere) or not arrived and p.gradient != "none":
            continue  # of another step of this run
        node = found.nodes[_parameter(recording, found, number, -1)]
        node.state, node.norm = (_READ[read], norm) if arrived else ("unused", None)
        node.order = -1.0
        if arrived:
            unseen.append(p.name)
    if unseen:
        noun = "parameter has" if len(unseen) == 1 else "parameters have"
        found.notes.append(f"{len(unseen)} {noun} a gradient that came on a way that was not recorded: {some(unseen)}")


def _concerned(p: Parameter, roots: set[str]) -> bool:
    return p.listed and p.trainable and p.registered and p.current and p.root in roots and p.alive
