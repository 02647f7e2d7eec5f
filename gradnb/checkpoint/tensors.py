"""Tensors in the safetensors format, written straight from their memory and read back with every byte checked.

The safetensors library writes under a new name and renames, and reads through a memory map: tensors from a slot that is later
overwritten in place would change, or end the process. So the library is the judge here, not the tool: the tests open the files with it.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import json
import math
import threading
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from ..errors import UsageError
from . import disk

ALIGNMENT = 64
"""The data begins at a multiple of this, a cache line."""
_NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint64: "U64",
    torch.uint32: "U32",
    torch.uint16: "U16",
    torch.uint8: "U8",
    torch.bool: "BOOL",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
}
"""What all versions of the library since 0.4 read; any other dtype is stored as bytes and named in the metadata."""
_DTYPES = {name: dtype for dtype, name in _NAMES.items()}
_QUANTIZED = {torch.quint8, torch.qint8, torch.qint32, torch.quint4x2, torch.quint2x4}
_METADATA = "__metadata__"
_OTHER_DTYPES = "gradnb.dtypes"
_LONGEST_HEADER = 100_000_000
"""The library's own limit."""
_OVERLAP = 4 << 20
"""Bytes from which on hashing in a second thread, beside the writing, is worth it."""


class FormatError(ValueError):
    """The bytes are no safetensors file, or not one that gradnb wrote."""


@dataclass(frozen=True)
class Layout:
    """A file that is not yet written: its header, and the tensors in the order of their bytes."""

    header: bytes
    tensors: Mapping[str, Tensor]
    size: int

    def pieces(self) -> Iterator[bytes | memoryview]:
        yield self.header
        for tensor in self.tensors.values():
            yield memory(tensor)


@dataclass
class Digest:
    """The checksums of a file: one of the whole, and a short one of each tensor, to name those that are damaged."""

    sha256: str = ""
    crcs: dict[str, int] = field(default_factory=dict)


def memory(tensor: Tensor) -> memoryview:
    """The bytes of a contiguous CPU tensor of any dtype, not copied. The tensor must outlive it."""
    packed = tensor.is_quantized  # its storage may be shorter than its elements
    if packed or not tensor.is_contiguous() or tensor.device.type != "cpu" or tensor.is_conj() or tensor.is_neg():
        raise ValueError(f"not plain memory: {tensor.dtype} on {tensor.device}, shape {tuple(tensor.shape)}")
    if not tensor.nbytes:
        return memoryview(b"")
    return memoryview((ctypes.c_ubyte * tensor.nbytes).from_address(tensor.data_ptr())).cast("B")


def layout(tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> Layout:
    """How `tensors` (contiguous, on the CPU, any dtype) stand in a file. Raises UsageError for a name that the format cannot hold."""
    # The widest first, as the library does: so each stands at a multiple of its own width.
    ordered = dict(sorted(tensors.items(), key=lambda item: -item[1].element_size()))
    others: dict[str, str] = {}
    entries: dict[str, Any] = {}
    end = 0
    for name, tensor in ordered.items():
        if name == _METADATA or not _is_text(name):
            raise UsageError(f"A tensor cannot be saved under the name {name!r}; give it another name.")
        begin, end = end, end + tensor.nbytes
        shape = list(tensor.shape)
        if tensor.dtype not in _NAMES:
            others[name] = str(tensor.dtype).removeprefix("torch.")
            shape.append(tensor.element_size())
        entries[name] = {"dtype": _NAMES.get(tensor.dtype, "U8"), "shape": shape, "data_offsets": [begin, end]}
    said = {"format": "pt", **(metadata or {})} | ({_OTHER_DTYPES: json.dumps(others)} if others else {})
    text = json.dumps({_METADATA: said, **entries}, separators=(",", ":")).encode("ascii")
    text += b" " * (-(8 + len(text)) % ALIGNMENT)
    return Layout(len(text).to_bytes(8, "little") + text, ordered, 8 + len(text) + end)


def _is_text(name: str) -> bool:
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def digest(plan: Layout) -> Digest:
    """The checksums of a file before it is written."""
    whole, crcs = hashlib.sha256(plan.header), {}
    for name, tensor in plan.tensors.items():
        crcs[name] = zlib.crc32(memory(tensor))
        whole.update(memory(tensor))
    return Digest(whole.hexdigest(), crcs)


def write(path: Path, plan: Layout) -> Digest:
    """Write a file in place. The checksums are made beside it from the same memory, which must not change meanwhile."""
    found = Digest()

    def make() -> None:
        made = digest(plan)
        found.sha256, found.crcs = made.sha256, made.crcs

    helper = threading.Thread(target=make, name="gradnb-checksum", daemon=True) if plan.size > _OVERLAP else None
    try:
        if helper is not None:
            helper.start()
    except RuntimeError:  # the interpreter is ending, or has no thread left
        helper = None
    try:
        disk.overwrite(path, plan.pieces())
    finally:
        if helper is not None:
            helper.join()
    if not found.sha256:
        make()
    return found


def read(path: Path, names: Collection[str] | None = None) -> tuple[dict[str, Tensor], Digest]:
    """The tensors of a file (those in `names`; None: all) and the checksums of every byte that was read, for the caller to compare.

    Each tensor has memory of its own. Raises FormatError for what is no such file; reads nothing but numbers, so no code can run.
    """
    found: dict[str, Tensor] = {}
    whole, crcs = hashlib.sha256(), {}
    with path.open("rb", buffering=0) as file:
        header, entries = _entries(file, path.stat().st_size)
        whole.update(header)
        for name, dtype, shape, _ in entries:
            tensor = torch.empty(shape, dtype=dtype, device="cpu")
            crc, view = 0, memory(tensor)
            while view:
                part = view[: disk.CHUNK]
                _fill(file, part)
                whole.update(part)
                crc = zlib.crc32(part, crc)
                view = view[len(part) :]
            crcs[name] = crc
            if names is None or name in names:
                found[name] = tensor
    return found, Digest(whole.hexdigest(), crcs)


def blame(path: Path, crcs: Mapping[str, int]) -> list[str]:
    """Names of the tensors in a damaged file whose bytes are not those that were written; empty when the header itself is damaged."""
    wrong: list[str] = []
    with contextlib.suppress(OSError, FormatError), path.open("rb", buffering=0) as file:
        _, entries = _entries(file, None)
        for name, _, _, count in entries:
            crc, left = 0, count
            while left and (part := file.read(min(left, disk.CHUNK))):
                crc, left = zlib.crc32(part, crc), left - len(part)
            if left or crc != crcs.get(name):
                wrong.append(name)
    return wrong


def _entries(file: BinaryIO, size: int | None) -> tuple[bytes, list[tuple[str, torch.dtype, list[int], int]]]:
    """The raw header, and (name, dtype, shape, bytes) in the order of the bytes. `size` of the file (None: not checked) must fit."""
    length = file.read(8)
    if len(length) < 8 or (count := int.from_bytes(length, "little")) > min(_LONGEST_HEADER, size or _LONGEST_HEADER):
        raise FormatError("it has no header")
    text = file.read(count)
    try:
        content = json.loads(text.decode("utf-8"))
        metadata = content.pop(_METADATA, {})
        others = json.loads(metadata.get(_OTHER_DTYPES, "{}"))
        listed = sorted((*entry["data_offsets"], name, entry) for name, entry in content.items())
        entries, end = [], 0
        for begin, stop, name, entry in listed:
            shape = [int(length) for length in entry["shape"]]
            if begin != end or stop < begin or any(length < 0 for length in shape) or math.prod(map(_one_at_least, shape)) >= 1 << 60:
                raise FormatError(f"{name} does not follow what stands before it")
            dtype = _DTYPES[entry["dtype"]]
            if name in others:
                dtype = getattr(torch, others[name])
                shape.pop()
            if not isinstance(dtype, torch.dtype) or dtype in _QUANTIZED or math.prod(shape) * dtype.itemsize != stop - begin:
                raise FormatError(f"{name} has {stop - begin} bytes, and its shape and dtype need others")
            entries.append((name, dtype, shape, stop - begin))
            end = stop
    except FormatError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
        raise FormatError(f"its header cannot be read ({type(error).__name__})") from None
    if size is not None and 8 + count + end != size:
        raise FormatError(f"its header names {8 + count + end} bytes, and it has {size}")
    return length + text, entries


def _one_at_least(length: int) -> int:
    """For the size that torch computes: it refuses a huge tensor also where another dimension is empty."""
    return max(1, length)


def _fill(file: BinaryIO, view: memoryview) -> None:
    while view:
        done = file.readinto(view)  # type: ignore[attr-defined]
        if not done:
            raise FormatError("it ends too early")
        view = view[done:]


def nbytes(tensors: Iterable[Tensor]) -> int:
    """Bytes of the data, without headers."""
    return sum(tensor.nbytes for tensor in tensors)
