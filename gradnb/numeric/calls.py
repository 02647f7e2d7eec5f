"""Keeps, for ``--numeric``, what each custom autograd Function of the user's was called with: copies on the CPU, of its first calls."""

from __future__ import annotations

import inspect
import types
from dataclasses import dataclass, field
from typing import Any

import torch

from ..recorder.frames import USER, Frames

WAYS = 3  # calls kept of one Function: the first of each set of arguments that require grad
LARGEST = 1_000_000  # numbers in the tensors of one call; a larger call is not kept
PLAIN = (int, float, complex, str, bytes, bool, type(None), torch.dtype, torch.device, torch.memory_format, torch.layout, slice, range)
CALLABLE = (types.BuiltinFunctionType, types.FunctionType, type)


@dataclass(slots=True)
class Copied:
    """A tensor as it was given: its numbers on the CPU, and where they belong."""

    tensor: torch.Tensor
    device: torch.device
    requires_grad: bool


@dataclass(slots=True)
class Kept:
    """One call of a Function; ``skipped`` says why its arguments were not kept."""

    cls: type
    args: tuple = ()
    skipped: str = ""


class _Unkeepable(Exception):
    pass


@dataclass
class Calls:
    """Given each ``Function.apply`` before it runs. Holds no tensor of the user's."""

    frames: Frames
    kept: dict[type, dict[tuple[bool, ...], Kept]] = field(default_factory=dict)

    def __call__(self, cls: type, args: tuple) -> None:
        if not torch.is_grad_enabled():
            return
        way = tuple([isinstance(value, torch.Tensor) and value.requires_grad for value in args])
        calls = self.kept.get(cls, {})
        if way in calls or not any(way) or len(calls) >= WAYS or not self._own(cls):
            return
        try:
            size = sum(_size(value) for value in args)
            if size > LARGEST:
                raise _Unkeepable(f"its arguments have {size:,} numbers, more than {LARGEST:,}")
            call = Kept(cls, tuple(_copy(value, f"argument {i + 1}") for i, value in enumerate(args)))
        except _Unkeepable as why:
            call = Kept(cls, skipped=str(why))
        self.kept.setdefault(cls, {})[way] = call

    def _own(self, cls: type) -> bool:
        """Written by the user, not by a library."""
        code = getattr(inspect.unwrap(getattr(cls, "backward", None) or cls), "__code__", None)
        return code is not None and self.frames.learn(code) == USER


def _size(value: Any) -> int:
    if isinstance(value, torch.Tensor):
        return value.numel()
    if isinstance(value, dict):
        return sum(_size(part) for part in value.values())
    return sum(_size(part) for part in value) if isinstance(value, list | tuple) else 0


def _copy(value: Any, name: str) -> Any:
    if isinstance(value, torch.Tensor):
        if value.layout != torch.strided or value.is_meta or value.is_quantized or value.is_nested:
            raise _Unkeepable(f"{name} is a tensor of another kind ({'meta' if value.is_meta else str(value.layout)})")
        return Copied(value.detach().to("cpu", copy=True), value.device, value.requires_grad)
    if isinstance(value, PLAIN):
        return value
    if type(value) in (list, tuple):
        return type(value)(_copy(part, name) for part in value)
    if isinstance(value, torch.Size):
        return value
    if type(value) is dict:
        return {key: _copy(part, name) for key, part in value.items()}
    if isinstance(value, CALLABLE) and not getattr(value, "__closure__", None):
        return value
    # Calling it again could change it: a module's running statistics, an iterator.
    raise _Unkeepable(f"{name} is of type {type(value).__name__}, and another call could change it")


def given_back(value: Any) -> Any:
    """The arguments again, each tensor a new one on its own device."""
    if isinstance(value, Copied):
        return value.tensor.to(value.device, copy=True).requires_grad_(value.requires_grad)
    if type(value) in (list, tuple):
        return type(value)(given_back(part) for part in value)
    return {key: given_back(part) for key, part in value.items()} if type(value) is dict else value
