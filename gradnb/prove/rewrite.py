"""Repairs that need the source: constructors that torch does not show, and the value that a line assigns.

Only expressions at the spots are wrapped, so that every other line keeps its number and its meaning.
"""

from __future__ import annotations

import ast
import builtins
import gc
import linecache
from collections.abc import Iterable
from types import CodeType, FunctionType
from typing import Any

import torch

from ..recorder.source import Source
from .carried import Carried, carry, leaves, refold
from .claim import Kind, Spot
from .dropped import returned
from .repair import Repair
from .tensors import live, same
from .wiring import Wiring

_CALLEE, _BUILDER, _VALUE = "__gradnb_callee__", "__gradnb_builder__", "__gradnb_value__"
_RESULT, _RETURNED = "__gradnb_result__", "__gradnb_returned__"
_CARRYING = {Kind.ITEM, Kind.NUMPY}
_CALLED = {Kind.ITEM, Kind.REWRAP, Kind.REPARAMETER}
_NEEDED = _CALLED | _CARRYING | {Kind.NOT_IN_OPTIMIZER, Kind.CANCELLED, Kind.DROPPED}


def needed(repair: Repair) -> bool:
    return not repair.kinds.isdisjoint(_NEEDED)


def install(repair: Repair, wiring: Wiring, running: dict[str, list[ast.stmt]], cells: Iterable[str]) -> None:
    """Wrap the expressions at the spots: in the statements that are about to run, and in functions that exist already.

    Where numbers carry their tensors, ``torch.FloatTensor`` and its like let them come back in all the user's cells.
    """
    names: Any = builtins
    setattr(names, _CALLEE, lambda function: _callee(repair, function))
    setattr(names, _VALUE, wiring.value)
    setattr(names, _RESULT, lambda value: _cancelled(repair, value))
    setattr(names, _RETURNED, lambda value: returned(repair, value))
    setattr(names, _BUILDER, _builder)
    carrying = not repair.kinds.isdisjoint(_CARRYING)
    filenames = {spot.filename for spot in repair.spots.values()}
    for filename in dict.fromkeys((*filenames, *(cells if carrying else ()))):
        wrapper = _Wrapper([spot for spot in repair.spots.values() if spot.filename == filename], carrying)
        if filename in running:
            for node in running[filename]:
                wrapper.visit(node)
                ast.fix_missing_locations(node)
        else:
            _swap(filename, wrapper)


class _Wrapper(ast.NodeTransformer):
    def __init__(self, spots: list[Spot], carrying: bool):
        self.spots, self.carrying, self.wrapped = spots, carrying, 0

    def visit(self, node: ast.AST) -> Any:
        out = super().visit(node)
        if not isinstance(node, ast.expr):
            return out
        place = (node.lineno, node.end_lineno, node.col_offset, node.end_col_offset)
        exact = any(spot.span == place and Kind.CANCELLED in spot.kinds for spot in self.spots)
        return self._in(_RESULT, out) if exact and not isinstance(getattr(node, "ctx", None), ast.Store) else out

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        if self._on(node, _CALLED):
            node.func = self._in(_CALLEE, node.func)
        elif self.carrying and _takes_numbers(node.func):
            node.func = self._in(_BUILDER, node.func)
        return node

    def visit_Assign(self, node: ast.Assign) -> ast.AST:
        self.generic_visit(node)
        if self._on(node, {Kind.NOT_IN_OPTIMIZER}):
            node.value = self._in(_VALUE, node.value)
        return node

    def visit_Return(self, node: ast.Return) -> ast.AST:
        self.generic_visit(node)
        if node.value is not None and self._on(node, {Kind.DROPPED}):
            node.value = self._in(_RETURNED, node.value)
        return node

    def _in(self, helper: str, node: ast.expr) -> ast.expr:
        self.wrapped += 1
        return ast.copy_location(ast.Call(ast.copy_location(ast.Name(helper, ast.Load()), node), [node], []), node)

    def _on(self, node: ast.stmt | ast.expr, kinds: set[Kind]) -> bool:
        return any(spot.line == node.lineno and not spot.kinds.isdisjoint(kinds) for spot in self.spots)


def _takes_numbers(function: ast.expr) -> bool:
    """Is it written like a call that takes numbers and that torch does not show: ``torch.FloatTensor(…)``, ``float(…)``."""
    if isinstance(function, ast.Attribute):
        return function.attr.endswith("Tensor")
    return isinstance(function, ast.Name) and function.id == "float"


def _swap(filename: str, wrapper: _Wrapper) -> None:
    """Functions of an earlier cell or a file get the code of the wrapped source."""
    source = Source(filename, "".join(linecache.getlines(filename)))
    if source.tree is None:
        return
    wrapper.visit(source.tree)
    if not wrapper.wrapped:
        return
    ast.fix_missing_locations(source.tree)
    fresh: dict[tuple[str, int], CodeType] = {}
    _collect(compile(source.tree, filename, "exec", dont_inherit=True), fresh)
    for one in gc.get_objects():
        if type(one) is FunctionType and one.__code__.co_filename == filename:
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
    if Kind.REWRAP in repair.kinds and _legacy(function):
        return lambda *args, **kwargs: _packed(repair, function, args, kwargs)
    if Kind.REPARAMETER in repair.kinds and function is torch.autograd.Variable:
        return lambda *args, **kwargs: _wrapped(repair, args, kwargs)
    return _builder(function)


def _builder(function: Any) -> Any:
    """A constructor away from the spots: it keeps the history of carried numbers, and of nothing else."""
    if function is float:
        return lambda *args: args[0] if args and isinstance(args[0], Carried) else float(*args)
    if not _legacy(function):
        return function

    def build(*args: Any, **kwargs: Any) -> Any:
        found = leaves(args[0]) if args and torch.is_grad_enabled() else []
        if not found or not all(isinstance(value, Carried) for value in found):
            return function(*args, **kwargs)
        with torch.no_grad():
            like = function(*args, **kwargs)
        return refold(args[0], like)

    return build


def _legacy(function: Any) -> bool:
    return isinstance(function, type) and (function is torch.Tensor or type(function).__name__ == "tensortype")


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


def _wrapped(repair: Repair, args: tuple, kwargs: dict) -> Any:
    """``Variable(x)``."""
    if not args or not live(args[0]):
        return torch.autograd.Variable(*args, **kwargs)
    repair.hit(Kind.REPARAMETER)
    return repair.passed(same(args[0]))


def _cancelled(repair: Repair, value: Any) -> Any:
    """One of two ways that cancel is closed."""
    if not live(value):
        return value
    repair.hit(Kind.CANCELLED)
    return value.detach()
