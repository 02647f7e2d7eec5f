"""The line that built a module: where an option such as ``inplace=True`` is written."""

from __future__ import annotations

import ast

from ...recorder.recording import Location, Op, Recording
from ...recorder.source import Source
from ..cuts import graph_of
from ..places import locate, sources


def constructor(recording: Recording, op: Op) -> Location | None:
    """Where the module that overwrote its own input was built with ``inplace=True``; None for a plain call in the user's code."""
    text = graph_of(recording).slicer.text(recording.sites[op.stack[0]], 200) if op.stack else ""
    if op.name.endswith("_") or op.name.startswith("__") or "inplace" in text or not op.module:
        return None  # written there, for all to see
    calls = [(s, node) for s in sources(recording) for node in ast.walk(s.tree) if isinstance(node, ast.Call) and _inplace(node, op.name)]  # type: ignore[arg-type]
    if not calls:
        return None
    parts = op.module.split(".")
    numbers = [int(p) for p in parts if p.isdigit()]
    for part in reversed([p for p in parts if not p.isdigit()]):
        inside = [(s, c) for s, c in calls if _assigned_to(s, c, part)]
        if inside:
            exact = [(s, c) for s, c in inside if numbers and _position(s, c) == numbers[-1]]
            source, call = (exact or inside)[0]
            return locate(recording, source, call)
    source, call = calls[0]
    return locate(recording, source, call) if len(calls) == 1 else None


def _inplace(call: ast.Call, operation: str) -> bool:
    """``nn.ReLU(inplace=True)``, ``nn.ReLU(True)``, ``nn.Dropout(0.1, True)`` for the operation ``relu``, ``dropout``, …"""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else call.func.id if isinstance(call.func, ast.Name) else ""
    if name.lower() != operation.replace("_", "").lower():
        return False
    on = [k.value for k in call.keywords if k.arg == "inplace"] or [a for a in call.args if isinstance(a, ast.Constant) and a.value is True]
    return bool(on) and not (isinstance(on[0], ast.Constant) and on[0].value is False)


def _assigned_to(source: Source, node: ast.AST, attribute: str) -> bool:
    statement = source.statement(node)
    targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
    return any(isinstance(t, ast.Attribute) and t.attr == attribute for t in targets)


def _position(source: Source, node: ast.AST) -> int:
    """Its place among the arguments of the container it is built in."""
    parent = source.parents.get(node)
    if isinstance(parent, ast.Call) and node in parent.args:
        return parent.args.index(node)  # type: ignore[arg-type]
    if isinstance(parent, (ast.List, ast.Tuple)) and node in parent.elts:
        return parent.elts.index(node)  # type: ignore[arg-type]
    return -1
