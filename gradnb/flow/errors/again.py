"""A graph that is walked a second time: which tensor brought the old graph along, and which backward had freed it."""

from __future__ import annotations

import ast
from dataclasses import dataclass

from ...recorder.recording import Event, Location, Recording
from ..cuts import graph_of, loss_text
from ..graph import Cone
from ..lead import Lead
from ..places import locate
from ..rounds import held, meant_for
from .carried import Kept, kept
from .history import RANK, Crossing, apart, crossing, failed, history, keeps, late, relate, shared
from .sources import behind

MESSAGE = "backward through the graph a second time"


def again(recording: Recording) -> list[Lead]:
    """The lead for "Trying to backward through the graph a second time"."""
    event = failed(recording, MESSAGE)
    if event is None or not event.losses:
        return late(recording, "second-backward", MESSAGE)
    crossing = _crossing(recording, event)
    if crossing is None:
        return _from_before(recording, event)
    return [_finished(recording, event, crossing, _place(recording, event, crossing))]


def _crossing(recording: Recording, event: Event) -> Crossing | None:
    graph = graph_of(recording)
    cone = graph.cone(event.losses)
    mine = history(cone)
    position = recording.events.index(event)
    for earlier in reversed(recording.events[:position]):
        if earlier.kind not in ("backward", "grad") or earlier.retain or not earlier.losses:
            continue
        common = shared(recording, mine, history(graph.cone(earlier.losses)))
        found = crossing(recording, cone, common, mine, earlier) if any(keeps(recording, v) for v in common) else None
        if found is not None:
            return found
    return None


# -- which line --------------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Place:
    kind: str  # "carried", "loss", "branch", "shared", "recompute", "twice", "grad"
    location: Location | None
    name: str = ""
    event: Event | None = None  # the backward pass that kept the old graph


def _place(recording: Recording, event: Event, found: Crossing) -> Place:
    earlier = found.freed_by
    made = recording.values[found.value].op
    producer = recording.ops[made].stack if made >= 0 else ()
    used = recording.ops[found.op].stack if found.op >= 0 else event.stack
    repeated = any(e.stack == event.stack and e.ok for e in recording.events if e.kind == event.kind and e is not event)
    if earlier.kind == "grad" and earlier.stack != event.stack:
        return Place("grad", deciding(recording, earlier.stack, "retain_graph"))
    if not producer:
        return Place("before", _assigned_before(recording, used) or recording.location(used))
    if found.op < 0 and earlier.stack != event.stack and not repeated:
        return Place("twice", freeing(recording, earlier, event))
    if repeated:
        where = kept(recording, producer, used, earlier.stack, event.stack)
        return Place("loss" if found.op < 0 else "carried", where.location if where else recording.location(producer), _called(where))
    branch = _branch(recording, event, found)
    if branch is not None:
        return Place("branch", branch, _taken_in(recording, branch, _producer_name(recording, event, found)))
    if _moved_between(recording, event, found):
        where = kept(recording, producer, used, earlier.stack, event.stack)
        return Place("recompute", where.location if where else recording.location(producer), _called(where))
    return Place("shared", freeing(recording, earlier, event), _producer_name(recording, event, found))


def _called(where: Kept | None) -> str:
    return where.name if where is not None else ""


def _producer_name(recording: Recording, event: Event, found: Crossing) -> str:
    producer = recording.ops[recording.values[found.value].op].stack
    used = recording.ops[found.op].stack if found.op >= 0 else event.stack
    return _called(kept(recording, producer, used, found.freed_by.stack, event.stack))


def _taken_in(recording: Recording, location: Location, guess: str) -> str:
    """What the expression at a place calls the tensor that it takes in: a call's only argument, else the guess where it stands there."""
    found = graph_of(recording).slicer.at(location)
    if found is None:
        return guess
    call = found[2] if isinstance(found[2], ast.Call) else None
    operands = [*call.args, *(k.value for k in call.keywords)] if call is not None else [found[2]]
    if call is not None and len(operands) == 1 and isinstance(operands[0], (ast.Name, ast.Attribute, ast.Subscript)):
        return ast.unparse(operands[0])
    return guess if guess in {ast.unparse(n) for operand in operands for n in ast.walk(operand)} else ""


def deciding(recording: Recording, stack: tuple[int, ...], keyword: str) -> Location | None:
    """The call where an option is decided: further out, where a helper takes it as an argument or leaves it at its default."""
    slicer = graph_of(recording).slicer
    for depth, site in enumerate(stack):
        found = slicer.at(recording.sites[site])
        call = found[2] if found is not None else None
        if not isinstance(call, ast.Call) or found is None:
            return recording.sites[site]
        given = next((k.value for k in call.keywords if k.arg == keyword), None)
        parameters = found[0].bindings(found[1]).parameters
        passed = given is not None and any(isinstance(n, ast.Name) and n.id in parameters for n in ast.walk(given))
        if not passed and (depth == 0 or given is None):
            return recording.sites[site]
    return recording.location(stack)


def freeing(recording: Recording, earlier: Event, event: Event) -> Location | None:
    """The backward call that freed the graph; where both run through one helper, the call of that helper."""
    if earlier.stack and event.stack and earlier.stack[0] != event.stack[0]:
        return recording.location(earlier.stack)
    return apart(recording, earlier.stack, event.stack)


def _branch(recording: Recording, event: Event, found: Crossing) -> Location | None:
    """Where one of the two losses should have detached the tensor, because its optimizer trains nothing behind it."""
    graph = graph_of(recording)
    behind = graph.cone(event.losses).live.get(found.value, 0)
    earlier = found.freed_by
    first = meant_for(recording, earlier)
    theirs = _consumers(recording, graph.cone(earlier.losses), found)
    mine = _consumers(recording, graph.cone(event.losses), found)
    made = recording.ops[recording.values[found.value].op].stack
    if first and not first & behind and theirs:
        return _innermost(recording, theirs[0], [made, *mine])
    second = meant_for(recording, event)
    if second and not second & behind and mine:
        return _innermost(recording, mine[0], [made, *theirs])
    return None


def _consumers(recording: Recording, cone: Cone, found: Crossing) -> list[tuple[int, ...]]:
    """Stacks of the calls by which a loss takes in the tensor, without the part that both losses have in common."""
    edges = [e for e in cone.children.get(found.value, ()) if e.carries and e.target not in found.common]
    return [recording.ops[e.op].stack for e in edges if recording.ops[e.op].stack]


def _innermost(recording: Recording, stack: tuple[int, ...], others: list[tuple[int, ...]]) -> Location:
    """The outermost frame of a stack in which the call serves this loss alone."""
    mine = list(reversed(stack))
    rest = [list(reversed(o)) for o in others]
    depth = 0
    while depth < len(mine) - 1 and any(o[: depth + 1] == mine[: depth + 1] for o in rest):
        depth += 1
    return recording.sites[mine[depth]]


def _moved_between(recording: Recording, event: Event, found: Crossing) -> bool:
    """Did an optimizer step change parameters behind the tensor since it was made: then keeping the graph would not help."""
    behind = graph_of(recording).cone(event.losses).live.get(found.value, 0)
    start, end = recording.events.index(found.freed_by), recording.events.index(event)
    steps = [e for e in recording.events[start:end] if e.kind == "step" and e.optimizer is not None]
    return any(held(recording, e.optimizer) & behind for e in steps)  # type: ignore[arg-type]


# -- the lead ----------------------------------------------------------------------------------------------------------------


def _finished(recording: Recording, event: Event, found: Crossing, place: Place) -> Lead:
    graph = graph_of(recording)
    lead = Lead("second-backward", place.location, rank=RANK)
    lead.expression = place.location.code if place.location else ""
    lead.details = {"kind": place.kind, "name": place.name, "loss": loss_text(graph, graph.cone(event.losses)), "raised": True}
    made = recording.values[found.value].op
    if made >= 0:
        lead.operation = recording.ops[made].name
        relate(lead, recording.location(recording.ops[made].stack), f"the tensor is made here: `{graph.text(made)}`")
    if found.op >= 0:
        relate(lead, recording.location(recording.ops[found.op].stack), "its old graph is used again here")
    freed = "autograd.grad()" if found.freed_by.kind == "grad" else "backward pass"
    relate(lead, freeing(recording, found.freed_by, event), f"this {freed} freed the graph")
    relate(lead, recording.location(event.stack), "the error is raised here")
    return lead


def _from_before(recording: Recording, event: Event) -> list[Lead]:
    """The graph was freed before the recording: by an earlier cell, or by code that is not recorded."""
    graph = graph_of(recording)
    cone = graph.cone(event.losses)
    old = sorted(v for v in history(cone) if recording.values[v].op < 0)
    lead = Lead("second-backward", recording.location(event.stack), rank=RANK)
    lead.details = {"kind": "before" if old else "unknown", "name": "", "loss": loss_text(graph, cone), "raised": True}
    if old:
        met = recording.met.get(old[0])
        used = recording.ops[met[0]].stack if met is not None and met[0] < len(recording.ops) else event.stack
        made = _assigned_before(recording, used)
        lead.location = made or recording.location(used)
        relate(lead, recording.location(used), "its old graph is used again here")
    lead.expression = lead.location.code if lead.location else ""
    relate(lead, recording.location(event.stack), "the error is raised here")
    return [lead]


def _assigned_before(recording: Recording, used: tuple[int, ...]) -> Location | None:
    """The statement of another cell that gave the tensor its name, by what the expression reads."""
    slicer = graph_of(recording).slicer
    running = [recording.sites[s] for s in used if recording.sites[s].cell is not None]
    here = max(running, key=lambda place: place.cell or 0).filename if running else ""
    for filename, expression in behind(recording, used).expressions:
        source = slicer.source(filename)
        if source is None or filename == here or not isinstance(expression, (ast.Call, ast.BinOp)):
            continue
        statement = source.statement(expression)
        if isinstance(statement, (ast.Assign, ast.AugAssign, ast.AnnAssign)):
            return locate(recording, source, statement)
    return None
