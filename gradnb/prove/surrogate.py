"""Gradients for operations that have none: the forward value stays, and the gradient is that of a smooth neighbour."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

_COMPARES = set("eq ne lt gt le ge __eq__ __ne__ __lt__ __gt__ __le__ __ge__ greater less greater_equal less_equal not_equal".split())
_STEPS = set("round floor ceil trunc fix sign sgn heaviside".split())  # torch gives them a gradient of zero
_RANKS = set("topk sort max min kthvalue mode median".split())
_LOOKUPS = {"__getitem__": 1, "embedding": 0, "gather": 1, "index_select": 1, "one_hot": 0}  # which tensor is the index


def stand_in(name: str, args: tuple, kwargs: dict, out: Any, smooth_values: bool = False) -> torch.Tensor | None:
    """A floating-point tensor in place of ``out`` that has a gradient; None where ``out`` has one, or none can be made up.

    Its values are those of ``out``, or with ``smooth_values`` those of the smooth function that gives the gradient.
    """
    given = [value for value in args if isinstance(value, torch.Tensor) and value.requires_grad]
    if not given or not isinstance(out, torch.Tensor) or (out.requires_grad and name not in _STEPS):
        return None
    source = given[0]
    with torch._C.DisableTorchFunction():
        if name in ("argmax", "argmin"):
            smooth = _position(source if name == "argmax" else -source, args, kwargs)
        elif name in _COMPARES:
            smooth = torch.sigmoid(args[0] - args[1]) if smooth_values else args[0] - args[1]
        elif source.shape == out.shape:
            smooth = source
        else:
            return None
        if not smooth.is_floating_point() or smooth.shape != out.shape:
            return None
        return smooth * 1 if smooth_values else out.detach().to(smooth.dtype) + (smooth - smooth.detach())


def _position(score: torch.Tensor, args: tuple, kwargs: dict) -> torch.Tensor:
    """Where the largest score is expected: the mean position under a softmax."""
    dim = args[1] if len(args) > 1 else kwargs.get("dim")
    keep = args[2] if len(args) > 2 else kwargs.get("keepdim", False)
    if dim is None:
        score, dim, keep = score.reshape(-1), 0, False
    shape = [1] * score.dim()
    shape[dim] = -1
    places = torch.arange(score.shape[dim], dtype=score.dtype, device=score.device).reshape(shape)
    return (torch.softmax(score, dim) * places).sum(dim, keepdim=bool(keep))


def ranked(name: str, args: tuple, out: Any) -> Any:
    """``topk`` and its like, with positions that move as their values do; None for other operations."""
    if name not in _RANKS or not isinstance(out, tuple) or len(out) < 2 or not out[0].requires_grad or out[1].dtype is not torch.long:
        return None
    with torch._C.DisableTorchFunction():
        return _Ranked(out[0], out[1].to(out[0].dtype) + (out[0] - out[0].detach()))


class _Ranked(NamedTuple):
    values: torch.Tensor
    indices: torch.Tensor


def looks_up(name: str, args: tuple) -> torch.Tensor | None:
    """The index with a gradient, made by a repair, that an operation is asked to look something up with."""
    if name not in _LOOKUPS:
        return None
    given = [v for arg in args for v in (arg if isinstance(arg, tuple) else (arg,)) if isinstance(v, torch.Tensor)]
    at = _LOOKUPS[name]
    candidates = given[at : at + 1] if name != "__getitem__" else given[1:]
    return next((v for v in candidates if v.is_floating_point() and v.requires_grad), None)


def between(name: str, func: Any, args: tuple, kwargs: dict, index: torch.Tensor) -> torch.Tensor:
    """What the operation finds at the index, with the slope to what it finds one further on."""
    with torch._C.DisableTorchFunction():
        low = index.detach().round().long()
        most = int(low.max()) if low.numel() else 0
        step = torch.where(low < most, 1, -1) if most > 0 else torch.zeros_like(low)
        here = func(*_replaced(args, index, low), **kwargs)
        there = func(*_replaced(args, index, low + step), **kwargs).detach()
        move = (index - index.detach()) * step
        if name == "index_select":
            shape = [1] * here.dim()
            shape[args[1]] = -1
            move = move.reshape(shape)
        elif name != "gather":
            move = move.reshape(move.shape + (1,) * (here.dim() - move.dim()))
        return here + move * (there - here.detach())


def _replaced(args: tuple, old: torch.Tensor, new: torch.Tensor) -> tuple:
    return tuple(_replaced(a, old, new) if isinstance(a, tuple) else new if a is old else a for a in args)
