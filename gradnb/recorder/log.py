"""The raw log of a running check: flat tuples and weak references, cheap to write, turned into a Recording afterwards."""

from __future__ import annotations

import sys
import weakref
from types import CodeType
from typing import Any, NamedTuple

import torch

from .frames import STOP, USER, Frames, Site
from .operations import Operation

_sequence = getattr(torch._C._autograd, "_get_sequence_nr", lambda: -1)


class RawOp(NamedTuple):
    operation: Operation
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    grad_enabled: bool
    region: int
    sites: tuple[Site, ...]
    via: str | None
    module: int
    first_node: int
    last_node: int
    numbers: bool
    error: str | None
    parent: int
    function: str | None = None


class RawValue(NamedTuple):
    op: int
    requires_grad: bool
    dtype: torch.dtype
    shape: tuple[int, ...]
    leaf: bool
    group: int
    inference: bool


class RawRegion(NamedTuple):
    sites: tuple[Site, ...]
    kind: str
    via: str | None
    decorated: CodeType | None


class Log:
    """Appends ops and values; knows which value a live tensor object stands for."""

    def __init__(self, frames: Frames, limit: int):
        self.frames = frames
        self.limit = limit
        self.ops: list[RawOp | None] = []
        self.values: list[RawValue] = []
        self.regions: list[RawRegion] = []
        self.fresh: list[tuple[int, int, int]] = []  # (value, op that met it first, position among its arguments)
        self.parents: list[int] = []  # open custom-Function calls
        self.region = -1
        self.full = False
        self._ids: dict[int, tuple[weakref.ref, int]] = {}

    def known(self, tensor: torch.Tensor) -> int:
        """The value that the tensor object stands for, -1 where it was never seen."""
        entry = self._ids.get(id(tensor))
        if entry is not None and entry[0]() is tensor:
            return entry[1]
        return -1

    def value(self, tensor: torch.Tensor) -> int:
        """The tensor's value; one that was never seen becomes a new value without an op."""
        entry = self._ids.get(id(tensor))
        if entry is not None and entry[0]() is tensor:
            return entry[1]
        return self.add(tensor, -1, -1)

    def add(self, tensor: torch.Tensor, op: int, group: int) -> int:
        """A new value for the tensor object (its next version, where it had one)."""
        index = len(self.values)
        try:
            inference = op == -1 and tensor.is_inference()
            self.values.append(
                RawValue(op, tensor.requires_grad, tensor.dtype, tensor.shape, op == -1 and tensor.is_leaf, index if group < 0 else group, inference)
            )
        except Exception:  # a tensor subclass that answers none of this
            self.values.append(RawValue(op, False, torch.float32, (), False, index, False))
        self._ids[id(tensor)] = (weakref.ref(tensor), index)
        return index

    def mark(self, index: int, **changes: Any) -> None:
        self.values[index] = self.values[index]._replace(**changes)

    def tensor_of(self, index: int) -> torch.Tensor | None:
        """The live tensor object of a value, where it still lives (slow: for rare questions only)."""
        for reference, known in self._ids.values():
            if known == index:
                return reference()
        return None

    def live(self) -> list[tuple[torch.Tensor, int]]:
        """Every tensor that is still alive, with its value."""
        found = []
        for reference, index in list(self._ids.values()):
            tensor = reference()
            if tensor is not None:
                found.append((tensor, index))
        return found

    def sweep(self) -> None:
        """Forget the entries of tensors that are gone, so that a long run does not fill memory."""
        self._ids = {key: entry for key, entry in self._ids.items() if entry[0]() is not None}

    def sites(self, depth: int) -> tuple[tuple[Site, ...], str | None]:
        """The user's frames from ``depth`` frames up, and the library passed on the way."""
        codes = self.frames.codes
        frame = sys._getframe(depth)
        found: list[Site] = []
        via = None
        while frame is not None:
            code = frame.f_code
            kind = codes.get(code)
            if kind is None:
                kind = self.frames.learn(code)
            if kind == USER:
                found.append((code, frame.f_lasti))
            elif kind:
                if kind == STOP:
                    break
                if via is None and not found:
                    via = kind
            frame = frame.f_back  # type: ignore[assignment]
        return tuple(found), via  # type: ignore[return-value]

    def append(self, op: RawOp) -> int:
        self.ops.append(op)
        if len(self.ops) >= self.limit:
            self.full = True
        return len(self.ops) - 1
