"""Copies of the training's tensors in host memory: the only part of a save that the loop waits for."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


class Snapshot:
    """Buffers that are used again by every save: fresh memory costs more than the copy. Pinned for tensors that live on a GPU."""

    def __init__(self) -> None:
        self._buffers: dict[str, Tensor] = {}

    def copy(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Contiguous CPU tensors of the same values, valid until the next call. Nothing written to ``tensors`` afterwards shows in them."""
        self._buffers = {name: self._buffer(name, tensor) for name, tensor in tensors.items()}
        here = [name for name, tensor in tensors.items() if tensor.is_cpu]
        there = [name for name, tensor in tensors.items() if not tensor.is_cpu]
        with torch.no_grad(), torch._C.DisableTorchFunction():
            if here:
                torch._foreach_copy_([self._buffers[name] for name in here], [tensors[name] for name in here])
            for name in there:
                self._buffers[name].copy_(tensors[name], non_blocking=tensors[name].is_cuda)
        for device in {tensors[name].device for name in there if tensors[name].is_cuda}:
            torch.cuda.synchronize(device)  # the next step may write to the tensors: the copies must have arrived
        return dict(self._buffers)

    def _buffer(self, name: str, tensor: Tensor) -> Tensor:
        old = self._buffers.get(name)
        if old is not None and old.shape == tensor.shape and old.dtype == tensor.dtype:
            return old
        return torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=tensor.device.type == "cuda")
