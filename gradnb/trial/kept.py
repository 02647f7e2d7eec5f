"""Keeps what a training step can change, and puts it back bit for bit."""

from __future__ import annotations

import random
import sys
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn.parameter import UninitializedTensorMixin  # type: ignore[attr-defined]

from ..errors import UsageError

_CONTAINERS = (list, dict, set, deque)
_PARTS = ("_parameters", "_buffers", "_modules")
_OWN = frozenset(vars(torch.nn.Module()))  # torch's own attributes, hooks among them, which are left alone


class Kept:
    """What was taken in stands again after ``restore()``: the same objects with the same bits, counted as unchanged."""

    def __init__(self) -> None:
        self._undo: list[Callable[[], None]] = []
        self._seen: dict[tuple[str, int], Any] = {}  # holds them, so that no other object gets the same id

    def _new(self, thing: Any, what: str = "") -> bool:
        if (what, id(thing)) in self._seen:
            return False
        self._seen[what, id(thing)] = thing
        return True

    def module(self, root: torch.nn.Module) -> None:
        """Parameters, buffers, gradients, train/eval and requires_grad flags, and the plain attributes of every module in it."""
        for module in root.modules():
            if not self._new(module):
                continue
            attributes = vars(module)
            self._mapping(attributes)
            for part in _PARTS:
                self._mapping(attributes[part])
            for value in [*module._parameters.values(), *module._buffers.values()]:
                self._value(value)
            for name, value in list(attributes.items()):
                if name not in _OWN:
                    self._value(value)

    def optimizer(self, optimizer: torch.optim.Optimizer) -> None:
        """Its state, its groups, and the parameters that it would move."""
        self._mapping(vars(optimizer))
        self._mapping(optimizer.state)
        for group in optimizer.param_groups:
            self._mapping(group)
            for value in group.values():
                self._value(value)
            for parameter in group["params"]:
                self.tensor(parameter)
        for state in optimizer.state.values():
            self._value(state)
            for value in state.values() if isinstance(state, dict) else ():
                self._value(value)

    def tensor(self, tensor: torch.Tensor) -> None:
        """Its values, its gradient, its flag and its version: a graph that saved it can still be run backwards."""
        if not self._new(tensor):
            return
        if isinstance(tensor, UninitializedTensorMixin):
            raise UsageError("the model has lazy parameters, which take their shape from the first batch: run one batch through it before")
        with _untouched():
            self.gradient(tensor)
            alias, copy = tensor.data, tensor.detach().clone()
            leaf, flag = tensor.is_leaf, tensor.requires_grad
            version = None if tensor.is_inference() else tensor._version

        def put_back() -> None:
            if tensor.is_meta:
                return
            if tensor.data_ptr() != alias.data_ptr() or tensor.shape != alias.shape:
                tensor.data = alias
            alias.copy_(copy)  # through the alias, which counts its own changes
            if leaf and tensor.requires_grad != flag:
                tensor.requires_grad_(flag)
            if version is not None:
                _set_version(tensor, version)

        self._undo.append(put_back)

    def gradient(self, tensor: torch.Tensor) -> None:
        """``.grad``: the same tensor with the same values, or None."""
        if not tensor.is_leaf or not self._new(tensor, "gradient"):
            return
        with _untouched():
            grad = tensor.grad
            copy = grad.detach().clone() if grad is not None else None
            version = grad._version if grad is not None and not grad.is_inference() else None

        def put_back() -> None:
            tensor.grad = grad
            if grad is not None and copy is not None and not grad.is_meta:
                grad.data.copy_(copy)
                if version is not None:
                    _set_version(grad, version)

        self._undo.append(put_back)

    def restore(self) -> None:
        """Put everything back, newest first. What cannot be put back does not keep the rest from it."""
        failed: Exception | None = None
        with _untouched():
            while self._undo:
                try:
                    self._undo.pop()()
                except Exception as error:
                    failed = failed or error
        self._seen.clear()
        if failed is not None:
            raise failed

    def _value(self, value: Any) -> None:
        if isinstance(value, torch.Tensor):
            self.tensor(value)
        elif isinstance(value, dict):
            self._mapping(value)
        elif isinstance(value, _CONTAINERS):
            self._container(value)

    def _mapping(self, mapping: Any) -> None:
        if not self._new(mapping):
            return
        before = dict(mapping)

        def put_back() -> None:
            if _same(list(mapping), list(before)) and _same(list(mapping.values()), list(before.values())):
                return
            mapping.clear()
            mapping.update(before)

        self._undo.append(put_back)

    def _container(self, container: Any) -> None:
        if not self._new(container):
            return
        before = list(container)

        def put_back() -> None:
            if _same(list(container), before):
                return
            container.clear()
            container.update(before) if isinstance(container, set) else container.extend(before)

        self._undo.append(put_back)


def _same(some: list, others: list) -> bool:
    return len(some) == len(others) and all(a is b for a, b in zip(some, others))


@contextmanager
def random_kept() -> Iterator[None]:
    """The random streams of torch, its devices, NumPy and Python stand afterwards where they stood."""
    numpy = sys.modules.get("numpy")
    plain = random.getstate()
    legacy = numpy.random.get_state() if numpy is not None else None
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        random.setstate(plain)
        if numpy is not None:
            numpy.random.set_state(legacy)


@contextmanager
def _untouched() -> Iterator[None]:
    """Torch calls in here are no part of any recording or graph."""
    with torch._C.DisableTorchFunction(), torch.no_grad():
        yield


def _set_version(tensor: torch.Tensor, version: int) -> None:
    try:
        torch._C._autograd._unsafe_set_version_counter((tensor,), (version,))
    except TypeError:  # before torch 2.7 it took one tensor
        torch._C._autograd._unsafe_set_version_counter(tensor, version)  # type: ignore[arg-type]
