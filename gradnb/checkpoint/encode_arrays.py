"""NumPy's values in the table of ``encode``, and long lists of numbers. NumPy is imported only where it is already in use."""

from __future__ import annotations

import array
import base64
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..errors import UsageError
from .encode import TAG, Packer, Place, Unpacker, _readers, family
from .errors import DamagedError

if TYPE_CHECKING:
    import numpy as np

_AS_TENSOR = "float64 float32 float16 int64 int32 int16 int8 uint8 uint16 uint32 uint64 bool complex64".split()
"""Dtypes of arrays that are stored as tensors of this dtype; the others are stored as their bytes."""


def write_numbers(packer: Packer, values: list, place: Place) -> dict[str, Any]:
    """A list of floats only, or of ints of 64 bits only, as one tensor."""
    from .encode_tensors import store

    numbers = array.array("d" if type(values[0]) is float else "q", values)
    return {TAG: "numbers", "name": store(packer, torch.frombuffer(numbers, dtype=_number_type(values[0])), place.name)}


def _number_type(value: Any) -> torch.dtype:
    return torch.float64 if type(value) is float else torch.int64


def _read_numbers(unpacker: Unpacker, tree: Mapping[str, Any]) -> list:
    tensor = unpacker.tensor(tree["name"])
    if tensor.dim() != 1 or tensor.dtype not in (torch.float64, torch.int64):
        raise DamagedError(f"The tensor {tree['name']!r} is not a list of numbers.")
    return tensor.tolist()


def of_numpy(one: type) -> bool:
    numpy = sys.modules.get("numpy")
    return numpy is not None and issubclass(one, (numpy.ndarray, numpy.generic))


def is_array(one: type) -> bool:
    numpy = sys.modules.get("numpy")
    return numpy is not None and issubclass(one, numpy.ndarray)


def write(packer: Packer, value: Any, place: Place) -> Any:
    import numpy as np

    dtype = value.dtype
    if isinstance(value, np.generic):
        if dtype.hasobject or dtype.names:
            raise UsageError(f"{place} is a NumPy scalar of {dtype}, which a checkpoint cannot hold: use a plain value.")
        return {TAG: "scalar", "dtype": dtype.str, "base64": base64.b64encode(value.tobytes()).decode()}
    if type(value) is not np.ndarray:
        raise UsageError(f"{place} is an array of the class {type(value).__name__}; only plain arrays are saved: numpy.asarray(...).")
    record: dict[str, Any] = {TAG: "array", "shape": list(value.shape)}
    if value.flags.f_contiguous and not value.flags.c_contiguous:
        record["order"] = "F"
    if not value.flags.writeable:
        record["readonly"] = True
    if dtype.hasobject:
        if dtype.names is not None:
            raise UsageError(f"{place} is an array of records with objects in them ({dtype}), which a checkpoint cannot hold.")
        return record | {"dtype": "object", "of": packer.items(value.ravel().tolist(), place)}
    record["dtype"] = packer.value(_description(dtype, place), place)
    return record | {"name": _store(packer, value, place)}


def _description(dtype: "np.dtype", place: Place) -> Any:
    import numpy as np

    if dtype.names is None:
        return dtype.str
    if dtype.isalignedstruct or np.dtype(dtype.descr) != dtype:
        raise UsageError(
            f"{place} is an array of records with an aligned layout, which a checkpoint cannot hold: save its fields one by one."
        )
    return dtype.descr


def _store(packer: Packer, value: "np.ndarray", place: Place) -> str:
    import warnings

    import numpy as np

    from .encode_tensors import store

    if value.dtype.name in _AS_TENSOR and value.dtype.isnative and all(step >= 0 for step in value.strides):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns that a read-only array must not be written; nobody writes
            return store(packer, torch.from_numpy(value), place.name)
    raw = np.frombuffer(value.tobytes() or b"", dtype=np.uint8)
    return store(packer, torch.from_numpy(raw.copy()), place.name)


def _read_array(unpacker: Unpacker, tree: Mapping[str, Any]) -> Any:
    import numpy as np

    shape, order = tuple(tree["shape"]), tree.get("order", "C")
    if tree["dtype"] == "object":
        made = np.empty(len(tree["of"]), dtype=object)
        for i, item in enumerate(tree["of"]):
            made[i] = unpacker.read(item)
    else:
        dtype = np.dtype(_no_objects(unpacker.read(tree["dtype"])))
        made = np.frombuffer(_bytes(unpacker.tensor(tree["name"])), dtype=dtype).copy()
    made = made.reshape(shape)
    if order == "F":
        made = np.asfortranarray(made)
    made.flags.writeable = not tree.get("readonly", False)
    return made


def _bytes(tensor: Tensor) -> bytes:
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def _no_objects(dtype: Any) -> Any:
    import numpy as np

    if np.dtype(dtype).hasobject:
        raise DamagedError("The checkpoint holds an array of objects that is stored as bytes.")
    return dtype


def _read_scalar(unpacker: Unpacker, tree: Mapping[str, Any]) -> Any:
    import numpy as np

    dtype = np.dtype(_no_objects(tree["dtype"]))
    raw = base64.b64decode(tree["base64"], validate=True)
    return np.frombuffer(raw, dtype=dtype)[0] if dtype.itemsize else dtype.type()


_readers["numbers"], _readers["array"], _readers["scalar"] = _read_numbers, _read_array, _read_scalar
family(of_numpy, write)
