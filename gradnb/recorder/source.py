"""The user's source as syntax trees: which expression stands at a place, what a name is bound to, what a function returns."""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from typing import Iterator

Span = tuple[int, int, int, int]  # first line, first column, last line, end column (columns in UTF-8 bytes, as ast has them)
Scope = ast.Module | ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda

_MUTATORS = {"append", "extend", "insert", "add", "update", "setdefault", "appendleft", "put", "copy_", "fill_", "push"}
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)


def span(node: ast.AST) -> Span:
    return (node.lineno, node.col_offset, node.end_lineno, node.end_col_offset)  # type: ignore[attr-defined]


def inside(inner: Span, outer: Span) -> bool:
    return (outer[0], outer[1]) <= (inner[0], inner[1]) and (inner[2], inner[3]) <= (outer[2], outer[3])


@dataclass(slots=True)
class Bindings:
    """What a scope binds: name -> the expressions that its value can come from."""

    names: dict[str, list[ast.expr]] = field(default_factory=dict)
    attributes: dict[str, list[ast.expr]] = field(default_factory=dict)
    returns: list[ast.expr] = field(default_factory=list)
    parameters: list[str] = field(default_factory=list)

    def bind(self, name: str, value: ast.expr | None) -> None:
        if value is not None:
            self.names.setdefault(name, []).append(value)


class Source:
    """One file or cell, parsed."""

    def __init__(self, filename: str, text: str):
        self.filename = filename
        self.text = text
        self.tree: ast.Module | None
        try:
            self.tree = ast.parse(_without_magics(text))
        except (SyntaxError, ValueError):
            self.tree = None
        self.expressions: dict[Span, ast.expr] = {}
        self.scopes: list[Scope] = []
        self.parents: dict[ast.AST, ast.AST] = {}
        self._bindings: dict[Scope, Bindings] = {}
        if self.tree is not None:
            self.scopes.append(self.tree)
            for node in ast.walk(self.tree):
                for child in ast.iter_child_nodes(node):
                    self.parents[child] = node
                if isinstance(node, ast.expr):
                    self.expressions.setdefault(span(node), node)
                if isinstance(node, _FUNCTIONS):
                    self.scopes.append(node)

    def expression(self, place: Span) -> ast.expr | None:
        """The expression that stands exactly there, else the smallest one around it."""
        found = self.expressions.get(place)
        if found is not None:
            return found
        around = [(s, e) for s, e in self.expressions.items() if inside(place, s)]
        return min(around, key=lambda item: (item[0][2] - item[0][0], item[0][3] - item[0][1]))[1] if around else None

    def statement(self, node: ast.AST) -> ast.stmt | None:
        current: ast.AST | None = node
        while current is not None and not isinstance(current, ast.stmt):
            current = self.parents.get(current)
        return current

    def scope(self, place: Span) -> Scope | None:
        """The innermost function around a place."""
        best: Scope | None = self.tree
        for node in self.scopes[1:]:
            if inside(place, span(node)) and (best is self.tree or inside(span(node), span(best))):  # type: ignore[arg-type]
                best = node
        return best

    def enclosing(self, scope: Scope) -> Scope | None:
        node = self.parents.get(scope)
        while node is not None and not isinstance(node, (*_FUNCTIONS, ast.Module)):
            node = self.parents.get(node)
        return node  # type: ignore[return-value]

    def bindings(self, scope: Scope) -> Bindings:
        found = self._bindings.get(scope)
        if found is None:
            found = self._bindings[scope] = _bindings(scope)
        return found

    def segment(self, node: ast.AST, limit: int = 70) -> str:
        text = ast.get_source_segment(_without_magics(self.text), node) or ""
        text = " ".join(text.split())
        return text if len(text) <= limit else text[: limit - 1] + "…"


def _without_magics(text: str) -> str:
    """The same lines with IPython's own syntax blanked out, so that Python can parse them."""
    if "%" not in text and "!" not in text and "?" not in text:
        return text
    lines = text.split("\n")
    for i, line in enumerate(lines):
        bare = line.lstrip()
        if bare.startswith("%%"):
            lines[i] = ""
        elif bare.startswith(("%", "!", "?")) or (bare.endswith("?") and "#" not in bare):
            try:
                ast.parse(text)
                return text  # a continuation line such as "% total" is Python after all
            except (SyntaxError, ValueError):
                lines[i] = line[: len(line) - len(bare)] + "pass"
    return "\n".join(lines)


def _own(scope: Scope) -> Iterator[ast.AST]:
    """Every node of a scope, without those of functions defined in it."""
    todo: list[ast.AST] = [scope.body] if isinstance(scope, ast.Lambda) else list(reversed(scope.body))
    while todo:
        node = todo.pop()
        yield node
        if isinstance(node, _FUNCTIONS):
            continue
        todo.extend(reversed(list(ast.iter_child_nodes(node))))


def _root(node: ast.AST) -> tuple[str | None, str | None]:
    """The name at the bottom of ``name.x[y].z(…)``, or the attribute where that is ``self``."""
    attribute = None
    while True:
        if isinstance(node, ast.Name):
            return (None, attribute) if node.id in ("self", "cls") and attribute else (node.id, attribute)
        if isinstance(node, ast.Attribute):
            attribute = node.attr
            node = node.value
        elif isinstance(node, (ast.Subscript, ast.Starred)):
            node = node.value
        elif isinstance(node, ast.Call):
            node = node.func
            if isinstance(node, ast.Attribute):
                node = node.value
        else:
            return None, attribute


def _bindings(scope: Scope) -> Bindings:
    found = Bindings()
    if isinstance(scope, _FUNCTIONS):
        a = scope.args
        found.parameters = [
            arg.arg for arg in (*a.posonlyargs, *a.args, *([a.vararg] if a.vararg else []), *a.kwonlyargs, *([a.kwarg] if a.kwarg else []))
        ]
    if isinstance(scope, ast.Lambda):
        found.returns.append(scope.body)
    for node in _own(scope):
        if isinstance(node, ast.Assign):
            for target in node.targets:
                _target(found, target, node.value)
        elif isinstance(node, ast.AugAssign):
            _target(found, node.target, node.value)
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            _target(found, node.target, node.value)
        elif isinstance(node, ast.NamedExpr):
            _target(found, node.target, node.value)
        elif isinstance(node, (ast.For, ast.AsyncFor, ast.comprehension)):
            _iterated(found, node.target, node.iter)
        elif isinstance(node, (ast.With, ast.AsyncWith)):
            for item in node.items:
                if item.optional_vars is not None:
                    _target(found, item.optional_vars, item.context_expr)
        elif isinstance(node, (ast.Return, ast.Yield, ast.YieldFrom)):
            if node.value is not None:
                found.returns.append(node.value)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _MUTATORS:
            name, attribute = _root(node.func.value)
            for value in (*node.args, *(k.value for k in node.keywords)):
                if name:
                    found.bind(name, value)
                if attribute:
                    found.attributes.setdefault(attribute, []).append(value)
    return found


def _iterated(found: Bindings, target: ast.expr, values: ast.expr) -> None:
    """``for a, b in zip(x, y)`` binds a to x and b to y; ``enumerate`` likewise."""
    if isinstance(values, ast.Call) and isinstance(values.func, ast.Name) and isinstance(target, (ast.Tuple, ast.List)):
        if values.func.id == "zip" and len(values.args) == len(target.elts):
            for part, value in zip(target.elts, values.args):
                _target(found, part, value)
            return
        if values.func.id == "enumerate" and values.args and len(target.elts) == 2:
            _iterated(found, target.elts[1], values.args[0])
            return
    _target(found, target, values)


def _target(found: Bindings, target: ast.expr, value: ast.expr) -> None:
    if isinstance(target, ast.Name):
        found.bind(target.id, value)
    elif isinstance(target, (ast.Tuple, ast.List)):
        same = isinstance(value, (ast.Tuple, ast.List)) and len(value.elts) == len(target.elts)
        starred = any(isinstance(e, ast.Starred) for e in target.elts)
        for i, part in enumerate(target.elts):
            _target(found, part, value.elts[i] if same and not starred else value)  # type: ignore[attr-defined]
    elif isinstance(target, ast.Starred):
        _target(found, target.value, value)
    elif isinstance(target, (ast.Subscript, ast.Attribute)):
        name, attribute = _root(target)
        if isinstance(target, ast.Attribute):
            attribute = target.attr
        if name and isinstance(target, ast.Subscript):
            found.bind(name, value)
        if attribute:
            found.attributes.setdefault(attribute, []).append(value)
