"""Where a value can come from in the source, through the functions and data sets of the user's that the expression calls."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from ...recorder.recording import Recording
from ...recorder.slices import Slice
from ...recorder.source import Scope, Source
from ..cuts import graph_of
from ..places import sources

_ROUNDS = 6  # calls deep
_PROTOCOL = ("__getitem__", "__iter__", "__next__", "__call__", "forward")  # what using an object of a class runs


def behind(recording: Recording, stack: tuple[int, ...], expressions: list[ast.expr] | None = None) -> Slice:
    """Everything that the expression at the innermost place of a stack (or these parts of it) can be made of."""
    slicer = graph_of(recording).slicer
    locations = [recording.sites[s] for s in stack]
    found = slicer.at(locations[0]) if locations else None
    if found is None:
        return Slice()
    read = slicer.trace(locations, expressions or [found[2]])
    if expressions:  # the calls among them stand in no region of the trace themselves
        read.expressions.append((locations[0].filename, found[2]))
    entered: set[int] = set()
    position = 0
    for _ in range(_ROUNDS):
        fresh, position = read.expressions[position:], len(read.expressions)
        called = {_called(node) for _, e in fresh for node in ast.walk(e) if isinstance(node, ast.Call)}
        called |= _classes(recording, called)
        for source, scope in _functions(recording, called):
            if id(scope) not in entered:
                entered.add(id(scope))
                slicer._follow(read, source, scope, source.bindings(scope).returns, None, set())
        if position == len(read.expressions):
            break
    return read


def _called(node: ast.Call) -> str:
    return node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id if isinstance(node.func, ast.Name) else ""


def _classes(recording: Recording, names: set[str]) -> set[str]:
    """What the names are instances of: ``self.bias()`` where ``self.bias = RelativeBias(…)``."""
    found = set()
    for source in sources(recording):
        for scope in source.scopes:
            bindings = source.bindings(scope)
            made = [e for n in names for e in (*bindings.attributes.get(n, ()), *bindings.names.get(n, ()))]
            found |= {_called(e) for e in made if isinstance(e, ast.Call)}
    return found


def _functions(recording: Recording, names: set[str]) -> Iterator[tuple[Source, Scope]]:
    for source in sources(recording):
        for scope in source.scopes:
            if not isinstance(scope, (ast.FunctionDef, ast.AsyncFunctionDef)):
                continue
            owner = source.parents.get(scope)
            if scope.name in names or isinstance(owner, ast.ClassDef) and owner.name in names and scope.name in _PROTOCOL:
                yield source, scope
