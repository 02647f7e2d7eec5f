"""Custom autograd Functions and reentrant checkpoints: their forward runs as ordinary, differentiable operations."""

from __future__ import annotations

import ast
import linecache
from typing import Any

import torch

from ..recorder.source import Source
from .claim import Kind
from .repair import Repair


class _Context:
    """What a forward may do to its ctx; nothing of it is needed where autograd records the operations themselves."""

    def __init__(self, args: tuple):
        self.needs_input_grad = tuple(isinstance(a, torch.Tensor) and a.requires_grad for a in args)
        self.saved_tensors: tuple = ()

    def save_for_backward(self, *tensors: Any) -> None:
        self.saved_tensors = tensors

    def _nothing(self, *args: Any) -> None:
        return None

    mark_dirty = mark_non_differentiable = set_materialize_grads = save_for_forward = _nothing


def install(repair: Repair) -> None:
    """Replace ``Function.apply`` for the Functions whose backward the spots blame. For a process that is thrown away."""
    holder: Any = torch.autograd.Function
    original = vars(holder).get("apply")
    if not isinstance(original, classmethod):
        return
    call: Any = original.__func__
    blamed: dict[type, bool] = {}

    def apply(cls: Any, *args: Any, **kwargs: Any) -> Any:
        if Kind.CHECKPOINT in repair.kinds and cls.__name__ == "CheckpointFunction" and repair.here(Kind.CHECKPOINT):
            repair.hit(Kind.CHECKPOINT)
            return args[0](*args[2:])
        if cls not in blamed:
            blamed[cls] = Kind.FUNCTION in repair.kinds and _blamed(repair, cls)
        if blamed[cls] or repair.here(Kind.APPLIED):
            repair.hit(Kind.FUNCTION if blamed[cls] else Kind.APPLIED)
            return _passed(repair, _forward(cls, args, kwargs))
        return call(cls, *args, **kwargs)

    holder.apply = classmethod(apply)


def _forward(cls: Any, args: tuple, kwargs: dict) -> Any:
    if cls.setup_context is not torch.autograd.Function.setup_context:
        return cls.forward(*args, **kwargs)
    return cls.forward(_Context(args), *args, **kwargs)


def _passed(repair: Repair, out: Any) -> Any:
    for value in out if isinstance(out, (tuple, list)) else (out,):
        if isinstance(value, torch.Tensor):
            repair.passed(value)
    return out


def _blamed(repair: Repair, cls: type) -> bool:
    """Does a spot stand on the head of this Function's backward, which leaves an argument unread, or on what it returns."""
    code = getattr(getattr(cls, "backward", None), "__code__", None)
    if code is None:
        return False
    lines = {spot.line for spot in repair.spots.values() if spot.filename == code.co_filename and Kind.FUNCTION in spot.kinds}
    source = Source(code.co_filename, "".join(linecache.getlines(code.co_filename))) if lines else None
    for node in ast.walk(source.tree) if source is not None and source.tree is not None else ():
        if isinstance(node, ast.FunctionDef) and node.name == code.co_name:
            first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
            if first == code.co_firstlineno:
                unread = {a.arg for a in node.args.args[1:]} - {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
                if unread:
                    return bool(lines & set(range(first, max(node.lineno, node.body[0].lineno - 1) + 1)))
                return bool(lines & {n.lineno for n in ast.walk(node) if isinstance(n, ast.Return)})
    return False
