"""What the monitor's numbers are held against: plain float64 arithmetic on the tensors, written out."""

from __future__ import annotations

import math
from collections.abc import Iterable

import pytest
import torch
from torch import Tensor, nn

from gradnb import Monitor


def norm(tensors: Iterable[Tensor | None]) -> float:
    """The L2 norm over all elements of all tensors, in float64; what is missing counts as nothing."""
    total = 0.0
    for tensor in tensors:
        if tensor is None:
            continue
        wide = (tensor.to_dense() if tensor.is_sparse else tensor).detach()
        parts = torch.view_as_real(wide) if wide.is_complex() else wide
        total += float((parts.double() ** 2).sum())
    return math.sqrt(total)


def layer(module: nn.Module) -> float:
    """The norm of the gradients that a module holds itself."""
    return norm(parameter.grad for parameter in module.parameters(recurse=False))


def grads(model: nn.Module) -> float:
    return norm(parameter.grad for parameter in model.parameters())


def same(monitor: Monitor, name: str, expected: list[float], column: str = "norm", rel: float = 1e-6) -> None:
    """The layer's column holds these values, one a step."""
    monitor.flush()
    values = [value for _, value in monitor.history.of(name, column)]
    assert values == pytest.approx(expected, rel=rel, abs=0.0, nan_ok=True)


def series(monitor: Monitor, name: str) -> list[float]:
    monitor.flush()
    return [value for _, value in monitor.history.series.get(name, [])]


def mlp(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 1))


def batch(seed: int = 1, size: int = 16) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(size, 6, generator=generator)
    return x, x[:, :1] * 2 - x[:, 1:2]
