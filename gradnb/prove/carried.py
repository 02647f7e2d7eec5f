"""A number that carries its tensor: what ``.item()`` and ``.numpy()`` give in a child that tries a repair of them.

It adds, compares and prints like the number or array that it stands for, and where it comes back to torch its history is there.
"""

from __future__ import annotations

import math
import sys
from typing import Any

import torch

LARGEST = 1 << 14  # elements that are turned into an array of single tensors, which is slow

_MATH = "exp log log2 log10 log1p expm1 sqrt sin cos tan asin acos atan sinh cosh tanh floor ceil erf fabs pow".split()
_TORCH = {"fabs": "abs", "concatenate": "cat", "power": "pow", "absolute": "abs", "amax": "amax", "amin": "amin", "clip": "clamp"}
_AXIS = {"axis": "dim", "keepdims": "keepdim"}
_DROPPED = {"out", "where", "dtype", "casting", "order", "subok", "initial"}
_STEPS = {"round", "rint", "floor", "ceil", "trunc", "fix", "sign"}


class Carried(torch.Tensor):
    """A tensor that Python and NumPy may use as the number or array that it replaces."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        out = super().__torch_function__(func, types, args, kwargs)
        # Together with a tensor a number becomes a tensor: what happens to that one later is a matter of its own.
        return plain(out) if isinstance(out, Carried) and _with_tensor((args, tuple((kwargs or {}).values()))) else out

    def __round__(self, digits: int = 0) -> "Carried":
        return self

    def __format__(self, spec: str) -> str:
        return format(float(self.detach()), spec) if self.numel() == 1 else repr(self)

    def item(self) -> Any:
        return self

    def numpy(self, *args: Any, **kwargs: Any) -> Any:
        return self

    def copy(self) -> "Carried":
        return self.clone()  # type: ignore[return-value]

    def astype(self, dtype: Any, *args: Any, **kwargs: Any) -> Any:
        return self

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        import numpy

        if self.numel() > LARGEST:
            raise TypeError("too large to be carried through NumPy element by element")
        array = numpy.empty(tuple(self.shape), dtype=object)
        flat = list(self.reshape(-1).unbind()) if self.dim() else [self]
        for index, value in zip(numpy.ndindex(*array.shape), flat):
            array[index] = value
        return array

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        name = ufunc.__name__
        if method == "reduce" and name == "add":
            return torch.sum(_tensor(inputs[0]), **_translated(kwargs))
        if method != "__call__":
            return NotImplemented
        return _call(name, [_tensor(value) for value in inputs], kwargs)

    def __array_function__(self, function: Any, types: Any, args: tuple, kwargs: dict) -> Any:
        name = function.__name__
        room = {"numpy.fft": torch.fft, "numpy.linalg": torch.linalg}.get(function.__module__, torch)
        if name in ("stack", "concatenate", "vstack", "hstack"):
            return _call(name, [[_tensor(value) for value in args[0]], *args[1:]], kwargs)
        return _call(name, [_tensor(args[0]), *args[1:]], kwargs, room)


def carry(value: torch.Tensor) -> Carried:
    """The tensor as a number or array that keeps its history."""
    return value.as_subclass(Carried)  # type: ignore[type-var]


def plain(value: torch.Tensor) -> torch.Tensor:
    """A carried value as an ordinary tensor."""
    if not isinstance(value, Carried):
        return value
    with torch._C.DisableTorchFunctionSubclass():
        return value.as_subclass(torch.Tensor)


def _with_tensor(args: Any) -> bool:
    if isinstance(args, torch.Tensor):
        return not isinstance(args, Carried)
    return isinstance(args, (list, tuple)) and any(_with_tensor(item) for item in args)


def _call(name: str, args: list, kwargs: dict, room: Any = torch) -> Any:
    function = getattr(room, _TORCH.get(name, name), None)
    if function is None:
        return NotImplemented
    out = function(*args, **_translated(kwargs))
    if name in _STEPS:  # flat everywhere: the gradient goes through as if the values had not been rounded
        out = args[0] + (out - args[0]).detach()
    return out


def _translated(kwargs: dict) -> dict:
    given = {_AXIS.get(key, key): value for key, value in kwargs.items() if key not in _DROPPED and value is not None}
    return {key: value for key, value in given.items() if not (key == "keepdim" and value is not True)}


def _tensor(value: Any) -> Any:
    """A NumPy operand as torch takes it."""
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, numpy.generic):
        return value.item()
    return torch.as_tensor(value) if numpy is not None and isinstance(value, numpy.ndarray) and value.dtype != object else value


def leaves(data: Any) -> list[torch.Tensor]:
    """The tensors with a history in nested lists, tuples and object arrays."""
    if isinstance(data, torch.Tensor):
        return [data] if data.requires_grad else []
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(data, numpy.ndarray):
        return leaves(data.reshape(-1).tolist()) if data.dtype == object and data.size <= LARGEST else []
    if isinstance(data, (list, tuple)):
        return [found for item in data[:LARGEST] for found in leaves(item)]
    return []


def refold(data: Any, like: torch.Tensor | None = None) -> torch.Tensor:
    """Nested data with tensors in it as one tensor that keeps their history; shape, dtype and device as ``like`` has them."""
    flat: list[torch.Tensor] = []
    _flatten(data, flat)
    out = torch.cat(flat) if len(flat) != 1 else flat[0]
    if like is None:
        return out
    return out.reshape(like.shape).to(device=like.device, dtype=like.dtype)


def _flatten(data: Any, flat: list[torch.Tensor]) -> None:
    numpy = sys.modules.get("numpy")
    if isinstance(data, torch.Tensor):
        flat.append(plain(data).reshape(-1))
    elif isinstance(data, (list, tuple)):
        for item in data:
            _flatten(item, flat)
    elif numpy is not None and isinstance(data, numpy.ndarray) and data.dtype == object:
        for item in data.reshape(-1).tolist():
            _flatten(item, flat)
    else:
        flat.append(torch.as_tensor(data).reshape(-1))


def accept() -> None:
    """Let ``math`` and NumPy's constructors take carried values. For a process that is thrown away: nothing is put back."""
    for name in _MATH:
        _wrap(math, name, getattr(torch, _TORCH.get(name, name)))
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        for name in ("asarray", "array", "asanyarray", "ascontiguousarray"):
            _wrap(numpy, name, lambda value, *args, **kwargs: value)
        _wrap(torch, "from_numpy", lambda value: plain(value))


def _wrap(owner: Any, name: str, instead: Any) -> None:
    original = getattr(owner, name)

    def call(*args: Any, **kwargs: Any) -> Any:
        if args and isinstance(args[0], Carried):
            return instead(*args, **kwargs)
        return original(*args, **kwargs)

    setattr(owner, name, call)
