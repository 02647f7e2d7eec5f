"""The raw log of a running check: flat tuples and weak references, cheap to write, turned into a Recording afterwards."""

from __future__ import annotations

import sys
import weakref
from types import CodeType
from typing import Any, NamedTuple

import torch

from .frames import CLOSURE, MODULE, STOP, USER, Frames, Site
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
        self.calls: list[list] = [[None, (), -1]]  # running module calls: module, user's frames above it, number
        self._ids: dict[int, tuple[weakref.ref, int]] = {}
        self._sweep_at = 4096

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
        values = self.values
        index = len(values)
        try:
            inference = op == -1 and tensor.is_inference()
            # a plain tuple in the order of RawValue: this runs for every tensor that is made
            leaf = op == -1 and tensor.is_leaf
            values.append((op, tensor.requires_grad, tensor.dtype, tensor.shape, leaf, index if group < 0 else group, inference))  # type: ignore[arg-type]
        except Exception:  # a tensor subclass that answers none of this, or a lazy module's parameter that has no shape yet
            self.values.append(RawValue(op, _requires_grad(tensor), torch.float32, (), False, index, False))
        self._ids[id(tensor)] = (weakref.ref(tensor), index)
        return index

    def result(self, tensor: torch.Tensor, op: int, group: int) -> int:
        """The value of what a call gave that may be its own argument, such as contiguous() or to(): then no new version of it."""
        known = self.known(tensor)
        return known if known >= 0 else self.add(tensor, op, group)

    def mark(self, index: int, **changes: Any) -> None:
        self.values[index] = RawValue._make(self.values[index])._replace(**changes)

    def sweep(self) -> None:
        """Forget the entries of tensors that are gone, so that a long run does not fill memory."""
        if len(self._ids) < self._sweep_at:
            return
        self._ids = {key: entry for key, entry in self._ids.items() if entry[0]() is not None}
        self._sweep_at = max(4096, 2 * len(self._ids))

    def sites(self, depth: int) -> tuple[tuple[Site, ...], str | None]:
        """The user's frames from ``depth`` frames up, and the library passed on the way.

        Looking at a frame makes Python build an object for it, so what lies above a running module call is looked at once
        and kept with that call: its callers stand still while it runs.
        """
        codes = self.frames.codes
        calls = self.calls
        frame = sys._getframe(depth)
        found: list[Site] = []
        via = None
        above = len(calls) - 1
        waiting = None
        while frame is not None:
            code = frame.f_code
            try:
                kind = codes[id(code)]
            except KeyError:
                kind = self.frames.learn(code)
            if kind:
                if kind == USER:
                    found.append((code, frame.f_lasti))
                elif kind == MODULE:
                    if above > 0:
                        call = calls[above]
                        above -= 1
                        if call[1] is not None:
                            if not found and waiting is None:
                                return call[1], None if via is CLOSURE else via  # type: ignore[return-value]
                            found.extend(call[1])
                            break
                        if waiting is None:
                            waiting = [(call, len(found))]
                        else:
                            waiting.append((call, len(found)))
                elif kind == STOP:
                    break
                elif via is None and not found:
                    via = kind
            frame = frame.f_back  # type: ignore[assignment]
        if waiting is not None:
            for call, start in waiting:
                call[1] = tuple(found[start:])
        return tuple(found), None if via is CLOSURE else via  # type: ignore[return-value]

    def group(self, value: int) -> int:
        return self.values[value][5]

    def append(self, op: tuple | None) -> int:
        """Write an op: a plain tuple in the order of RawOp."""
        self.ops.append(op)  # type: ignore[arg-type]
        if len(self.ops) >= self.limit:
            self.full = True
        return len(self.ops) - 1


def _requires_grad(tensor: torch.Tensor) -> bool:
    try:
        return bool(tensor.requires_grad)
    except Exception:
        return False


def said(error: BaseException) -> str:
    """The error's class and the beginning of its message."""
    return f"{type(error).__name__}: {error}"[:400]
