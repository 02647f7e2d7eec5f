"""Tensors that several processes hold in pieces (DTensor): each writes its own, and reads what overlaps the piece it needs.

No piece is sent to another process. Beside the tree of a state stands ``shards``: name -> shape of the whole, offset and shape of this
piece, dtype. The offsets are those that torch.distributed.checkpoint's planner computes.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import UsageError
from .errors import DamagedError

Box = tuple[tuple[int, ...], tuple[int, ...]]
"""(offset, shape) in the whole tensor."""
Read = Callable[[tuple[slice, ...]], Tensor]
"""Values of a piece; the slices count from its own corner."""


def is_sharded(tensor: Tensor) -> bool:
    """Whether this process holds only its piece of it. Costs nothing where torch.distributed is not used."""
    return _is("torch.distributed.tensor", "DTensor", tensor) or _is("torch.distributed._shard.sharded_tensor", "ShardedTensor", tensor)


def split(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """(what this process writes, plain tensors only; ``shards``, JSON-ready). UsageError for a piece whose place is not known."""
    plain: dict[str, Tensor] = {}
    shards: dict[str, Any] = {}
    for name, tensor in tensors.items():
        if not is_sharded(tensor):
            plain[name] = tensor
            continue
        try:
            offset, shape, writes = place(tensor)
        except UsageError as error:
            raise UsageError(f"{name} is {error}") from None
        dtype = str(tensor.dtype).removeprefix("torch.")
        shards[name] = {"shape": list(tensor.shape), "offset": list(offset), "local": list(shape), "dtype": dtype}
        if writes and 0 not in shape:
            plain[name] = _local(tensor).detach()
    return plain, shards


def place(tensor: Any) -> tuple[tuple[int, ...], tuple[int, ...], bool]:
    """Where this process's piece of a DTensor lies: its offset, its shape, and whether it is this process that writes it."""
    if not _is("torch.distributed.tensor", "DTensor", tensor):
        raise UsageError(
            "a ShardedTensor (FullyShardedDataParallel), which gradnb does not save; shard the model by "
            "torch.distributed.fsdp.fully_shard, whose parameters are DTensors"
        )
    from torch.distributed.tensor import Partial
    from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

    if any(isinstance(one, Partial) for one in tensor.placements):
        raise UsageError(
            "a DTensor with Partial placement, a sum that is not yet added up: redistribute it (Replicate or Shard) before the save"
        )
    coordinate = tensor.device_mesh.get_coordinate()
    local = tuple(_local(tensor).shape)
    if coordinate is None:  # this process is not part of the mesh
        return (0,) * tensor.dim(), (0,) * tensor.dim(), False
    shape, offset = compute_local_shape_and_global_offset(tensor.shape, tensor.device_mesh, tensor.placements)
    if tuple(shape) != local and math.prod(shape) + math.prod(local):
        raise UsageError(
            f"a DTensor of shape {_by(tensor.shape)} holds a piece of {_by(local)} here where its placements {tensor.placements} "
            f"say {_by(shape)}"
        )
    # Of equal copies the first one writes.
    first = all(at == 0 for at, one in zip(coordinate, tensor.placements, strict=True) if one.is_replicate())
    return tuple(int(at) for at in offset), local, first


@dataclass(frozen=True)
class Piece:
    """A part of a tensor as it lies in one file."""

    box: Box
    read: Read


class Pieces:
    """A tensor whose pieces lie in files of several processes. Nothing is read until a part is asked for."""

    def __init__(self, name: str, shape: Sequence[int], dtype: torch.dtype, pieces: Sequence[Piece]):
        self.name, self.shape, self.dtype = name, torch.Size(shape), dtype
        self.pieces = list({piece.box: piece for piece in pieces}.values())
        self.device = torch.device("cpu")
        there = sum(math.prod(piece.box[1]) for piece in self.pieces)
        if there != self.shape.numel():
            raise DamagedError(f"the pieces of {name} hold {there} of its {self.shape.numel()} elements")

    def part(self, offset: Sequence[int], shape: Sequence[int]) -> Tensor:
        """The values of this box of the whole tensor. DamagedError where the pieces leave a gap."""
        out = torch.empty(tuple(shape), dtype=self.dtype)
        filled = 0
        for piece in self.pieces:
            both = overlap((tuple(offset), tuple(shape)), piece.box)
            if both is not None:
                values = piece.read(_slices(both, piece.box[0]))
                if values.dtype != self.dtype:  # a dtype that the file has no name for stands there as bytes
                    values = values.contiguous().view(self.dtype).reshape(both[1])
                out[_slices(both, offset)] = values
                filled += values.numel()
        if filled != out.numel():
            raise DamagedError(f"the pieces of {self.name} do not cover it")
        return out

    def whole(self) -> Tensor:
        return self.part((0,) * len(self.shape), self.shape)


def overlap(one: Box, other: Box) -> Box | None:
    """The box that two boxes share; None where they do not touch."""
    begin = [max(a, b) for a, b in zip(one[0], other[0], strict=True)]
    end = [min(a + m, b + n) for a, m, b, n in zip(*one, *other, strict=True)]
    if any(stop <= start for start, stop in zip(begin, end, strict=True)):
        return None
    return tuple(begin), tuple(stop - start for start, stop in zip(begin, end, strict=True))


def concerns(saved: "Tensor | Pieces", like: Tensor | None) -> bool:
    """Whether ``fit`` has something to do."""
    return isinstance(saved, Pieces) or (like is not None and is_sharded(like) and not is_sharded(saved))


def fit(saved: "Tensor | Pieces", like: Any) -> Tensor:
    """``saved`` as this process holds ``like`` of the same shape: its piece where that is sharded, in memory of its own; else whole."""
    if not isinstance(like, Tensor) or not is_sharded(like) or like.shape != saved.shape or not concerns(saved, like):
        return saved.whole() if isinstance(saved, Pieces) else saved
    from torch.distributed.tensor import DTensor

    target: Any = like
    offset, shape, _ = place(target)
    if 0 in shape:
        piece = torch.empty(shape, dtype=saved.dtype)
    elif isinstance(saved, Pieces):
        piece = saved.part(offset, shape)
    else:
        piece = saved[_slices((offset, shape), (0,) * len(offset))].clone(memory_format=torch.contiguous_format)
    piece = piece.to(_local(target).device)
    return DTensor.from_local(piece, target.device_mesh, target.placements, run_check=False, shape=like.shape, stride=like.stride())


def gather(shards: Mapping[int, Mapping[str, Any]], reader: Callable[[int, str], Read | None]) -> dict[str, Pieces]:
    """The sharded tensors of a checkpoint, from the ``shards`` of all its ranks.

    ``reader(rank, name)`` reads that rank's piece; None where it did not write it.
    """
    pieces: dict[str, list[Piece]] = {}
    kinds: dict[str, tuple[tuple[int, ...], str]] = {}
    for rank, entries in shards.items():
        for name, entry in entries.items():
            kind = tuple(entry["shape"]), entry["dtype"]
            if kinds.setdefault(name, kind) != kind:
                raise DamagedError(
                    f"{name} is {_by(kind[0])} {kind[1]} for rank {rank}, and {_by(kinds[name][0])} {kinds[name][1]} for another"
                )
            found = pieces.setdefault(name, [])
            read = reader(rank, name)
            if read is not None:
                found.append(Piece((tuple(entry["offset"]), tuple(entry["local"])), read))
    return {name: Pieces(name, shape, getattr(torch, dtype), pieces[name]) for name, (shape, dtype) in kinds.items()}


def _local(tensor: Any) -> Tensor:
    local = tensor._local_tensor  # to_local() is an autograd function
    return local.wait() if hasattr(local, "wait") else local


def _slices(box: Box, origin: Sequence[int]) -> tuple[slice, ...]:
    return tuple(slice(at - zero, at - zero + count) for at, zero, count in zip(box[0], origin, box[1], strict=True))


def _by(shape: Sequence[int]) -> str:
    return "x".join(str(one) for one in shape) or "a scalar"


def _is(module: str, name: str, thing: object) -> bool:
    kind = getattr(sys.modules.get(module), name, None)
    return kind is not None and isinstance(thing, kind)
