"""A deep copy of a model with an optimizer over the copy's parameters, in the state of the user's."""

from __future__ import annotations

import copy
from typing import Any

import torch


class NotCopyable(Exception):
    """Why the trial has to run on the model itself."""


def duplicate(model: torch.nn.Module, optimizer: torch.optim.Optimizer | None) -> tuple[torch.nn.Module, torch.optim.Optimizer | None]:
    """The copies. Raises NotCopyable where a step on them could differ from one on the originals, or touch those."""
    memo: dict[int, Any] = {}
    try:
        twin = copy.deepcopy(model, memo)
    except Exception as error:
        raise NotCopyable(f"the model cannot be copied ({type(error).__name__}: {' '.join(str(error).split())[:160]})") from None
    mine = dict(model.named_parameters())
    copied = dict(twin.named_parameters())
    if mine.keys() != copied.keys() or any(copied[name] is mine[name] for name in mine):
        raise NotCopyable("a copy of the model shares its parameters")
    if optimizer is None:
        return twin, None
    if any(id(parameter) not in memo for group in optimizer.param_groups for parameter in group["params"]):
        raise NotCopyable("the optimizer holds tensors that are no parameters of the model")
    try:
        return twin, _optimizer(optimizer, memo)
    except Exception as error:
        raise NotCopyable(f"the optimizer cannot be copied ({type(error).__name__}: {' '.join(str(error).split())[:160]})") from None


def _optimizer(optimizer: torch.optim.Optimizer, memo: dict[int, Any]) -> torch.optim.Optimizer:
    """The memo of the model's copy leads from each parameter to its twin, in the groups and in the state.

    Left out are the hooks, and what is set over a method: a learning-rate scheduler counts the steps of its optimizer so.
    """
    attributes = {k: v for k, v in vars(optimizer).items() if not callable(v) and "_hooks" not in k}
    twin = type(optimizer).__new__(type(optimizer))
    twin.__setstate__(copy.deepcopy(attributes, memo))
    return twin
