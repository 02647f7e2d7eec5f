"""Which expressions of the user's source a Python value can come from.

A backward slice over the user's own functions: the names that an expression reads, where they were bound or changed, through
lists, unpacking, attributes, closures and arguments. It is static and so takes in more than really ran; the recorded
stacks, which are dynamic, then say what ran there.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from typing import Iterator

from .recording import Location
from .source import Scope, Source, Span, inside, span


def place(location: Location) -> Span | None:
    if location.column is None or location.end_column is None or location.end_line is None:
        return None
    return (location.line, location.column, location.end_line, location.end_column)


_SHAPES = {"size", "shape", "dim", "ndim", "numel", "nelement", "dtype", "device", "stride", "element_size", "itemsize"}


def _values(expression: ast.expr) -> Iterator[ast.AST]:
    """The parts of an expression whose numbers its own depend on: not those of which only the shape or the length is read."""
    todo: list[ast.AST] = [expression]
    while todo:
        node = todo.pop()
        yield node
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "len":
            continue
        if isinstance(node, ast.Attribute) and node.attr in _SHAPES and not _of_self(node):
            continue
        todo.extend(ast.iter_child_nodes(node))


def _of_self(node: ast.Attribute) -> bool:
    """``self.size`` is whatever the user keeps there."""
    return isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")


@dataclass(slots=True)
class Slice:
    """Regions of source, by file, that a value can come from."""

    regions: dict[str, list[Span]] = field(default_factory=dict)
    expressions: list[tuple[str, ast.expr]] = field(default_factory=list)

    def holds(self, location: Location) -> bool:
        at = place(location)
        if at is None:
            at = (location.line, 0, location.line, 0)
            return any(r[0] <= at[0] <= r[2] for r in self.regions.get(location.filename, ()))
        return any(inside(at, r) for r in self.regions.get(location.filename, ()))


class Slicer:
    def __init__(self, sources: dict[str, str]):
        self.texts = sources
        self._sources: dict[str, Source] = {}
        self._returns: dict[tuple[str, Span], Slice] = {}

    def source(self, filename: str) -> Source | None:
        found = self._sources.get(filename)
        if found is None:
            text = self.texts.get(filename)
            if not text:
                return None
            found = self._sources[filename] = Source(filename, text)
        return found if found.tree is not None else None

    def at(self, location: Location) -> tuple[Source, Scope, ast.expr] | None:
        """The source, the function and the expression at a location."""
        source = self.source(location.filename)
        where = place(location)
        if source is None or where is None:
            return None
        expression, scope = source.expression(where) or _iterated(source, where), source.scope(where)
        return (source, scope, expression) if expression is not None and scope is not None else None

    def text(self, location: Location, limit: int = 70) -> str:
        found = self.at(location)
        return found[0].segment(found[2], limit) if found else location.code[:limit]

    def trace(self, stack: list[Location], expressions: list[ast.expr]) -> Slice:
        """Where the expressions, read in the innermost frame of the stack, can come from."""
        result = Slice()
        found = self.at(stack[0]) if stack else None
        if found is None:
            return result
        self._follow(result, found[0], found[1], expressions, _functions_only(stack), set())
        return result

    def returned(self, location: Location) -> Slice:
        """Where what the function around a location returns can come from, within that function."""
        source, where = self.source(location.filename), place(location)
        if source is None or where is None:
            return Slice()
        scope = source.scope(where)
        if scope is None or isinstance(scope, ast.Module):
            return Slice()
        key = (location.filename, span(scope))
        known = self._returns.get(key)
        if known is None:
            known = self._returns[key] = Slice()
            self._follow(known, source, scope, source.bindings(scope).returns, None, set())
        return known

    def _follow(
        self, result: Slice, source: Source, scope: Scope, expressions: list[ast.expr], stack: list[Location] | None, seen: set[tuple]
    ) -> None:
        todo: list[tuple[Source, Scope, ast.expr, list[Location] | None]] = [(source, scope, e, stack) for e in expressions]
        while todo:
            source, scope, expression, stack = todo.pop()
            key = (source.filename, span(expression), scope if isinstance(scope, ast.Module) else span(scope), len(stack or ()))
            if key in seen or len(seen) > 2000:
                continue
            seen.add(key)
            result.regions.setdefault(source.filename, []).append(span(expression))
            result.expressions.append((source.filename, expression))
            for node in _values(expression):
                if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
                    todo.extend(self._name(source, scope, node.id, stack))
                elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
                    parent = source.parents.get(node)
                    if not (isinstance(parent, ast.Call) and parent.func is node):
                        todo.extend(self._attribute(node.attr))

    def _name(self, source: Source, scope: Scope, name: str, stack: list[Location] | None) -> list[tuple]:
        current: Scope | None = scope
        while current is not None:
            bindings = source.bindings(current)
            there = stack if current is scope else self._frame_of(source, current, stack)
            found: list[tuple] = [(source, current, e, there) for e in bindings.names.get(name, ())]
            if name in bindings.parameters and there is not None and len(there) > 1:
                found.extend(self._argument(bindings.parameters, name, there, current, _method(source, current)))
            if found or name in bindings.parameters:
                return found
            current = source.enclosing(current)
        others: list[tuple] = []
        for other in [self.source(f) for f in list(self.texts)]:
            if other is not None and other.tree is not None and other is not source:
                others.extend((other, other.tree, e, None) for e in other.bindings(other.tree).names.get(name, ()))
        return others

    def _frame_of(self, source: Source, scope: Scope, stack: list[Location] | None) -> list[Location] | None:
        """The stack from the frame of an enclosing function on, where a closure is called while that function runs."""
        for depth, location in enumerate(stack or ()):
            where = place(location)
            if location.filename == source.filename and where is not None and source.scope(where) is scope:
                return (stack or [])[depth:]
        return None

    def _attribute(self, attribute: str) -> list[tuple]:
        """Every assignment to an attribute of that name, whatever the object: types are not known here."""
        found: list[tuple] = []
        for source in [self.source(f) for f in list(self.texts)]:
            if source is None:
                continue
            for scope in source.scopes:
                found.extend((source, scope, e, None) for e in source.bindings(scope).attributes.get(attribute, ()))
        return found

    def _argument(self, parameters: list[str], name: str, stack: list[Location], scope: Scope, method: bool) -> list[tuple]:
        """The caller's expression for a parameter."""
        outer = stack[1:]
        found = self.at(outer[0]) if outer else None
        if found is None:
            return []
        source, caller, node = found
        if not isinstance(node, ast.Call):
            return [(source, caller, node, outer)]
        bound = method or bool(parameters) and parameters[0] in ("self", "cls", "ctx")
        names = parameters[1:] if bound and not _unbound(node) else parameters
        position = names.index(name) if name in names else -1
        if position < 0:
            return []
        keyword = next((k.value for k in node.keywords if k.arg == name), None)
        if keyword is not None:
            return [(source, caller, keyword, outer)]
        if 0 <= position < len(node.args) and not any(isinstance(a, ast.Starred) for a in node.args[: position + 1]):
            return [(source, caller, node.args[position], outer)]
        if any(isinstance(a, ast.Starred) for a in node.args) or any(k.arg is None for k in node.keywords):
            return [(source, caller, e, outer) for e in (*node.args, *(k.value for k in node.keywords))]
        vararg = isinstance(scope, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)) and scope.args.vararg
        if vararg and vararg.arg == name:
            return [(source, caller, e, outer) for e in node.args]
        return []


def _iterated(source: Source, where: Span) -> ast.expr | None:
    """Python gives the whole loop as the place where a ``for`` asks for its next item."""
    loops = ast.walk(source.tree) if source.tree is not None else ()
    return next((n.iter for n in loops if isinstance(n, (ast.For, ast.AsyncFor)) and span(n) == where), None)


_COMPREHENSIONS = ("<listcomp>", "<genexpr>", "<dictcomp>", "<setcomp>")


def _functions_only(stack: list[Location]) -> list[Location]:
    """A comprehension's frame and the frame of the function around it count as one."""
    kept: list[Location] = []
    merge = False
    for location in stack:
        if merge:
            merge = location.function in _COMPREHENSIONS
            continue
        kept.append(location)
        merge = location.function in _COMPREHENSIONS
    return kept


def _method(source: Source, scope: Scope) -> bool:
    """Does a function take the object it is called on as its first argument, whatever its name."""
    if not isinstance(scope, (ast.FunctionDef, ast.AsyncFunctionDef)) or not isinstance(source.parents.get(scope), ast.ClassDef):
        return False
    return not any(isinstance(d, ast.Name) and d.id == "staticmethod" for d in scope.decorator_list)


def _unbound(call: ast.Call) -> bool:
    """``Class.method(obj, …)``: the first argument is given in the call."""
    return (
        isinstance(call.func, ast.Attribute)
        and isinstance(call.func.value, ast.Name)
        and call.func.value.id[:1].isupper()
        and call.func.attr != "apply"
    )
