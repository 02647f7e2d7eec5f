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
        groups: dict[tuple[torch.device, torch.dtype], list[str]] = {}
        for name, tensor in tensors.items():
            groups.setdefault((tensor.device, tensor.dtype), []).append(name)
        with torch.no_grad(), torch._C.DisableTorchFunction():
            for (device, _), names in groups.items():
                into, values = [self._buffers[name] for name in names], [tensors[name].detach() for name in names]
                if device.type == "cpu":
                    torch._foreach_copy_(into, values)
                else:
                    for one, value in zip(into, values, strict=True):
                        one.copy_(value, non_blocking=True)
        for device in {device for device, _ in groups}:
            if device.type != "cpu":  # the copies must have arrived before the next step may write to the tensors
                torch.accelerator.synchronize(device) if hasattr(torch, "accelerator") else torch.cuda.synchronize(device)
        return dict(self._buffers)

    def _buffer(self, name: str, tensor: Tensor) -> Tensor:
        old = self._buffers.get(name)
        if old is not None and old.shape == tensor.shape and old.dtype == tensor.dtype:
            return old
        return torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=tensor.device.type == "cuda")
