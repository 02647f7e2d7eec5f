"""Where the backward of a custom Function is written: the ``def``, the ``return``, the returned value for one argument."""

from __future__ import annotations

import ast
import inspect
import linecache
from collections.abc import Iterator

from ..recorder.frames import Places
from ..recorder.recording import Location
from ..recorder.source import Source


def locate(cls: type, argument: int, places: Places) -> Location | None:
    """The place of the gradient for an argument (from 1; 0 for all of them), as near as the source tells."""
    code = getattr(inspect.unwrap(cls.backward), "__code__", None)  # type: ignore[attr-defined]
    if code is None:
        return None
    node = _definition(code.co_filename, code.co_firstlineno, code.co_name)
    if node is None:
        return places.locations[places.at(code.co_filename, code.co_firstlineno, code.co_name)]
    name = f"def {node.name}"
    start, end = (node.lineno, node.col_offset), (node.lineno, node.col_offset + len(name.encode()))
    returned = list(_returns(node))
    if len(returned) == 1:
        found: ast.expr | ast.stmt = returned[0]
        values = returned[0].value
        if isinstance(values, ast.Tuple) and 0 < argument <= len(values.elts) and not any(isinstance(v, ast.Starred) for v in values.elts):
            found = values.elts[argument - 1]
        start, end = (found.lineno, found.col_offset), (found.end_lineno or found.lineno, found.end_col_offset or found.col_offset)
    return places.locations[places.at(code.co_filename, start[0], code.co_name, start[1], end[0], end[1])]


def lines(cls: type) -> tuple[str, range]:
    """The file name and the lines of forward and backward."""
    codes = [getattr(inspect.unwrap(f), "__code__", None) for f in (cls.forward, cls.backward)]  # type: ignore[attr-defined]
    known = [code for code in codes if code is not None]
    if not known:
        return "", range(0)
    last = max(line or 0 for code in known for _, _, line in code.co_lines())
    return known[-1].co_filename, range(min(code.co_firstlineno for code in known), last + 1)


def _definition(filename: str, first: int, name: str) -> ast.FunctionDef | None:
    """The function that begins on that line, its decorators counted."""
    source = Source(filename, "".join(linecache.getlines(filename)))
    for scope in source.scopes:
        if isinstance(scope, ast.FunctionDef) and scope.name == name:
            if min([scope.lineno, *(d.lineno for d in scope.decorator_list)]) == first:
                return scope
    return None


def _returns(node: ast.AST) -> Iterator[ast.Return]:
    """The return statements of a function, without those of functions in it."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Return):
            yield child
        elif not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
            yield from _returns(child)
