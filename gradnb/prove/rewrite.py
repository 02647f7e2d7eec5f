"""Repairs that need the source: constructors that torch does not show, and the value that a line assigns.

Only expressions at the spots are wrapped, so that every other line keeps its number and its meaning.
"""

from __future__ import annotations

import ast
import builtins
import gc
import linecache
from types import CodeType, FunctionType
from typing import Any

import torch

from ..recorder.source import Source
from .carried import carry, leaves, refold
from .claim import Kind, Spot
from .dropped import returned
from .repair import Repair
from .tensors import live, same
from .wiring import Wiring

_CALLEE, _VALUE, _RESULT, _RETURNED = "__gradnb_callee__", "__gradnb_value__", "__gradnb_result__", "__gradnb_returned__"
_CALLED = {Kind.ITEM, Kind.REWRAP}
_NEEDED = _CALLED | {Kind.NOT_IN_OPTIMIZER, Kind.CANCELLED, Kind.DROPPED}


def needed(repair: Repair) -> bool:
    return not repair.kinds.isdisjoint(_NEEDED)


def install(repair: Repair, wiring: Wiring, running: dict[str, list[ast.stmt]]) -> None:
    """Wrap the expressions at the spots: in the statements that are about to run, and in functions that exist already."""
    names: Any = builtins
    setattr(names, _CALLEE, lambda function: _callee(repair, function))
    setattr(names, _VALUE, wiring.value)
    setattr(names, _RESULT, lambda value: _cancelled(repair, value))
    setattr(names, _RETURNED, lambda value: returned(repair, value))
    for filename in {spot.filename for spot in repair.spots.values() if not spot.kinds.isdisjoint(_NEEDED)}:
        spots = [spot for spot in repair.spots.values() if spot.filename == filename]
        if filename in running:
            for node in running[filename]:
                _Wrapper(spots).visit(node)
                ast.fix_missing_locations(node)
        else:
            _swap(filename, spots)


class _Wrapper(ast.NodeTransformer):
    def __init__(self, spots: list[Spot]):
        self.spots = spots

    def visit(self, node: ast.AST) -> Any:
        out = super().visit(node)
        if not isinstance(node, ast.expr):
            return out
        place = (node.lineno, node.end_lineno, node.col_offset, node.end_col_offset)
        exact = any(spot.span == place and Kind.CANCELLED in spot.kinds for spot in self.spots)
        return _wrapped(_RESULT, out) if exact and not isinstance(getattr(node, "ctx", None), ast.Store) else out

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        if self._on(node, _CALLED):
            node.func = _wrapped(_CALLEE, node.func)
        return node

    def visit_Assign(self, node: ast.Assign) -> ast.AST:
        self.generic_visit(node)
        if self._on(node, {Kind.NOT_IN_OPTIMIZER}):
            node.value = _wrapped(_VALUE, node.value)
        return node

    def visit_Return(self, node: ast.Return) -> ast.AST:
        self.generic_visit(node)
        if node.value is not None and self._on(node, {Kind.DROPPED}):
            node.value = _wrapped(_RETURNED, node.value)
        return node

    def _on(self, node: ast.stmt | ast.expr, kinds: set[Kind]) -> bool:
        return any(spot.line == node.lineno and not spot.kinds.isdisjoint(kinds) for spot in self.spots)


def _wrapped(helper: str, node: ast.expr) -> ast.expr:
    return ast.copy_location(ast.Call(ast.copy_location(ast.Name(helper, ast.Load()), node), [node], []), node)


def _swap(filename: str, spots: list[Spot]) -> None:
    """Functions of an earlier cell or a file get the code of the wrapped source."""
    source = Source(filename, "".join(linecache.getlines(filename)))
    if source.tree is None:
        return
    _Wrapper(spots).visit(source.tree)
    ast.fix_missing_locations(source.tree)
    fresh: dict[tuple[str, int], CodeType] = {}
    _collect(compile(source.tree, filename, "exec", dont_inherit=True), fresh)
    for one in gc.get_objects():
        if isinstance(one, FunctionType) and one.__code__.co_filename == filename:
            code = fresh.get((one.__code__.co_qualname, one.__code__.co_firstlineno))
            if code is not None and code.co_freevars == one.__code__.co_freevars:
                one.__code__ = code


def _collect(code: CodeType, found: dict[tuple[str, int], CodeType]) -> None:
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            found[(constant.co_qualname, constant.co_firstlineno)] = constant
            _collect(constant, found)


def _callee(repair: Repair, function: Any) -> Any:
    """The function itself, or one that does the same and keeps the history."""
    if (function is float or function is int) and Kind.ITEM in repair.kinds:
        return lambda *args: _number(repair, function, args)
    legacy = isinstance(function, type) and (function is torch.Tensor or type(function).__name__ == "tensortype")
    if legacy and Kind.REWRAP in repair.kinds:
        return lambda *args, **kwargs: _packed(repair, function, args, kwargs)
    if function is torch.autograd.Variable and Kind.REWRAP in repair.kinds:
        return lambda *args, **kwargs: _packed(repair, function, args, kwargs)
    return function


def _number(repair: Repair, function: Any, args: tuple) -> Any:
    if not args or not live(args[0]):
        return function(*args)
    repair.hit(Kind.ITEM)
    return carry(repair.passed(same(args[0])).reshape(()))


def _packed(repair: Repair, function: Any, args: tuple, kwargs: dict) -> Any:
    found = leaves(args[0]) if args and torch.is_grad_enabled() else []
    if not found:
        return function(*args, **kwargs)
    with torch.no_grad():
        like = function(*args, **kwargs)
    repair.hit(Kind.REWRAP)
    return repair.passed(refold(args[0], like))


def _cancelled(repair: Repair, value: Any) -> Any:
    """One of two ways that cancel is closed."""
    if not live(value):
        return value
    repair.hit(Kind.CANCELLED)
    return value.detach()
