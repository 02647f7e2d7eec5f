"""Which tensors have numbers that gradnb may read without running code of the user's or tripping over an exotic kind."""

from __future__ import annotations

import torch

_NO_DISPATCH = torch.Tensor.__torch_dispatch__  # what a tensor class has that leaves its operations to torch
_wrapped = getattr(torch._C._functorch, "is_functorch_wrapped_tensor", lambda tensor: False)


def readable(tensor: torch.Tensor) -> bool:
    """Does torch itself compute on it, on real memory: no meta, fake, nested or quantised tensor, no class with its own dispatch."""
    return (
        type(tensor).__torch_dispatch__ is _NO_DISPATCH
        and not tensor.is_meta
        and not tensor.is_nested
        and not tensor.is_quantized
        and not _wrapped(tensor)
    )


def parts(tensor: torch.Tensor) -> list[torch.Tensor]:
    """The plain tensors of numbers that a tensor is made of: itself, or what a wrapper (a DTensor's shard) says it holds."""
    if readable(tensor):
        return [tensor]
    flatten = getattr(tensor, "__tensor_flatten__", None)
    if flatten is None:
        return []
    held = [getattr(tensor, name) for name in flatten()[0]]
    return [t for t in held if isinstance(t, torch.Tensor) and readable(t) and (t.is_floating_point() or t.is_complex())]
