"""A tensor that autograd needed and that was changed: which line needed it, which line changed it."""

from __future__ import annotations

from dataclasses import dataclass

from ...recorder.recording import Event, Op, Recording, Spoiled
from ..cuts import graph_of, loss_text
from ..graph import Graph
from ..lead import Lead
from .again import Place
from .built import constructor
from .carried import kept
from .history import RANK, apart, crossing, failed, history, late, relate, shared
from .leaf import leaf

MESSAGE = "modified by an inplace operation"
_FORWARD = (
    "is a view and is being modified inplace",
    "is a view and its base or another view of its base has been modified inplace",
    "A view was created in",
)


@dataclass(slots=True)
class Write:
    """One change: by a call, by an optimizer step, or by load_state_dict."""

    time: int
    stack: tuple[int, ...]
    kind: str  # "call", "step" or "load"
    op: int = -1


def modified(recording: Recording) -> list[Lead]:
    """The lead for "one of the variables needed for gradient computation has been modified by an inplace operation"."""
    event = failed(recording, MESSAGE)
    if event is None:
        return _views(recording) or late(recording, "inplace-modified", MESSAGE)
    graph = graph_of(recording)
    spoiled = _first(recording, event)
    if spoiled is None:
        return [_bare(recording, event, "")]
    writes = _writes(graph, spoiled, event)
    if not writes:
        return [_bare(recording, event, spoiled.writer)]
    write = writes[0]
    needed = recording.ops[spoiled.op] if spoiled.op >= 0 else None
    if write.kind == "step" and needed is not None:
        old = _kept_alive(recording, event, spoiled)
        if old is not None:
            return [_stale(recording, event, old, write)]
    return [_lead(recording, event, spoiled, writes)]


def _first(recording: Recording, event: Event) -> Spoiled | None:
    """The changed tensor that the error is about: of several with its message, the one nearest to the loss."""
    message = (event.error or "").partition(": ")[2]
    exact = [s for s in recording.spoiled if s.message and s.message[:300] == message[:300]]
    known = [s for s in exact or recording.spoiled if s.op >= 0]
    if known:
        return max(known, key=lambda s: s.op)
    return next(iter(exact or recording.spoiled), None)


# -- who wrote -----------------------------------------------------------------------------------------------------------------


def _writes(graph: Graph, spoiled: Spoiled, event: Event) -> list[Write]:
    """The changes of the saved tensor after it was saved, in order."""
    recording = graph.recording
    groups, parameters = _memory(recording, spoiled)
    start = spoiled.op
    found: list[Write] = []
    for index in range(max(start + 1, 0), min(event.time, len(recording.ops))):
        op = recording.ops[index]
        if op.kind == "inplace" and op.stack and _writes_into(graph, op, groups):
            found.append(Write(index, op.stack, "call", index))
    for step in recording.events:
        if step.kind == "step" and start < step.time <= event.time and step.optimizer is not None and step.stack:
            held = {n for g in recording.optimizers[step.optimizer].groups for n in g}
            if held & parameters:
                found.append(Write(step.time, step.stack, "step"))
    for number, time, stack in recording.writes:
        if number in parameters and start < time <= event.time and stack:
            found.append(Write(time, stack, "load"))
    return sorted(found, key=lambda w: w.time)


def _memory(recording: Recording, spoiled: Spoiled) -> tuple[set[int], set[int]]:
    """Memory groups and parameters that the saved tensor can be: what shares its memory, else what fits its shape."""
    values = list(spoiled.values)
    if spoiled.op >= 0:
        op = recording.ops[spoiled.op]
        near = [*op.inputs, *op.outputs]
        fitting = [v for v in near if sorted(recording.values[v].shape or ()) == sorted(spoiled.shape)]
        values = [*values, *(fitting if not values else [])] or near
    groups = {recording.values[v].group for v in values}
    parameters = {p for v in values if (p := recording.values[v].parameter) >= 0}
    for value in recording.values:
        if value.group in groups and value.parameter >= 0:
            parameters.add(value.parameter)
    return groups, parameters


def _writes_into(graph: Graph, op: Op, groups: set[int]) -> bool:
    values = graph.recording.values
    if op.name == "data":
        return False  # a new tensor in place of the old one: autograd keeps the old
    if op.outputs:
        return values[op.outputs[0]].group in groups and not _through_data(graph, op.inputs[0] if op.inputs else -1)
    return op.name.startswith("_foreach") and any(values[v].group in groups for v in op.inputs)


def _through_data(graph: Graph, value: int) -> bool:
    """Was it written through ``.data``, which autograd does not count."""
    recording = graph.recording
    for _ in range(16):
        made = recording.values[value].op if value >= 0 else -1
        if made < 0:
            return False
        op = recording.ops[made]
        if op.kind == "cut" and op.name == "data":
            return True
        value = op.inputs[0] if op.inputs else -1
    return False


# -- a graph kept alive over a step ----------------------------------------------------------------------------------------------


def _kept_alive(recording: Recording, event: Event, spoiled: Spoiled) -> Place | None:
    """Does the loss hang on a tensor of an earlier round, whose graph ``retain_graph=True`` kept: the step only brings it to light."""
    graph = graph_of(recording)
    cone = graph.cone(event.losses)
    mine = history(cone)
    position = recording.events.index(event)
    for earlier in reversed(recording.events[:position]):
        if earlier.kind != "backward" or not earlier.losses or earlier.time <= spoiled.op:
            continue
        if earlier.stack != event.stack:
            continue
        common = shared(recording, mine, history(graph.cone(earlier.losses)))
        if not common & set(recording.ops[spoiled.op].outputs):
            return None
        found = crossing(recording, cone, common, mine, earlier)
        made = recording.values[found.value].op if found is not None else -1
        if found is None or made < 0:
            return None
        used = recording.ops[found.op].stack if found.op >= 0 else event.stack
        where = kept(recording, recording.ops[made].stack, used, earlier.stack, event.stack)
        if where is None:
            return None
        return Place("loss" if found.op < 0 else "carried", where.location, where.name, earlier)
    return None


def _stale(recording: Recording, event: Event, place: Place, write: Write) -> Lead:
    graph = graph_of(recording)
    lead = Lead("second-backward", place.location, rank=RANK)
    lead.expression = place.location.code if place.location else ""
    lead.details = {
        "kind": place.kind,
        "name": place.name,
        "loss": loss_text(graph, graph.cone(event.losses)),
        "raised": True,
        "kept": True,
    }
    if place.event is not None:
        relate(lead, recording.location(place.event.stack), "`retain_graph=True` keeps the old graph alive here")
    relate(lead, recording.location(write.stack), "the optimizer changes weights that the old graph needs")
    relate(lead, recording.location(event.stack), "the error is raised here")
    return lead


# -- the lead ---------------------------------------------------------------------------------------------------------------------


def _lead(recording: Recording, event: Event, spoiled: Spoiled, writes: list[Write]) -> Lead:
    graph = graph_of(recording)
    write = writes[0]
    needed = recording.location(recording.ops[spoiled.op].stack) if spoiled.op >= 0 else None
    location = recording.location(write.stack)
    lead = Lead("inplace-modified", location, rank=RANK)
    lead.details = {"kind": write.kind, "loss": loss_text(graph, graph.cone(event.losses)), "raised": True, "times": spoiled.writes}
    if write.kind == "call":
        op = recording.ops[write.op]
        lead.operation, lead.expression = op.name, graph.text(write.op)
        built = constructor(recording, op)
        if built is not None:
            lead.details["module"] = op.module or ""
            lead.location, lead.expression = built, built.code
            relate(lead, location, "it runs here and overwrites its own input")
    else:
        lead.expression = location.code if location else ""
    if spoiled.op >= 0:
        op = recording.ops[spoiled.op]
        lead.details["needed"] = graph.text(spoiled.op)
        names = [recording.parameters[p].name for v in op.inputs if (p := recording.values[v].parameter) >= 0]
        if write.kind != "call":
            lead.details["names"] = names
            # the frame in which the forward pass and the step part: there one of the two has to move
            relate(lead, apart(recording, op.stack, write.stack), "the forward pass that needs the old weights")
        else:
            relate(lead, needed, f"the backward pass of `{graph.text(spoiled.op)}` needs the old values")
    for other in writes[1:3]:
        relate(lead, recording.location(other.stack), "changed here too")
    relate(lead, recording.location(event.stack), "the error is raised here")
    return lead


def _bare(recording: Recording, event: Event, writer: str) -> Lead:
    """Nothing recorded wrote it: say what autograd says, at the line that needs it."""
    graph = graph_of(recording)
    spoiled = _first(recording, event)
    needed = recording.ops[spoiled.op].stack if spoiled is not None and spoiled.op >= 0 else event.stack
    lead = Lead("inplace-modified", recording.location(needed), rank=RANK, operation=writer)
    lead.expression = lead.location.code if lead.location else ""
    lead.details = {"kind": "unseen", "loss": loss_text(graph, graph.cone(event.losses)), "raised": True}
    relate(lead, recording.location(event.stack), "the error is raised here")
    return lead


def _views(recording: Recording) -> list[Lead]:
    """A view that may not be written at all: one of several that one call gave, or one made without gradients."""
    error = recording.raised
    if error is None or not any(text in error.message for text in _FORWARD) or not error.stack:
        return []
    graph = graph_of(recording)
    op = recording.ops[error.op] if error.op >= 0 else None
    lead = Lead("inplace-modified", recording.location(error.stack), rank=RANK, operation=op.name if op else "")
    lead.expression = graph.text(error.op) if op else (lead.location.code if lead.location else "")
    lead.details = {"kind": "view", "raised": True}
    if leaf(recording):
        return []  # a view of a leaf: that file's subject
    made = recording.values[op.inputs[0]].op if op is not None and op.inputs else -1
    if made >= 0:
        relate(lead, recording.location(recording.ops[made].stack), f"the view is made here: `{graph.text(made)}`")
    return [lead]
