"""The numbers: norms of many tensors by one fused call, and one transfer to read them. On a GPU they are read when they have arrived."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from ..errors import UsageError
from ..recorder import packed

_PLAIN = {Tensor, torch.nn.Parameter}
_CACHED = 2**18  # numbers, a megabyte of float32
_SMALL, _LARGE = 1e-18, 1e18  # beyond, squares leave float32's range
_LOW = (torch.float16, torch.bfloat16)  # a norm of these would overflow, or have three digits


@contextlib.contextmanager
def unseen() -> Iterator[None]:
    """No gradient is recorded, and no function mode of the user's sees what is computed here."""
    with torch.no_grad(), torch._C.DisableTorchFunction():
        yield


class Reading:
    """Norms that were asked for; ``values()`` has them once ``ready()``."""

    def __init__(self, parts: list[tuple[list[int] | None, Tensor, Any]], count: int):
        self._parts, self._count = parts, count  # (which places, None for all in order; the numbers; when they have arrived)
        self._values: list[float] | None = None
        self.scaled = False
        """Whether the last number is the scale that the gradients carried."""
        self.bad: dict[int, int] = {}
        """How many elements of a tensor are NaN or infinite, by its place, where that was counted."""

    @classmethod
    def of(cls, values: list[float]) -> "Reading":
        """What is known already."""
        reading = cls([], len(values))
        reading._values = values
        return reading

    @classmethod
    def joined(cls, count: int, *parts: tuple[list[int], "Reading"]) -> "Reading":
        """Readings that can be read now, each with the places of its numbers in the whole."""
        values = [float("nan")] * count
        for places, reading in parts:
            for place, value in zip(places, reading.values()):
                values[place] = value
        return cls.of(values)

    def settle(self, tensors: Sequence[Tensor]) -> None:
        """Measure again in float64 what float32's range may have spoilt, where that makes nobody wait."""
        if any(event is not None for _, _, event in self._parts):
            return
        values = self.values()
        known = values[: len(tensors)]
        if not known or (min(known) > _SMALL and sum(known) < _LARGE):  # a NaN makes one of them false
            return
        for place, value in enumerate(known):
            if not _SMALL < value < _LARGE:
                values[place], self.bad[place] = exact(tensors[place])

    def ready(self) -> bool:
        """Whether reading them would wait for nothing."""
        return all(event is None or event.query() for _, _, event in self._parts)

    def values(self) -> list[float]:
        """One number a tensor, in the order of the tensors; NaN for one that cannot be read."""
        if self._values is None:
            self._values = [float("nan")] * self._count
            for places, stacked, event in self._parts:
                if event is not None:
                    event.synchronize()  # asked for only when the copy has arrived, or at the end
                found = stacked.tolist()
                if places is None:
                    self._values = found
                else:
                    for place, value in zip(places, found, strict=True):
                        self._values[place] = value
            self._parts = []
        return self._values

    def unscaled(self, divide: bool) -> list[float]:
        """The values, divided by the scale that was read with them."""
        values = self.values()
        if not (divide and self.scaled):
            return values
        scale = values[-1]
        return [value / scale for value in values]


def read(norms_of: Sequence[Tensor], numbers: Sequence[Tensor] = (), first: Callable[[slice], None] | None = None) -> Reading:
    """The L2 norm of each tensor, then the numbers (0-dim tensors: a scale, a learning rate) in the same transfer.

    ``first(part)`` writes a part of the tensors just before that part is read, so that it is still in the processor's cache.
    """
    with unseen():
        tensors, others = list(norms_of), [value.detach() for value in numbers]
        plain = simple(tensors)
        norms: list[Tensor] = []
        if first is not None:
            for part in _parts(tensors) if plain else (slice(None),):
                first(part)
                norms += torch._foreach_norm(tensors[part]) if plain else ()
        if plain:
            with contextlib.suppress(RuntimeError, NotImplementedError):  # sparse, or on several devices
                if first is None and (found := _with_small(tensors, others)) is not None:
                    return found
                stacked = torch.stack([*(norms or torch._foreach_norm(tensors)), *others])
                return Reading([(None, *_start(stacked))], len(stacked))
        return _grouped(tensors, others)


def _with_small(tensors: Sequence[Tensor], numbers: Sequence[Tensor]) -> Reading | None:
    """The same where some tensors are small; None where none is."""
    small, large = packed.split(tensors)
    if not small:
        return None
    those = [tensors[place] for place in small]
    parts: list[tuple[list[int] | None, Tensor, Any]] = [
        (small if large or numbers else None, packed.norms(packed.flat(those), those), None)
    ]
    if large or numbers:
        places = [*large, *range(len(tensors), len(tensors) + len(numbers))]
        norms = torch._foreach_norm([tensors[place] for place in large]) if large else ()
        parts.append((places, torch.stack([*norms, *numbers]), None))
    return Reading(parts, len(tensors) + len(numbers))


def simple(tensors: Sequence[Tensor]) -> bool:
    """Whether one fused call measures them all, in the precision that is wanted."""
    return {tensor.dtype for tensor in tensors} == {torch.float32} and {type(tensor) for tensor in tensors} <= _PLAIN


def _parts(tensors: Sequence[Tensor]) -> Iterator[slice]:
    """Runs of tensors that fit into a cache; on a GPU all are one."""
    begin, size = 0, 0
    for index, tensor in enumerate(tensors):
        size += tensor.numel() if tensor.device.type == "cpu" else 0
        if size >= _CACHED:
            yield slice(begin, index + 1)
            begin, size = index + 1, 0
    if begin < len(tensors):
        yield slice(begin, len(tensors))


def _wide(number: Tensor) -> Tensor:
    return number.float() if number.device.type == "mps" else number.double()


def _start(stacked: Tensor) -> tuple[Tensor, Any]:
    """On CUDA: the copy to the host is begun, and an event says when it is there."""
    if stacked.device.type != "cuda":
        return stacked, None
    host = torch.empty(stacked.shape, dtype=stacked.dtype, pin_memory=True)
    host.copy_(stacked, non_blocking=True)
    event = torch.cuda.Event()
    event.record(torch.cuda.current_stream(stacked.device))
    return host, event


def _grouped(norms_of: Sequence[Tensor], numbers: Sequence[Tensor]) -> Reading:
    """By device; low precision is summed in float32, the rest in its own."""
    by_device: dict[torch.device, list[tuple[int, Tensor]]] = {}
    groups: dict[tuple[torch.device, torch.dtype], list[tuple[int, Tensor]]] = {}
    for place, tensor in enumerate(norms_of):
        plain = dense(tensor)
        if plain is not None:
            groups.setdefault((plain.device, plain.dtype), []).append((place, plain))
    for (device, dtype), members in groups.items():
        tensors = [tensor for _, tensor in members]
        norms = torch._foreach_norm(tensors, 2, dtype=torch.float32) if dtype in _LOW else torch._foreach_norm(tensors)
        by_device.setdefault(device, []).extend((place, _wide(norm)) for (place, _), norm in zip(members, norms, strict=True))
    for place, number in enumerate(numbers, len(norms_of)):
        by_device.setdefault(number.device, []).append((place, _wide(number)))
    parts: list[tuple[list[int] | None, Tensor, Any]] = [
        ([place for place, _ in found], *_start(torch.stack([value for _, value in found]))) for found in by_device.values()
    ]
    return Reading(parts, len(norms_of) + len(numbers))


def _plain(tensor: Tensor) -> Tensor | None:
    """A strided tensor of no class of its own as it is; others by ``dense``, which costs more."""
    if type(tensor) in _PLAIN and tensor.layout is torch.strided:
        return tensor
    return dense(tensor)


def dense(tensor: Tensor) -> Tensor | None:
    """What of a tensor holds its numbers here: the values of a sparse one, this rank's shard of a distributed one; None if unreadable."""
    if hasattr(tensor, "to_local"):
        tensor = tensor.to_local()
    if tensor.layout is torch.sparse_coo:
        tensor = tensor.coalesce().values()
    elif tensor.layout is not torch.strided:
        tensor = tensor.values() if hasattr(tensor, "values") else tensor.to_dense()
    if tensor.device.type == "meta" or tensor.is_quantized or not (tensor.is_floating_point() or tensor.is_complex()):
        return None
    return tensor.detach()


def exact(tensor: Tensor) -> tuple[float, int]:
    """(norm in float64, count of elements that are NaN or infinite), for the few whose float32 norm is 0, NaN or infinite."""
    with unseen():
        plain = dense(tensor)
        if plain is None:
            return float("nan"), 0
        if not bool(plain.any()):
            return 0.0, 0
        wide = plain.cpu().to(torch.complex128 if plain.is_complex() else torch.float64)  # not every device knows float64
        return float(torch.linalg.vector_norm(wide)), int((~torch.isfinite(plain)).sum())


def nonzero(tensors: Sequence[Tensor]) -> Reading:
    """How many elements of each are not exactly 0; in a sparse gradient the rows that are not there are zeros."""
    with unseen():
        counts = [torch.count_nonzero(one) for tensor in tensors if (one := _plain(tensor)) is not None]
        if len(counts) == len(tensors) and len({count.device for count in counts}) == 1:
            return Reading([(None, *_start(torch.stack(counts)))], len(counts))
        return read([], [torch.zeros(()) if (one := dense(tensor)) is None else torch.count_nonzero(one) for tensor in tensors])


def copied(tensors: Sequence[Tensor], into: list[Tensor] | None = None) -> tuple[list[Tensor], Reading]:
    """Copies of the values, in the given tensors where there are any, and their norms."""
    with unseen():
        mine = [local(tensor) for tensor in tensors]
        if into is None:
            into = [one.clone() for one in mine]
            return into, read(into)
        copies = into
        return copies, read(copies, first=lambda part: torch._foreach_copy_(copies[part], mine[part]))


def fit(buffers: Sequence[Tensor], tensors: Sequence[Tensor]) -> bool:
    """Whether the buffers can take copies of the tensors."""
    if len(buffers) != len(tensors):
        return False
    now = map(local, tensors)
    return all(one.shape == other.shape and one.dtype == other.dtype and one.device == other.device for one, other in zip(buffers, now))


def cheap(copies: Sequence[Tensor]) -> bool:
    """Whether ``moved_and_copied`` knows them."""
    return simple(copies) and all(one.device.type == "cpu" and one.layout is torch.strided for one in copies)


def moved(before: list[Tensor], tensors: Sequence[Tensor]) -> Reading:
    """The norms of ``before`` minus the values now, which are left in ``before``."""
    with unseen():
        mine = [local(tensor) for tensor in tensors]
        return read(before, first=lambda part: torch._foreach_sub_(before[part], mine[part]))


def moved_and_copied(before: list[Tensor], tensors: Sequence[Tensor]) -> tuple[Reading, Reading]:
    """``moved`` and then ``copied`` into ``before``, in one go through the memory; for float32 on the CPU."""
    moves: list[float] = []

    def turn(part: slice) -> None:
        here = before[part]
        torch._foreach_sub_(here, mine[part])
        reading = Reading.of([norm.item() for norm in torch._foreach_norm(here)])
        reading.settle(here)  # as long as the differences are there
        moves.extend(reading.values())
        torch._foreach_copy_(here, mine[part])

    with unseen():
        mine = [local(tensor) for tensor in tensors]
        norms = read(before, first=turn)
    norms.settle(before)
    return Reading.of(moves), norms


def local(tensor: Tensor) -> Tensor:
    """This rank's shard of a distributed tensor, else the tensor."""
    return tensor if type(tensor) in _PLAIN else tensor.to_local() if hasattr(tensor, "to_local") else tensor


def number(name: str, value: Any) -> float | Tensor:
    """A number of the user's; a tensor only where reading it would wait for a GPU."""
    if isinstance(value, Tensor):
        if value.numel() != 1:
            raise UsageError(f"{name} is a tensor of shape {tuple(value.shape)}; one number is expected: {name}.mean(), perhaps.")
        return value.detach() if value.is_cuda else float(value.detach())
    try:
        return float(value)
    except (TypeError, ValueError):
        raise UsageError(f"{name} is of type {type(value).__name__}; a number, or a tensor of one element, is expected.") from None
