"""One run of the cell in a child: under a recorder, with a repair or without one, told as Facts."""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch.optim.optimizer import register_optimizer_step_post_hook

from ..flow.cuts import Group, graph_of, group_cuts
from ..flow.inert import inert
from ..flow.starved import hungry
from ..recorder.build import build
from ..recorder.recorder import Recorder
from ..recorder.recording import Parameter, Recording
from . import carried, functions, leaves, regions, rewrite, sandbox
from .claim import WIRING, Attempt, Claim, Kind
from .facts import Facts, Fed, Rival, known_as
from .repair import Repair, RepairMode
from .tensors import HANDLERS, factory
from .wiring import Wiring


@dataclass(slots=True)
class Cell:
    """A piece of code that can be run again. ``run`` gives back what it raised; ``statements`` are about to run, by file name."""

    run: Callable[[], BaseException | None]
    recorder: Callable[[], Recorder]
    statements: dict[str, list[ast.stmt]]


def control(cell: Cell, claims: list[Claim], tell: Callable[[Facts], None]) -> None:
    """Run it as it is. ``tell`` gets the facts and does not come back."""
    recorder = cell.recorder()
    watch = Repair((), recorder.frames, _terms(claims))
    RepairMode(watch, {}, _no_factory).__enter__()

    def finish(error: BaseException | None) -> None:
        recorder.stop(error)
        recording = build(recorder)
        facts = _facts(recorder, recording, error)
        facts.rivals = [_rivals(recording, claim) for claim in claims]
        dead = {(lead.location.filename, lead.location.line) for lead in inert(recording) if lead.location is not None}
        facts.kills = [(claim.location.filename, claim.location.line) in dead for claim in claims]
        facts.zeros = [_zeros(recording, claim) for claim in claims]
        facts.terms = watch.terms
        tell(facts)

    recorder.start()
    _after_each_step(lambda: None if recorder.recording else finish(None))
    finish(cell.run())


def repaired(cell: Cell, claim: Claim, attempt: Attempt, tell: Callable[[Facts], None]) -> None:
    """Run it with a repair. ``tell`` gets the facts and does not come back."""
    recorder = cell.recorder()
    repair = Repair(attempt.spots, recorder.frames, _terms([claim]))
    wiring = Wiring(repair, claim, recorder)
    carried.accept()
    for room in (leaves, regions, functions):
        room.install(repair)
    if repair.kinds & WIRING:
        wiring.install()
    if rewrite.needed(repair):
        rewrite.install(repair, wiring, cell.statements, recorder.cells)

    def finish(error: BaseException | None) -> None:
        recorder.stop(error)
        recording = build(recorder)
        facts = _facts(recorder, recording, error)
        facts.hits, facts.came_back, facts.terms = dict(repair.hits), repair.came_back, repair.terms
        last = _last_steps(recording)
        facts.witnesses = [_fed(recording, recorder.census.number(tensor), last) for tensor in repair.witnesses]
        tell(facts)

    def enough() -> None:
        """Stop as soon as all that the claim is about is fed, or the recorded steps are over; what is frozen may thaw later."""
        fed = not repair.kinds & WIRING and claim.affected and recorder.recording and _all_fed(recorder, claim)
        if fed or not recorder.recording and Kind.FROZEN not in repair.kinds:
            finish(None)

    # below the recorder's mode, which then sees each call as the user made it
    RepairMode(repair, HANDLERS, factory).__enter__()
    recorder.start()
    _after_each_step(enough)
    finish(cell.run())


def _terms(claims: list[Claim]) -> set[tuple[str, int]]:
    return {(claim.term.filename, claim.term.line) for claim in claims if claim.term is not None}


def _no_factory(*args: Any) -> Any:
    return NotImplemented


def _after_each_step(action: Callable[[], None]) -> None:
    register_optimizer_step_post_hook(lambda optimizer, args, kwargs: action())


def _all_fed(recorder: Recorder, claim: Claim) -> bool:
    numbers = {person.name: person.number for person in recorder.census.people if person.name}
    fed = {n for event in recorder.events if event.kind == "step" for n, (state, _) in event.states.items() if state == "ok"}
    return all(numbers.get(known_as(name, numbers) or "") in fed for name in claim.affected)


def _facts(recorder: Recorder, recording: Recording, error: BaseException | None) -> Facts:
    last = _last_steps(recording)
    return Facts(
        parameters={p.name: _fed(recording, number, last) for number, p in enumerate(recording.parameters)},
        raised=(type(error).__name__, str(error)[:300]) if error is not None else None,
        refused=str(error) if isinstance(error, sandbox.Refused) else "",
        steps=sum(event.kind == "step" for event in recording.events),
        problem=recorder.problem or "",
    )


def _fed(recording: Recording, number: int, last: dict[int, str]) -> Fed:
    if number >= len(recording.parameters):
        return Fed()
    p: Parameter = recording.parameters[number]
    state = "ok" if p.fed_late and p.gradient in ("none", "zero") else p.gradient
    return Fed(state, p.grad_norm, last.get(number) == "ok", bool(p.moved))


def _last_steps(recording: Recording) -> dict[int, str]:
    """The gradients at the last step of each optimizer that lives, or of the very last step."""
    found: dict[int, str] = {}
    steps = [event for event in recording.events if event.kind == "step"]
    newest = {event.optimizer: event for event in steps if event.optimizer is not None}
    for index, event in newest.items():
        if recording.optimizers[index].alive or event is steps[-1]:
            found.update({number: state for number, (state, _) in event.states.items()})
    return found


def _numbers(recording: Recording, claim: Claim) -> set[int]:
    """The parameters that the claim is about."""
    numbers = {p.name: n for n, p in enumerate(recording.parameters)}
    return {numbers[known] for name in claim.affected if (known := known_as(name, numbers)) is not None}


def _rivals(recording: Recording, claim: Claim) -> list[Rival]:
    """Other lines that cut the same parameters off on the way to the same loss."""
    wanted = _numbers(recording, claim)
    found: dict[Rival, None] = {}
    graph = graph_of(recording)
    cones: list[list[Rival]] = []
    for hunger in hungry(recording):
        mask = sum(1 << n for n in hunger.parameters if n in wanted)
        for losses in hunger.losses[:4] if mask else ():
            groups = [group for group in group_cuts(graph, graph.cone(losses), mask) if group.starved & mask]
            cones.append([_rival(recording, group) for group in groups])
    here = (claim.location.filename, claim.location.line)
    own = [cone for cone in cones if any((rival.filename, rival.line) == here for rival in cone)]
    found.update((rival, None) for cone in own or cones for rival in cone if rival.cause)
    for birth in recording.births:
        if birth.kind.startswith("custom") and birth.site >= 0 and wanted.intersection(birth.parameters):
            place = recording.sites[birth.site]
            found[Rival("custom-function", place.filename, place.line)] = None
    return list(found)


def _zeros(recording: Recording, claim: Claim) -> frozenset[str]:
    """How a gradient of the claim's parameters became zero at its line."""
    wanted = _numbers(recording, claim)
    born = [birth for birth in recording.births if birth.stack and wanted.intersection(birth.parameters)]
    places = [(recording.sites[birth.stack[0]], birth.kind) for birth in born]
    return frozenset(kind for place, kind in places if (place.filename, place.line) == (claim.location.filename, claim.location.line))


def _rival(recording: Recording, group: Group) -> Rival:
    """A cut, without a cause where it is seldom missed: it only chose positions, and was no coordinate that somebody rounded."""
    cut, place = group.first, recording.sites[group.first.site]
    chooses = group.indexed and cut.cause != "integer-cast"
    return Rival("" if chooses else cut.cause, place.filename, place.line)
