"""What may not move: every bit of a model, its optimizer and the random streams, to compare before and after."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from torch import nn


class Net(nn.Module):
    """With everything that a careless trial would move: batch norm, dropout, a counter, a cache."""

    def __init__(self, cut: bool = False):
        super().__init__()
        self.cut = cut
        self.encoder = nn.Linear(4, 3)
        self.norm = nn.BatchNorm1d(3)
        self.head = nn.Linear(3, 1)
        self.calls = 0
        self.seen: list[int] = []
        self.hidden = torch.zeros(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        self.seen.append(len(x))
        h = nn.functional.dropout(self.norm(self.encoder(x)), 0.2)
        self.hidden = h.mean(0).detach()
        if self.cut:
            h = h.detach()  # <- here
        return self.head(h)


class Uncopyable(Net):
    def __deepcopy__(self, memo: dict) -> Any:
        raise TypeError("cannot pickle this")


def squares(model: nn.Module, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    return (model(batch[0]) - batch[1]).pow(2).mean()


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(8, 4), torch.randn(8, 1)


def bits(value: Any) -> Any:
    """Something to compare: tensors by identity, version, flag and content."""
    if isinstance(value, torch.Tensor):
        raw = bytes(value.detach().contiguous().view(torch.uint8).numpy().tobytes()) if value.dim() else value.item()
        grad = bits(value.grad) if value.is_leaf and value.grad is not None else None
        return (id(value), value._version, value.requires_grad, value.data_ptr(), raw, grad)
    if isinstance(value, dict):
        return {(id(k) if isinstance(k, torch.Tensor) else k): bits(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [bits(v) for v in value]
    return (id(value), repr(value)) if isinstance(value, (int, float, str, bool, type(None))) else id(value)


def standing(model: nn.Module, *others: Any) -> Any:
    """The whole state, of the random streams too."""
    return {
        "modules": [(name, bits(vars(module))) for name, module in model.named_modules()],
        "others": [bits(vars(o) if isinstance(o, torch.optim.Optimizer) else o) for o in others],
        "random": (torch.get_rng_state().tolist(), repr(np.random.get_state()), random.getstate()),
        "grad": torch.is_grad_enabled(),
        "modes": torch._C._len_torch_function_stack(),
    }
