"""The example programs of a diagnosis, as source that runs on its own."""

from __future__ import annotations

import ast
import inspect
import textwrap
from types import ModuleType

MARK = "# <- here"


def program(module: ModuleType, name: str) -> tuple[str, list[int]]:
    """The body of the module's function ``name`` as a program, and its lines that carry the mark (the first line is 1)."""
    source = textwrap.dedent(inspect.getsource(getattr(module, name)))
    function = ast.parse(source).body[0]
    assert isinstance(function, ast.FunctionDef)
    first = function.body[0]
    documented = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)
    # Without a docstring the body begins right below the one-line header, so that comments above the first statement stay.
    start = first.end_lineno if documented else function.lineno
    assert start is not None
    lines = source.splitlines()[start:]
    body = textwrap.dedent("\n".join(lines)).strip("\n") + "\n"
    return body, [number for number, line in enumerate(body.splitlines(), 1) if MARK in line]
