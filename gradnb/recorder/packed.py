"""Norms of many small tensors by one copy of them all: for each of them a call of its own would cost more than its numbers."""

from __future__ import annotations

from array import array
from collections.abc import Sequence

import torch
from torch import Tensor

SMALL = 512
"""Numbers; up to here copying a tensor took less time than calling for its norm, on the machine of ``benchmarks/monitor.py``."""


def split(tensors: Sequence[Tensor]) -> tuple[list[int], list[int]]:
    """The places of the small tensors and of the others. Where one is on a GPU none is small: there a fused call is one for all."""
    if not all([tensor.is_cpu for tensor in tensors]):
        return [], list(range(len(tensors)))
    sizes = [tensor.numel() for tensor in tensors]
    if max(sizes, default=0) <= SMALL:
        return list(range(len(sizes))), []
    return [k for k, size in enumerate(sizes) if size <= SMALL], [k for k, size in enumerate(sizes) if size > SMALL]


def flat(tensors: list[Tensor]) -> Tensor:
    """One vector of all their numbers, a copy. Of one dtype, dense, on the CPU."""
    if len(tensors) == 1:
        return tensors[0].detach().flatten().clone()  # below, one tensor alone would be a view
    return torch._C._nn.flatten_dense_tensors(tensors)  # what DistributedDataParallel makes its buckets by


def norms(vector: Tensor, tensors: Sequence[Tensor]) -> Tensor:
    """The L2 norm of each tensor's part of the vector, in float64: no square of a float32 leaves its range."""
    lengths = torch.frombuffer(array("q", [one.numel() for one in tensors]), dtype=torch.int64)  # torch.tensor of a list takes longer
    return torch.segment_reduce(vector.double().square_(), "sum", lengths=lengths, unsafe=True).sqrt_()  # the vector is made of them
