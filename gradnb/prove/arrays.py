"""NumPy's functions on carried values: each is torch's function of that name, so that the history goes on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy
import torch

from .carried import Carried, carry

_NAMES = {"concatenate": "cat", "power": "pow", "absolute": "abs", "clip": "clamp", "dot": "matmul", "average": "mean", "fabs": "abs"}
_KEYWORDS = {"axis": "dim", "keepdims": "keepdim", "a_min": "min", "a_max": "max"}
_DROPPED = {"out", "where", "dtype", "casting", "order", "subok", "initial", "axes"}
_STEPS = {"round", "rint", "floor", "ceil", "trunc", "fix", "sign"}
_PAIRS = {"maximum", "minimum", "fmax", "fmin", "arctan2"}  # torch wants tensors for both
_GATHER = {"stack", "concatenate", "vstack", "hstack"}
_ROOMS = {"numpy.fft": torch.fft, "numpy.linalg": torch.linalg}
_LISTS = "array asarray asanyarray ascontiguousarray sum mean prod max min amax amin std var median average exp log sqrt abs square".split()

_OWN: dict[str, Callable[..., Any]] = {
    "transpose": lambda value, axes=None: value.permute(*axes) if axes is not None else value.mT if value.dim() == 2 else value,
    "expand_dims": lambda value, axis: value.unsqueeze(axis),
    "cumsum": lambda value, axis=None, **_: value.reshape(-1).cumsum(0) if axis is None else value.cumsum(axis),
    "copy": lambda value, **_: value.clone(),
    "shape": lambda value: tuple(value.shape),
    "size": lambda value: value.numel(),
    "ndim": lambda value: value.dim(),
}


def ufunc(name: str, method: str, inputs: tuple, kwargs: dict) -> Any:
    """A universal function, or its reduction where that is a sum."""
    if method == "reduce" and name == "add":
        return call("numpy", "sum", inputs[:1], kwargs)
    return call("numpy", name, inputs, kwargs) if method == "__call__" else NotImplemented


def call(module: str, name: str, args: tuple, kwargs: dict) -> Any:
    """The function ``name`` of a NumPy module by torch; NotImplemented, for NumPy to complain about, where torch has none."""
    if name in _OWN:
        return _OWN[name](*args, **kwargs)
    function = getattr(_ROOMS.get(module, torch), _NAMES.get(name, name), None)
    if function is None:
        return NotImplemented
    like = next((v for v in (*args, *(args[0] if name in _GATHER else ())) if isinstance(v, Carried)), None)
    if name in _GATHER:
        args = ([_operand(value, like, True) for value in args[0]], *args[1:])
    else:
        args = tuple(_operand(value, like, name in _PAIRS) for value in args)
    out = function(*args, **_translated(kwargs))
    if name in _STEPS:  # flat everywhere: the gradient goes through as if the values had not been rounded
        out = args[0] + (out - args[0]).detach()
    return out


def _translated(kwargs: dict) -> dict:
    given = {_KEYWORDS.get(key, key): value for key, value in kwargs.items() if key not in _DROPPED and value is not None}
    return {key: value for key, value in given.items() if not (key == "keepdim" and value is not True)}


def _operand(value: Any, like: Any, tensor: bool) -> Any:
    """A NumPy operand as torch takes it, with the precision of the carried one."""
    if isinstance(value, numpy.ndarray) and value.dtype != object:
        array = torch.as_tensor(value)
        return carry(array.to(like.dtype) if like is not None and array.is_floating_point() else array)
    if isinstance(value, numpy.generic):
        value = value.item()
    return carry(torch.as_tensor(value, dtype=like.dtype)) if tensor and isinstance(value, (int, float)) else value


def accept() -> None:
    """Let NumPy's functions take carried values, alone and in lists. For a process that is thrown away: nothing is put back."""
    for name in _LISTS:
        _wrap(name, keep="array" in name)


def _wrap(name: str, keep: bool) -> None:
    original = getattr(numpy, name)

    def function(value: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(value, (list, tuple)) and _first(value) is not None:
            value = _stacked(value, _first(value))
        if keep and isinstance(value, Carried):
            return value
        return original(value, *args, **kwargs)

    setattr(numpy, name, function)


def _first(values: Any) -> Any:
    """A carried number in nested lists."""
    for value in values:
        found = _first(value) if isinstance(value, (list, tuple)) else value if isinstance(value, Carried) else None
        if found is not None:
            return found
    return None


def _stacked(values: Any, like: Any) -> Any:
    """Lists of carried numbers or rows as one carried array; the list itself where they do not fit together."""
    try:
        return torch.stack([_stacked(v, like) if isinstance(v, (list, tuple)) else _operand(v, like, True) for v in values])
    except (TypeError, RuntimeError):
        return values
