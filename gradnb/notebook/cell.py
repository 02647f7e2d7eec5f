"""Runs the body of a cell in the user's namespace as IPython itself would, under the cell's own name and line numbers."""

from __future__ import annotations

import ast
import inspect
import io
import tokenize
from collections.abc import Callable
from dataclasses import dataclass
from types import CodeType
from typing import Any

from IPython.core.error import UsageError

from .place import Place, show_source, source

_ASSIGNMENTS = (ast.AugAssign, ast.AnnAssign, ast.Assign)
_NOTHING = object()


@dataclass(slots=True)
class Outcome:
    """How the cell ended: the value of its last expression, where that is to be shown, or the error that it raised."""

    value: Any = _NOTHING
    error: BaseException | None = None

    @property
    def shows(self) -> bool:
        return self.value is not _NOTHING


def _execute(code: CodeType, mode: str, globals_: dict, locals_: dict) -> Any:
    """The one frame between gradnb and the user's code."""
    __tracebackhide__ = True  # for %debug
    if mode == "eval":
        return eval(code, globals_, locals_)
    exec(code, globals_, locals_)
    return _NOTHING


# A walk up the stack that meets one of these has left the user's code.
RUNNER_CODE: set[CodeType] = {_execute.__code__}


@dataclass(slots=True)
class Program:
    """A cell ready to run: its top-level statements, each with how it is compiled."""

    shell: Any
    place: Place
    nodes: list[tuple[ast.stmt, str]]

    def run(self) -> Outcome:
        """Run it. Whatever it raises comes back in the outcome, so that the report can be shown first."""
        outcome = Outcome()
        shell = self.shell
        try:
            for node, mode in self.nodes:
                tree = _TREES[mode](node)
                # One statement at a time, as IPython does it: shell.compile remembers a __future__ import for the next one.
                code = shell.compile(tree, self.place.filename, mode)
                outcome.value = _execute(code, mode, shell.user_global_ns, shell.user_ns)
        except BaseException as error:
            return Outcome(error=error)
        return outcome


def prepare(shell: Any, place: Place, body: str) -> Program:
    """Parse the body. Raises SyntaxError with the editor's line, and UsageError for code that has to be awaited."""
    show_source(place)
    text = source(shell, place, body)
    tree = shell.compile.ast_parse(text, filename=place.filename)
    tree = shell.transform_ast(tree)
    _refuse_await(shell, tree, place)
    interactivity = "none" if place.silent else shell.ast_node_interactivity
    return Program(shell, place, _modes(list(tree.body), interactivity, quiet=_ends_quietly(text)))


def _modes(nodes: list[ast.stmt], interactivity: str, quiet: bool) -> list[tuple[ast.stmt, str]]:
    """How each statement is compiled: "single" shows what it evaluates to, "eval" hands it back to be shown afterwards."""
    if not nodes:
        return []
    if interactivity == "last_expr_or_assign":
        target = _assigned(nodes[-1])
        if target is not None:
            nodes.append(target)
        interactivity = "last_expr"
    if interactivity == "last_expr":
        interactivity = "last" if isinstance(nodes[-1], ast.Expr) else "none"
    # A cell that ends in ";" shows nothing at all, and does not set "_" either.
    shown = {"all": len(nodes), "last": 1}.get(interactivity, 0) if not quiet else 0
    silent = len(nodes) - shown
    modes = [(node, "exec" if at < silent else "single") for at, node in enumerate(nodes)]
    if shown and isinstance(nodes[-1], ast.Expr):
        modes[-1] = (nodes[-1], "eval")
    return modes


def _assigned(node: ast.stmt) -> ast.Expr | None:
    """The name that a last statement assigns, as an expression to show."""
    if not isinstance(node, _ASSIGNMENTS):
        return None
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    if len(targets) != 1 or not isinstance(targets[0], ast.Name):
        return None
    shown = ast.copy_location(ast.Expr(ast.Name(targets[0].id, ast.Load())), node)
    return ast.fix_missing_locations(shown)


def _module(node: ast.stmt) -> ast.Module:
    return ast.Module([node], [])


def _interactive(node: ast.stmt) -> ast.Interactive:
    return ast.Interactive([node])


def _expression(node: ast.stmt) -> ast.Expression:
    assert isinstance(node, ast.Expr)
    return ast.Expression(node.value)


_TREES: dict[str, Callable[[ast.stmt], ast.AST]] = {"exec": _module, "single": _interactive, "eval": _expression}


def _refuse_await(shell: Any, tree: ast.Module, place: Place) -> None:
    """IPython runs such a cell in its event loop, which is already busy with this one."""
    for node in tree.body:
        try:
            code = compile(_module(node), place.filename, "exec", shell.compile.flags | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, True)
        except SyntaxError:
            return  # said when its turn comes, after the statements above it have run: so does IPython
        if code.co_flags & inspect.CO_COROUTINE:
            raise UsageError(
                f"line {node.lineno} awaits at the top level of the cell, which %%gradcheck cannot run; nothing was run. "
                "Take %%gradcheck off and put the code under 'with gradnb.check():' instead."
            )


def _ends_quietly(text: str) -> bool:
    """Does the cell end in ";"?"""
    ignored = (tokenize.ENDMARKER, tokenize.NL, tokenize.NEWLINE, tokenize.COMMENT)
    try:
        tokens = [token for token in tokenize.generate_tokens(io.StringIO(text).readline) if token.type not in ignored]
    except (tokenize.TokenError, SyntaxError):
        return False
    return bool(tokens) and tokens[-1].string == ";"
