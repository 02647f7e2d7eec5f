"""Tensors in the table of ``encode``: each is stored once, dense and detached, beside a record of what else it was."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.parameter import UninitializedTensorMixin  # type: ignore[attr-defined]

from ..errors import UsageError
from . import shards
from .encode import TAG, Packer, Place, Unpacker, _readers, family
from .errors import DamagedError

_PLAIN = {
    getattr(torch, name)
    for name in "float64 float32 float16 bfloat16 int64 int32 int16 int8 uint8 bool uint16 uint32 uint64 "
    "complex64 float8_e4m3fn float8_e4m3fnuz float8_e5m2 float8_e5m2fnuz".split()
    if hasattr(torch, name)
}
"""What the safetensors format has a name for; others are stored as what they consist of."""

_REAL = {dtype for dtype in _PLAIN if not dtype.is_complex}
_STRIDED = torch.strided
_SPARSE = {torch.sparse_csr: "row", torch.sparse_bsr: "row", torch.sparse_csc: "column", torch.sparse_bsc: "column"}


def identity(tensor: Tensor) -> Any:
    """Equal for two living tensors that are the same numbers in the same memory."""
    where = _address(tensor)
    return (where, *_form(tensor)) if where else ("", id(tensor))


def _address(tensor: Tensor) -> int:
    """Where its numbers begin; 0 where it has none, or none that can be asked for."""
    try:
        return _part(tensor).data_ptr()
    except (NotImplementedError, RuntimeError):
        return 0


def _form(tensor: Tensor) -> tuple[Any, ...]:
    part = _part(tensor)
    return part.shape, part.stride(), part.dtype, part is tensor


def _part(tensor: Tensor) -> Tensor:
    """Of a DTensor the piece that this process holds."""
    return tensor if type(tensor) is Tensor else getattr(tensor, "_local_tensor", tensor)


def store(packer: Packer, tensor: Tensor, name: str) -> str:
    """The name under which the packer holds it: this one, where it is not held already and the name is free."""
    key: Any = _address(tensor)
    if not key or key in packer.stored:
        first = packer.stored.get(key)
        if first is not None and _form(packer.tensors[first]) == _form(tensor):
            return first
        key = identity(tensor)
        if key in packer.stored:
            return packer.stored[key]
    unique, number = name, 1
    while unique in packer.tensors:
        number += 1
        unique = f"{name}~{number}"
    packer.stored[key], packer.tensors[unique] = unique, tensor
    return unique


def write_all(packer: Packer, values: Mapping[str, Any], place: Place) -> dict[str, Any]:
    """The trees of named values. A save of thousands of tensors takes as long as this loop: what is usual is done in it."""
    trees: dict[str, Any] = {}
    before, held, tensors = f"{place.name}/", packer.stored, packer.tensors
    for key, value in values.items():
        if type(value) is Tensor and value.dtype in _REAL and type(key) is str and key.isascii() and _simple(value):
            name, address = before + key, value.data_ptr()
            if address and address not in held and name not in tensors:
                held[address], tensors[name] = name, value
            else:
                name = store(packer, value, name)
            trees[key] = _record(value, name)
        else:
            trees[key] = packer.value(value, place.at(key))
    return trees


def write(packer: Packer, value: Tensor, place: Place) -> dict[str, Any]:
    if type(value) is Tensor and value.dtype in _PLAIN and not value.is_conj() and _simple(value):
        return _record(value, store(packer, value, place.name))
    if isinstance(value, UninitializedTensorMixin):
        raise UsageError(f"{place} is a lazy parameter without a shape yet: run one batch through the model before it is tracked.")
    if value.is_meta:
        raise UsageError(f"{place} is a tensor on the meta device: it has no numbers to save.")
    if value.is_quantized or value.is_nested or value.layout is getattr(torch, "_mkldnn", None):
        raise UsageError(
            f"{place} is a quantized, nested or MKL-DNN tensor, which a checkpoint cannot hold: save it dequantized, padded or dense."
        )
    data = _bare(value.detach(), place)
    if data.layout is not torch.strided:
        record = _sparse(packer, data, place)
    else:
        record = {TAG: "tensor", **_dense(packer, data, place)}
    if value.device.type != "cpu":
        record["device"] = str(value.device)
    if isinstance(value, torch.nn.Parameter):
        record["parameter"] = True
    if value.is_leaf and value.requires_grad:
        record["requires_grad"] = True
    return record


def _record(value: Tensor, name: str) -> dict[str, Any]:
    return {TAG: "tensor", "name": name} if value.is_cpu else {TAG: "tensor", "name": name, "device": str(value.device)}


def _simple(value: Tensor) -> bool:
    """Whether a tensor of a plain dtype is nothing but its numbers, as almost all are."""
    return (
        (value.is_cpu or value.is_cuda)
        and value.layout is _STRIDED
        and not (value.requires_grad or value.is_nested or value.is_neg())
        and value.is_contiguous()
    )


def _bare(tensor: Tensor, place: Place) -> Tensor:
    """Without its class, where the class only adds methods. A DTensor stays one: its shards are saved where ranks are."""
    one = type(tensor)
    if one in (Tensor, torch.nn.Parameter) or _distributed(one):
        return tensor
    if one.__torch_dispatch__ is not Tensor.__torch_dispatch__:
        raise UsageError(
            f"{place} is a tensor of the class {one.__name__}, which keeps its numbers in a way of its own: save a plain tensor of it."
        )
    return tensor.as_subclass(Tensor)


def _distributed(one: type) -> bool:
    kind = getattr(sys.modules.get("torch.distributed.tensor"), "DTensor", None)  # torch 2.4 has the module without the class
    return kind is not None and issubclass(one, kind)


def _dense(packer: Packer, data: Tensor, place: Place) -> dict[str, Any]:
    record: dict[str, Any] = {}
    if not _distributed(type(data)):
        data = data.resolve_conj().resolve_neg()
        if 0 in data.stride() and data.numel():
            record["expand"] = list(data.shape)
            for dimension, (size, stride) in enumerate(zip(data.shape, data.stride())):
                if stride == 0 and size > 1:
                    data = data.narrow(dimension, 0, 1)
        if not data.is_contiguous() and torch.empty_like(data, device="meta").stride() == data.stride():
            record["stride"] = list(data.stride())  # kept where no memory lies between the numbers (channels last)
        if data.dtype not in _PLAIN:
            record["dtype"] = str(data.dtype).removeprefix("torch.")
            data = torch.view_as_real(data) if data.is_complex() else data.contiguous().reshape(*data.shape, 1).view(torch.uint8)
    return {"name": store(packer, data, place.name), **record}


def _sparse(packer: Packer, data: Tensor, place: Place) -> dict[str, Any]:
    record: dict[str, Any] = {TAG: "sparse", "layout": str(data.layout).removeprefix("torch."), "shape": list(data.shape)}
    if data.layout is torch.sparse_coo:
        parts = {"indices": data._indices(), "values": data._values()}
        record["coalesced"] = data.is_coalesced()
    elif _SPARSE[data.layout] == "row":
        parts = {"outer": data.crow_indices(), "inner": data.col_indices(), "values": data.values()}
    else:
        parts = {"outer": data.ccol_indices(), "inner": data.row_indices(), "values": data.values()}
    return record | {key: _dense(packer, part.detach(), place.at(key)) for key, part in parts.items()}


def stored(unpacker: Unpacker, record: Mapping[str, Any]) -> Tensor:
    """The numbers of a record, in the memory that was read: to copy from, never to keep."""
    if record.get(TAG, "tensor") == "sparse":
        return _made_sparse(unpacker, record)
    data = unpacker.tensor(record["name"])
    if "dtype" in record:
        dtype = getattr(torch, str(record["dtype"]), None)
        if not isinstance(dtype, torch.dtype):
            raise DamagedError(f"torch has no dtype {record['dtype']!r} here.")
        data = torch.view_as_complex(data.contiguous()) if dtype.is_complex else data.contiguous().view(dtype).squeeze(-1)
    if "expand" in record:
        data = data.expand(record["expand"])
    return data


def _read(unpacker: Unpacker, record: Mapping[str, Any]) -> Tensor:
    key = str(sorted(record.items()))
    if key not in unpacker.made:
        unpacker.made[key] = _make(unpacker, record)
    return unpacker.made[key]


def _make(unpacker: Unpacker, record: Mapping[str, Any]) -> Tensor:
    if record[TAG] == "sparse":
        made = stored(unpacker, record)
    else:
        made = own(unpacker, record)
    if "device" in record:
        made = _placed(unpacker, made, record["device"])
    wanted = bool(record.get("requires_grad"))
    if record.get("parameter"):
        return torch.nn.Parameter(made, requires_grad=wanted)
    return made.requires_grad_() if wanted else made


def own(unpacker: Unpacker, record: Mapping[str, Any]) -> Tensor:
    """The numbers in memory of their own, in the order that they had."""
    data = stored(unpacker, {key: value for key, value in record.items() if key != "expand"})
    like = unpacker.like if unpacker.like is not None and unpacker.like.shape == data.shape else None
    if shards.concerns(data, like):
        return shards.fit(data, like)
    if "stride" in record:
        like = torch.empty_strided(data.shape, record["stride"], dtype=data.dtype, device="meta")
        if torch.empty_like(like).stride() != like.stride():
            raise DamagedError(f"The tensor {record['name']!r} has impossible strides.")
        made = torch.empty_strided(data.shape, record["stride"], dtype=data.dtype, device=data.device).copy_(data)
    else:
        made = data.clone(memory_format=torch.contiguous_format)
    return made.expand(record["expand"]) if "expand" in record else made


def _made_sparse(unpacker: Unpacker, record: Mapping[str, Any]) -> Tensor:
    parts = {key: own(unpacker, record[key]) for key in ("indices", "outer", "inner", "values") if key in record}
    layout = getattr(torch, str(record["layout"]), None)
    if layout is torch.sparse_coo:
        made = torch.sparse_coo_tensor(parts["indices"], parts["values"], record["shape"], check_invariants=True)
        return made._coalesced_(bool(record["coalesced"]))  # type: ignore[attr-defined]
    if layout not in _SPARSE:
        raise DamagedError(f"The checkpoint holds a tensor of the unknown layout {record['layout']!r}.")
    return torch.sparse_compressed_tensor(
        parts["outer"], parts["inner"], parts["values"], record["shape"], layout=layout, check_invariants=True
    )


def _placed(unpacker: Unpacker, tensor: Tensor, device: str) -> Tensor:
    there = torch.device(device)
    try:
        return tensor.to(there)
    except (AssertionError, NotImplementedError, RuntimeError):  # torch raises any of them for a device that is not here
        note = f"tensors that were on {device} are on the CPU now: this machine has no such device"
        if note not in unpacker.notes:
            unpacker.notes.append(note)
        return tensor


_readers["tensor"] = _readers["sparse"] = _read
family(lambda one: issubclass(one, Tensor), write)
