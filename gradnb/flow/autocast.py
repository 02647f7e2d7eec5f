"""Trouble with autocast: an operation that low precision breaks, a backward inside the region, a region around the whole loop."""

from __future__ import annotations

import ast

from ..recorder.recording import Recording
from .cuts import graph_of
from .lead import Lead

_SIGNS = ("without overflow", "unsafe to autocast", "source and destination dtypes match")


def autocast(recording: Recording) -> list[Lead]:
    """Leads for the error of an operation under autocast, else for a training step that lies inside the region."""
    raised = recording.raised
    if raised is not None:
        if not raised.autocast or not any(sign in raised.message for sign in _SIGNS):
            return []
        lead = Lead("autocast", recording.location(recording.ops[raised.op].stack), rank=97)
        lead.operation = recording.ops[raised.op].name
        lead.expression = graph_of(recording).text(raised.op)
        lead.details = {
            "kind": "raised",
            "operation": lead.operation,
            "dtype": raised.autocast,
            "message": raised.message.split("\n")[0],
            "raised": True,
        }
        return [lead]
    inside = [e for e in recording.events if e.kind == "backward" and e.ok and e.autocast and e.stack]
    if not inside:
        return []
    stepped = [e for e in recording.events if e.kind == "step" and e.ok and e.autocast and e.stack]
    if len(stepped) > 1 and len(inside) > 1 and _around_a_loop(recording, stepped[0].stack):
        lead = Lead("autocast", recording.location(stepped[0].stack), rank=52)
        lead.details = {"kind": "step-inside", "dtype": stepped[0].autocast}
    else:
        lead = Lead("autocast", recording.location(inside[0].stack), "warning", rank=18)
        lead.details = {"kind": "backward", "dtype": inside[0].autocast}
    lead.expression = graph_of(recording).slicer.text(lead.location) if lead.location else ""
    return [lead]


def _around_a_loop(recording: Recording, stack: tuple[int, ...]) -> bool:
    """Does a loop around the call lie inside of an autocast region: the copies of the weights live until the region ends."""
    looped = False
    for site in stack:
        found = graph_of(recording).slicer.at(recording.sites[site])
        if found is None:
            return False
        source, scope, node = found
        parent = source.parents.get(node)
        while parent is not None and parent is not scope:
            looped = looped or isinstance(parent, (ast.For, ast.While))
            if looped and isinstance(parent, ast.With) and any(_caches(item.context_expr) for item in parent.items):
                return True
            parent = source.parents.get(parent)
        if looped and isinstance(scope, ast.FunctionDef) and any(_caches(decorator) for decorator in scope.decorator_list):
            return True
    return False


def _caches(region: ast.expr) -> bool:
    text = ast.unparse(region)
    return "autocast" in text and "cache_enabled=False" not in text
