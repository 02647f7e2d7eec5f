"""What the tests of tracked things share: a training, and the way through a file."""

from __future__ import annotations

import json
import warnings
from typing import Any

import torch
from torch import nn

from gradnb.checkpoint.tracked import Tracked


def tracking(**things: Any) -> Tracked:
    tracked = Tracked()
    tracked.add(**things)
    return tracked


def saved(tracked: Tracked) -> tuple[Any, dict[str, torch.Tensor]]:
    """The state as a file would give it back."""
    tree, tensors, _ = tracked.save()
    copies = {name: tensor.detach().clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()}
    return json.loads(json.dumps(tree, allow_nan=False)), copies


def load(tracked: Tracked, state: tuple[Any, dict[str, torch.Tensor]]) -> list[str]:
    """Load from memory that is written over afterwards, as a mapped file of a slot is."""
    tree, tensors = state[0], {name: tensor.clone() for name, tensor in state[1].items()}
    notes = tracked.load(tree, tensors)
    for tensor in tensors.values():
        tensor.untyped_storage().fill_(77)
    return notes


def net(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 3))


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: range, scheduler: Any = None) -> None:
    for step in steps:
        batch = torch.randn(6, 4, generator=torch.Generator().manual_seed(step)).to(next(model.parameters()).dtype)

        def closure(batch: torch.Tensor = batch) -> torch.Tensor:
            optimizer.zero_grad()
            loss = model(batch).square().mean()
            loss.backward()
            return loss

        loss = closure()
        optimizer.step(closure if isinstance(optimizer, torch.optim.LBFGS) else None)
        if isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau):
            scheduler.step(loss.item())
        elif scheduler is not None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                scheduler.step()


def weights(model: nn.Module) -> list[torch.Tensor]:
    return [value.clone() for value in model.state_dict().values()]


def equal(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return len(one) == len(other) and all(a.dtype == b.dtype and torch.equal(a, b) for a, b in zip(one, other))
