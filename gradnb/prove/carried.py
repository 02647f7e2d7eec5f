"""A number that carries its tensor: what ``.item()`` and ``.numpy()`` give in a child that tries a repair of them.

It adds, compares and prints like the number or array that it stands for, and where it comes back to torch its history is there.
"""

from __future__ import annotations

import math
import sys
from typing import Any

import torch

LARGEST = 1 << 14  # elements that are taken one by one, which is slow

_MATH = "exp log log2 log10 log1p expm1 sqrt sin cos tan asin acos atan sinh cosh tanh floor ceil erf fabs pow".split()


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
        """An array of objects, one carried number each: NumPy's own loops then call the operators of the elements."""
        import numpy

        if self.numel() > LARGEST:
            raise TypeError("too large to be carried through NumPy element by element")
        array = numpy.empty(tuple(self.shape), dtype=object)
        flat = list(self.reshape(-1).unbind()) if self.dim() else [self]
        for index, value in zip(numpy.ndindex(*array.shape), flat):
            array[index] = value
        return array

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        from .arrays import ufunc as call

        return call(ufunc.__name__, method, inputs, kwargs)

    def __array_function__(self, function: Any, types: Any, args: tuple, kwargs: dict) -> Any:
        from .arrays import call

        return call(function.__module__, function.__name__, args, kwargs)


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


def refold(data: Any, like: torch.Tensor) -> torch.Tensor:
    """Nested data with tensors in it as one tensor that keeps their history; shape, dtype and device as ``like`` has them."""
    flat: list[torch.Tensor] = []
    _flatten(data, flat)
    return torch.cat([part.to(like.dtype) for part in flat]).reshape(like.shape).to(like.device)


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
    """Let ``math`` and NumPy take carried values. For a process that is thrown away: nothing is put back."""
    for name in _MATH:
        _wrap(math, name, getattr(torch, "abs" if name == "fabs" else name))
    if "numpy" in sys.modules:
        from . import arrays

        arrays.accept()
        _wrap(torch, "from_numpy", plain)


def _wrap(owner: Any, name: str, instead: Any) -> None:
    original = getattr(owner, name)

    def call(*args: Any, **kwargs: Any) -> Any:
        return instead(*args, **kwargs) if args and isinstance(args[0], Carried) else original(*args, **kwargs)

    setattr(owner, name, call)
