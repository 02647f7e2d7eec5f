"""What ended the cell, where it is a gradient error whose cause lies elsewhere than the line that raised."""

from __future__ import annotations

import ast

from ..recorder.recording import Event, Location, Raised, Recording, Value
from .cuts import graph_of, group_cuts
from .graph import Cone
from .lead import Lead
from .path import gradient_path
from .places import mentioned

_REDUCTIONS = {"mean", "sum", "item", "max", "min", "norm", "backward"}


def raised(recording: Recording) -> list[Lead]:
    """Leads for the error that the cell died of."""
    if recording.raised is None:
        return []
    leads: list[Lead] = []
    for find in (_not_scalar, _inference, _no_backward):
        leads.extend(find(recording))
    return leads


# -- not-scalar ----------------------------------------------------------------------------------------------------------


def _not_scalar(recording: Recording) -> list[Lead]:
    event = next(
        (
            e
            for e in reversed(recording.events)
            if e.kind in ("backward", "grad") and not e.ok and "only for scalar outputs" in (e.error or "")
        ),
        None,
    )
    if event is None or recording.raised is None or not event.losses:
        return []
    graph = graph_of(recording)
    value = event.losses[0]
    made = recording.values[value].op
    symptom = recording.location(event.stack)
    stack = recording.ops[made].stack if made >= 0 else event.stack
    blamed, helper = _unreduced(recording, stack)
    lead = Lead("not-scalar", recording.sites[blamed] if blamed >= 0 else symptom, rank=95)
    lead.operation = recording.ops[made].name if made >= 0 else ""
    lead.expression = graph.slicer.text(lead.location) if lead.location else ""
    lead.details = {"shape": tuple(recording.values[value].shape or ()), "raised": True}
    if helper:
        lead.details["helper"] = helper
    if symptom is not None and lead.location != symptom:
        lead.related.append((symptom, "the error is raised here"))
    if stack and stack[0] != blamed:
        lead.related.append((recording.sites[stack[0]], "the values are computed here, one for each sample"))
    fed = graph.cone(event.losses).live.get(value, 0)
    lead.affected = [p.name for i, p in enumerate(recording.parameters) if fed >> i & 1 and p.listed]
    return [lead]


def _unreduced(recording: Recording, stack: tuple[int, ...]) -> tuple[int, str]:
    """The place that should have reduced: a caller that forgets what other callers do, else where the vector is made."""
    graph = graph_of(recording)
    for depth in range(len(stack) - 1):
        location = recording.sites[stack[depth]]
        if not graph.slicer.returned(location).holds(location):
            break
        caller = recording.sites[stack[depth + 1]]
        found = graph.slicer.at(caller)
        if found is None or not isinstance(found[2], ast.Call):
            break
        if _reduced_here(found[0].parents.get(found[2])):
            break
        if _reduced_elsewhere(graph, found[2], location.function):
            return stack[depth + 1], location.function
    return (stack[0] if stack else -1), ""


def _reduced_here(parent: ast.AST | None) -> bool:
    return isinstance(parent, ast.Attribute) and parent.attr in _REDUCTIONS


def _reduced_elsewhere(graph, call: ast.Call, function: str) -> bool:  # type: ignore[no-untyped-def]
    """Does another call of the same function reduce what it gets: ``f(…).mean()``, ``torch.mean(f(…))``."""
    for filename in list(graph.slicer.texts):
        source = graph.slicer.source(filename)
        if source is None or source.tree is None:
            continue
        for node in ast.walk(source.tree):
            if not isinstance(node, ast.Call) or node is call:
                continue
            name = node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id if isinstance(node.func, ast.Name) else ""
            if name != function:
                continue
            parent = source.parents.get(node)
            if _reduced_here(parent) or (
                isinstance(parent, ast.Call)
                and isinstance(parent.func, ast.Attribute)
                and parent.func.attr in ("mean", "sum")
                and node in parent.args
            ):
                return True
    return False


# -- inference tensors -----------------------------------------------------------------------------------------------------


def _inference(recording: Recording) -> list[Lead]:
    error = recording.raised
    if error is None or "nference tensor" not in error.message:
        return []
    graph = graph_of(recording)
    found = None
    if error.op >= 0:
        for value in recording.ops[error.op].inputs:
            found = found or _made_in_inference(recording, value)
    if found is None:
        return _inference_before(recording, error)
    region, made = found
    lead = Lead("inference-tensor", recording.sites[recording.regions[region].site], rank=98)
    lead.operation = recording.ops[made].name
    lead.expression = lead.location.code if lead.location else ""
    lead.details = {"region": "inference_mode", "decorator": recording.regions[region].decorator, "raised": True}
    where = recording.location(recording.ops[made].stack)
    if where is not None:
        lead.related.append((where, f"the tensor is made here, in inference mode: {graph.text(made)}"))
    symptom = recording.location(error.stack)
    if symptom is not None:
        lead.related.append((symptom, "and is used here, where autograd would have to save it"))
    return [lead]


def _inference_before(recording: Recording, error: Raised) -> list[Lead]:
    """The tensor was made before the recording: the earlier code that reads like it."""
    inputs = recording.ops[error.op].inputs if error.op >= 0 else ()
    seen = [v for v in inputs if recording.values[v].inference or recording.values[v].op >= 0]
    places = mentioned(recording, "inference_mode")
    if not places or not seen and error.op >= 0:
        return []
    lead = Lead("inference-tensor", places[0], rank=98, expression=places[0].code)
    lead.details = {"region": "inference_mode", "decorator": places[0].code.startswith("@"), "raised": True}
    symptom = recording.location(error.stack)
    if symptom is not None:
        lead.related.append((symptom, "a tensor made in inference mode is used here, where autograd would have to save it"))
    return [lead]


def _made_in_inference(recording: Recording, value: int) -> tuple[int, int] | None:
    """The region and the op that made a value in inference mode, seen through views of it."""
    for _ in range(64):
        made = recording.values[value].op
        if made < 0:
            return None
        op = recording.ops[made]
        if op.region >= 0 and recording.regions[op.region].kind == "inference_mode":
            return op.region, made
        if not op.inputs:
            return None
        value = op.inputs[0]
    return None


# -- a loss that is no tensor ------------------------------------------------------------------------------------------------


def _no_backward(recording: Recording) -> list[Lead]:
    """``loss.backward()`` on a number: follow the expression back to where its tensors left torch."""
    error = recording.raised
    if error is None or error.type != "AttributeError" or "has no attribute 'backward'" not in error.message or not error.stack:
        return []
    graph = graph_of(recording)
    value = len(recording.values)
    recording.values.append(Value(-1, False, "python", (), kind="python"))
    graph._parents[value] = graph.of_receiver(value, error.stack, len(recording.ops))
    recording.events.append(Event("backward", error.stack, len(recording.ops), False, error.message, (value,)))
    cone: Cone = graph.cone((value,))
    numbers = list(dict.fromkeys(n for o in recording.optimizers for g in o.groups for n in g)) or [
        i for i, p in enumerate(recording.parameters) if p.listed and p.ever_trainable
    ]
    mask = sum(1 << n for n in numbers) & cone.reached()
    groups = group_cuts(graph, cone, mask) if mask else []
    if not groups:
        return []
    best = max(groups, key=lambda g: (g.starved.bit_count(), g.depth))
    cut = best.first
    names = [recording.parameters[n].name for n in numbers if best.starved >> n & 1]
    location: Location = recording.sites[cut.site]
    lead = Lead(cut.cause, location, operation=cut.operation, affected=names, rank=120)
    lead.expression = graph.slicer.text(location)
    lead.details = {**cut.details, "raised": True, "loss": graph.slicer.text(recording.sites[error.stack[0]]).split(".backward")[0]}
    lead.related.append((recording.sites[error.stack[0]], "the loss is a Python number here, so it has no backward()"))
    lead.path = gradient_path(graph, cone, cut.edge, next(n for n in numbers if best.starved >> n & 1))
    return [lead]
