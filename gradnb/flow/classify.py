"""Names the cause of a lost edge: what kind of operation dropped the history, and at which place."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass, field

from ..recorder.recording import Location, Recording
from .graph import CHECKPOINT, Edge, Graph

_CASTS = set("long int short char byte bool to type type_as".split())
_NUMPY = set("numpy __array__".split())


@dataclass(slots=True)
class Cut:
    """A lost edge with its cause. ``key`` is equal for edges that one repair would mend together."""

    cause: str
    site: int
    operation: str
    key: tuple
    edge: Edge
    details: dict = field(default_factory=dict)


def classify(graph: Graph, edge: Edge) -> Cut | None:
    """The Cut for an edge that loses the gradient, None where no line of the user's can be blamed."""
    recording = graph.recording
    op = recording.ops[edge.op]
    site = op.stack[0] if op.stack else -1
    if op.kind == "escape":
        cause = "numpy" if op.name in _NUMPY else "item"
        details = {"into": _into(graph, edge)}
        if op.name in ("__float__", "__index__", "__int__") and site >= 0 and _packs(graph.slicer.text(recording.sites[site])):
            cause = "rewrap"
        return Cut(cause, site, op.name, (cause, _line(recording, site)), edge, details=details)
    if op.kind == "cut":
        cause = "reparameter" if op.name == "deepcopy" else "data" if op.name == "data" else "detach"
        return Cut(cause, site, op.name, (cause, _line(recording, site)), edge)
    if op.kind == "leaf":
        return Cut("reparameter", site, op.name, ("reparameter", _line(recording, site)), edge)
    if op.name in ("linspace", "logspace"):  # the ends may be tensors, and neither has a derivative
        return Cut("nondifferentiable", site, op.name, ("nondifferentiable", _line(recording, site)), edge)
    if op.kind == "factory":
        return Cut("rewrap", site, op.name, ("rewrap", _line(recording, site)), edge, details={"into": f"torch.{op.name}"})
    if op.kind == "inplace" and op.name == "data":
        return Cut("data", site, ".data =", ("data", _line(recording, site)), edge)
    if op.kind == "function":
        return _function(recording, edge, site)
    if op.kind == "grad":
        return Cut("not-twice-differentiable", site, op.name, ("grad", _line(recording, site)), edge)
    if not op.grad_enabled and op.parent < 0:
        return _region(graph, edge, site)
    if op.kind == "inplace":
        alias = _alias(graph, op.inputs[0] if op.inputs else -1)
        cause = alias or "rewrap"
        return Cut(cause, site, op.name, (cause, _line(recording, site)), edge)
    target = recording.values[edge.target]
    if target.requires_grad:
        return None  # this input has no derivative, another one carries on: an index, a mask
    if target.dtype.startswith(("int", "uint", "bool")) and op.name in _CASTS:
        return Cut("integer-cast", site, op.name, ("integer-cast", _line(recording, site)), edge, details={"dtype": target.dtype})
    return Cut("nondifferentiable", site, op.name, ("nondifferentiable", _line(recording, site)), edge)


def hard(graph: Graph, edge: Edge) -> Cut | None:
    """The cut of an edge that no switch could mend: a number, an index, a comparison, whatever the grad mode was."""
    recording = graph.recording
    op = recording.ops[edge.op]
    site = op.stack[0] if op.stack else -1
    if site < 0:
        return None
    if op.kind == "escape":
        return classify(graph, edge)
    source, target = recording.values[edge.source], recording.values[edge.target]
    whole = ("int", "uint", "bool")
    if op.kind == "op" and not edge.chooses and target.dtype.startswith(whole) and not source.dtype.startswith(whole):
        cause = "integer-cast" if op.name in _CASTS else "nondifferentiable"
        return Cut(
            cause, site, op.name, (cause, _line(recording, site)), edge, details={"dtype": target.dtype} if op.name in _CASTS else {}
        )
    return None


def without_graph(graph: Graph, index: int) -> Location:
    """Where it was decided that a gradient gets no graph: outside of the helpers that hand ``create_graph`` on."""
    sites = [graph.recording.sites[s] for s in graph.recording.ops[index].stack]
    passed = "create_graph"
    for place in sites[:-1]:
        found = graph.slicer.at(place)
        call = found[2] if found is not None else None
        if found is None or not isinstance(call, ast.Call):
            return place
        value = next((k.value for k in call.keywords if k.arg == passed), None)
        if not isinstance(value, ast.Name) or value.id not in found[0].bindings(found[1]).parameters:
            return place
        passed = value.id
    return sites[-1]


def _line(recording: Recording, site: int) -> tuple:
    if site < 0:
        return ("", 0)
    location = recording.sites[site]
    return (location.filename, location.line)


def _region(graph: Graph, edge: Edge, site: int) -> Cut | None:
    recording = graph.recording
    op = recording.ops[edge.op]
    region = recording.regions[op.region] if op.region >= 0 else None
    if region is None:
        return Cut("no-grad", site, "no_grad", ("no-grad", _line(recording, site)), edge, details={"region": "no_grad"})
    if region.library == "torch.distributions":
        details = {"library": region.library}
        return Cut("nondifferentiable", site, "sample", ("nondifferentiable", _line(recording, site)), edge, details=details)
    switched: dict = {"region": region.kind, "decorator": region.decorator}
    return Cut("no-grad", region.site, region.kind, ("no-grad", _line(recording, region.site)), edge, details=switched)


def _function(recording: Recording, edge: Edge, site: int) -> Cut:
    op = recording.ops[edge.op]
    if CHECKPOINT in (op.function or ""):
        return Cut("checkpoint-reentrant", site, "checkpoint", ("checkpoint-reentrant", _line(recording, site)), edge)
    if edge.source not in op.inputs:
        details = {"function": op.function, "missing": "reads a tensor that is not among its arguments"}
        return Cut("custom-function", site, "apply", ("custom-function", op.function), edge, details=details)
    if not op.grad_enabled:
        region = recording.regions[op.region] if op.region >= 0 else None
        if region is not None:
            return Cut(
                "no-grad", region.site, region.kind, ("no-grad", _line(recording, region.site)), edge, details={"region": region.kind}
            )
    return Cut("custom-function", site, "apply", ("custom-function", op.function), edge, details={"function": op.function})


def _alias(graph: Graph, value: int) -> str | None:
    """Was the written tensor a ``.data`` or a detached view."""
    recording = graph.recording
    for _ in range(16):
        made = recording.values[value].op if value >= 0 else -1
        if made < 0:
            return None
        op = recording.ops[made]
        if op.kind == "cut":
            return "data" if op.name == "data" else "detach"
        if not op.inputs:
            return None
        value = op.inputs[0]
    return None


def _into(graph: Graph, edge: Edge) -> str:
    """What brought an escaped number back: ``torch.tensor`` and its like, in the user's words."""
    made = graph.recording.values[edge.target].op
    if made >= 0:
        op = graph.recording.ops[made]
        return f"torch.{op.name}" if op.kind == "factory" else ""
    return graph.provenance.constructor(edge.target)


def _packs(text: str) -> bool:
    """The constructor itself turned tensors into numbers: ``torch.FloatTensor([a, b])``."""
    return re.match(r"[\w.]*[tT]ensor\(", text) is not None
