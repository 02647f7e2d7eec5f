"""Backward from more than one number: the reduction that is missing, and where."""

from __future__ import annotations

import ast

from ...recorder.recording import Recording
from ..cuts import graph_of
from ..lead import Lead

_REDUCTIONS = {"mean", "sum", "item", "max", "min", "norm", "backward"}


def scalar(recording: Recording) -> list[Lead]:
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
