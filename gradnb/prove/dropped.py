"""A result that a function computes and does not return: the repair lets its gradient come in with what is returned."""

from __future__ import annotations

import sys
from typing import Any

import torch

from .carried import leaves
from .claim import Kind
from .repair import Repair

_MOST = 20_000  # nodes of a graph that are looked at


def returned(repair: Repair, value: Any) -> Any:
    """What the claimed ``return`` gives back, with the tensors among the function's names that it leaves out tied to it.

    The numbers stay as they are; the tie only carries the gradient.
    """
    first = value[0] if isinstance(value, tuple) and value else value
    if not isinstance(first, torch.Tensor) or not first.requires_grad or not torch.is_grad_enabled():
        return value
    # one frame up is the helper that the wrapped line calls
    names = [t for kept in sys._getframe(2).f_locals.values() for t in leaves(kept) if t.grad_fn is not None]
    known = _history(first)
    left_out = [t for t in names if t.grad_fn not in known]
    for tensor in left_out:
        repair.hit(Kind.DROPPED)
        total = tensor.sum()
        first = first + repair.passed(total - total.detach()).to(first.dtype)
    if not left_out:
        return value
    return (first, *value[1:]) if isinstance(value, tuple) else first


def _history(value: torch.Tensor) -> set[Any]:
    """The autograd nodes that a value was computed with."""
    todo, seen = [value.grad_fn], set[Any]()
    while todo and len(seen) < _MOST:
        node = todo.pop()
        if node is not None and node not in seen:
            seen.add(node)
            todo.extend(above for above, _ in node.next_functions)
    return seen
