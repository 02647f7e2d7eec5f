"""Gradients for operations that have none: the forward value stays, and the gradient is that of a smooth neighbour."""

from __future__ import annotations

from typing import Any

import torch

_COMPARES = set("eq ne lt gt le ge __eq__ __ne__ __lt__ __gt__ __le__ __ge__ greater less greater_equal less_equal not_equal".split())
_STEPS = set("round floor ceil trunc fix sign sgn heaviside".split())  # torch gives them a gradient of zero


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


def between(table: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """``table[index]`` for an index with a fraction and a gradient: rows of the table, with the slope from one row to the next."""
    with torch._C.DisableTorchFunction():
        last = table.shape[0] - 1
        low = index.detach().floor().long().clamp(0, last)
        part = (index - low).reshape(index.shape + (1,) * (table.dim() - 1))
        return table[low] + part * (table[(low + 1).clamp(max=last)] - table[low])
