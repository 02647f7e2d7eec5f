"""Where data that came in from outside of torch got its NaN: the one expression behind it that can make one."""

from __future__ import annotations

import ast

from ..recorder.recording import Location, Recording
from ..recorder.source import Source
from .cuts import graph_of
from .places import locate, sources

_LOGS = {
    "log",
    "log2",
    "log10",
    "sqrt",
    "arccos",
    "arcsin",
    "power",
    "divide",
    "true_divide",
    "reciprocal",
    "corrcoef",
    "zscore",
    "pct_change",
}


def origin(recording: Recording, stack: tuple[int, ...]) -> Location | None:
    """The only expression behind the value used at a place that writes NaN, takes a logarithm or divides; None where several do."""
    slicer = graph_of(recording).slicer
    locations = _start(recording, [recording.sites[s] for s in stack])
    found = slicer.at(locations[0]) if locations else None
    if found is None:
        return None
    traced = slicer.trace(locations, [found[2]])
    pairs = [(slicer.source(filename), expression) for filename, expression in traced.expressions]
    regions: list[tuple[Source, ast.AST]] = [(source, expression) for source, expression in pairs if source is not None]
    regions += _called(recording, regions)
    for makes in (_writes_nan, _takes_log, _divides):
        places: dict[tuple[str, int], Location] = {}
        for source, region in regions:
            for node in ast.walk(region):
                if isinstance(node, ast.expr) and makes(node):
                    places.setdefault((source.filename, node.lineno), locate(recording, source, node))
        if places:
            return next(iter(places.values())) if len(places) == 1 else None
    return None


def _start(recording: Recording, locations: list[Location]) -> list[Location]:
    """A ``for`` line runs its iterator: what it goes over is the expression to begin with."""
    if not locations:
        return []
    source = graph_of(recording).slicer.source(locations[0].filename)
    for node in ast.walk(source.tree) if source is not None and source.tree is not None else ():
        if isinstance(node, ast.For) and node.lineno == locations[0].line and source is not None:
            return [locate(recording, source, node.iter, locations[0].function), *locations[1:]]
    return locations


def _called(recording: Recording, regions: list[tuple[Source, ast.AST]]) -> list[tuple[Source, ast.AST]]:
    """The bodies of the user's functions and classes that the regions call, and of those that these call."""
    bodies: dict[str, list[tuple[Source, ast.AST]]] = {}
    for source in sources(recording):
        for node in ast.walk(source.tree):  # type: ignore[arg-type]
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                bodies.setdefault(node.name, []).append((source, node))
    found: list[tuple[Source, ast.AST]] = []
    todo, seen = list(regions), set()
    while todo:
        _, region = todo.pop()
        for node in ast.walk(region):
            if not isinstance(node, ast.Call):
                continue
            name = node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id if isinstance(node.func, ast.Name) else ""
            if name in bodies and name not in seen:
                seen.add(name)
                found += bodies[name]
                todo += bodies[name]
    return found


def _writes_nan(node: ast.expr) -> bool:
    if isinstance(node, ast.Attribute):
        return node.attr in ("nan", "NaN", "NAN", "inf", "Inf")
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "float" and node.args:
        return isinstance(node.args[0], ast.Constant) and str(node.args[0].value).lower().lstrip("+-") in ("nan", "inf")
    return False


def _takes_log(node: ast.expr) -> bool:
    if not isinstance(node, ast.Call):
        return False
    name = node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id if isinstance(node.func, ast.Name) else ""
    return name in _LOGS


def _divides(node: ast.expr) -> bool:
    return isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div) and not isinstance(node.right, ast.Constant)
