"""Which parameters form a layer, and what it is called: the module that holds them, weight and bias together."""

from __future__ import annotations

import re
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from .history import History, Layer

# What wrappers put into a parameter's name: DistributedDataParallel, torch.compile, FSDP, activation checkpointing.
_WRAPPED = re.compile(r"(^|\.)(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)(?=\.)")
_PARAMETRIZED = re.compile(r"\.?parametrizations\.\w+\.\w+$")


def model_label(model: nn.Module) -> str:
    """The class of the model inside its wrappers."""
    return type(unwrapped(model)).__name__


def unwrapped(model: nn.Module) -> nn.Module:
    """The user's module inside DistributedDataParallel, torch.compile and FSDP."""
    for _ in range(8):
        if isinstance(model, (nn.parallel.DistributedDataParallel, nn.DataParallel)):
            inner = model.module
        else:
            inner = getattr(model, "_orig_mod", None) or getattr(model, "_fsdp_wrapped_module", None)
        if not isinstance(inner, nn.Module):
            return model
        model = inner
    return model


def named_parameters(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """(name without what wrappers add, parameter), each parameter once."""
    wrapped = isinstance(model, (nn.parallel.DistributedDataParallel, nn.DataParallel))
    for name, parameter in model.named_parameters():
        name = _WRAPPED.sub(r"\1", name.removeprefix("module.") if wrapped else name)
        yield re.sub(r"\.{2,}", ".", name).lstrip("."), parameter


def holder(name: str) -> str:
    """The module that holds the parameter; "" for the model itself."""
    if found := _PARAMETRIZED.search(name):
        return name[: found.start()]
    return name.rpartition(".")[0]


class Watched:
    """The parameters that are watched, by position, and the layer of each. It keeps no model alive."""

    def __init__(
        self,
        models: dict[str, nn.Module],
        history: History,
        depth: int | None = None,
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
        gone: Callable[[], None] | None = None,
    ):
        def dead(_: Any) -> None:
            if gone is not None and not self.modules:
                gone()

        self._models = {label: weakref.ref(model, dead) for label, model in models.items()}
        self._roots = {label: label or model_label(model) for label, model in models.items()}
        self._depth, self._include, self._exclude = depth, include, exclude
        self._history = history
        self._layer_of: dict[tuple[str, str], int] = {}
        self.parameters: list[weakref.ref[nn.Parameter]] = []
        self.names: list[str] = []
        self.layer: list[int] = []
        """The layer of each parameter, as an index into ``history.layers``."""
        self._position: dict[int, int] = {}
        self._idle: set[str] = set()
        self._frozen: list[weakref.ref[nn.Parameter]] = []

    @property
    def layers(self) -> list[Layer]:
        return self._history.layers

    @property
    def modules(self) -> dict[str, nn.Module]:
        """The models that still exist, by label."""
        return {label: model for label, ref in self._models.items() if (model := ref()) is not None}

    def position(self, parameter: Any) -> int | None:
        """Where a parameter stands, None when it is not watched."""
        at = self._position.get(id(parameter))
        return at if at is not None and self.parameters[at]() is parameter else None

    def same(self, other: "Watched") -> bool:
        """Whether the other one watches the same models."""
        mine, theirs = self.modules.values(), other.modules.values()
        return {id(model) for model in mine} == {id(model) for model in theirs}

    def unfrozen(self) -> bool:
        """Whether a parameter that did not train at the last scan does now."""
        return any((parameter := ref()) is not None and parameter.requires_grad for ref in self._frozen)

    def hold(self, places: list[int]) -> None:
        """An optimizer holds these parameters."""
        for at in places:
            self._history.layers[self.layer[at]].held = True

    def scan(self) -> list[int]:
        """Take up what trains and is not watched yet: its positions. At the first call that is everything."""
        fresh = []
        self._frozen = []
        for label, model in self.modules.items():
            for name, parameter in named_parameters(model):
                if self.position(parameter) is not None or is_lazy(parameter) or not self._wanted(label, name):
                    continue
                if parameter.requires_grad:
                    fresh.append(self._add(label, name, parameter))
                else:
                    self._frozen.append(weakref.ref(parameter))
        return fresh

    def idle(self, optimizers: Sequence[torch.optim.Optimizer]) -> list[str]:
        """The labels of models that train nothing although an optimizer holds them; each is told once."""
        training = {layer.model for layer in self._history.layers}
        found = []
        for label, model in self.modules.items():
            if label not in training and label not in self._idle:
                mine = {id(parameter) for parameter in model.parameters()}
                if any(id(parameter) in mine for optimizer in optimizers for parameter in held(optimizer)):
                    self._idle.add(label)
                    found.append(label)
        return found

    def told_idle(self, labels: Iterable[str]) -> None:
        """These were told before."""
        self._idle.update(labels)

    def layer_name(self, label: str, name: str) -> str:
        """What the layer of the parameter ``name`` is called."""
        parts = [part for part in holder(name).split(".") if part]
        if self._depth is not None:
            parts = parts[: self._depth]
        if not parts:
            return self._roots[label]
        return ".".join([label, *parts] if label else parts)

    def _wanted(self, label: str, name: str) -> bool:
        full = f"{label}.{name}" if label else name
        names = (full, self.layer_name(label, name))
        if self._include and not any(fnmatchcase(one, pattern) for one in names for pattern in self._include):
            return False
        return not any(fnmatchcase(one, pattern) for one in names for pattern in self._exclude)

    def _add(self, label: str, name: str, parameter: nn.Parameter) -> int:
        at = len(self.parameters)
        key = label, self.layer_name(label, name)
        if key not in self._layer_of:
            self._layer_of[key] = len(self._history.layers)
            self._history.layers.append(Layer(key[1], label, 0, [], tensors=0))
        index = self._layer_of[key]
        layer = self._history.layers[index]
        layer.parameters += parameter.numel()
        layer.shapes.append(tuple(parameter.shape))
        layer.tensors += 1
        self.parameters.append(weakref.ref(parameter))
        self.names.append(f"{label}.{name}" if label else name)
        self.layer.append(index)
        self._position[id(parameter)] = at
        return at


def held(optimizer: torch.optim.Optimizer) -> Iterator[nn.Parameter]:
    """The parameters of an optimizer, in its order."""
    for group in optimizer.param_groups:
        yield from group["params"]


def nothing_left(models: dict[str, nn.Module], include: Sequence[str], exclude: Sequence[str]) -> str:
    """Why there is nothing to watch."""
    if include or exclude:
        return f"nothing is left to watch by include={list(include)} and exclude={list(exclude)}: patterns are matched with layer names."
    names = ", ".join(label or type(model).__name__ for label, model in models.items())
    return f"no parameter of {names} requires a gradient: there is nothing to watch. Watch it after unfreezing, or watch another model."
