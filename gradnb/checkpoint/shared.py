"""Tensors that do not change (a frozen base) are written once, into files that several checkpoints name.

Each such tensor is kept twice, in two files: checkpoints with an even serial name one, those with an odd serial the other.
So one damaged file never takes two checkpoints in a row with it. The content, the copy's number in it, decides a file's name.
"""

from __future__ import annotations

import hashlib
import re
import zlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from . import disk, tensors
from .model import FileRecord
from .slots import SHARED

_WORTH = 1 / 16
"""Share of the state that must have stood still before a new shared file is made for it: bounds the number of files."""
_NAMED = re.compile(rb"shared-[0-9a-f]{16}\.safetensors")


@dataclass(frozen=True)
class Copy:
    """Where the bytes of one tensor stand already."""

    record: FileRecord
    sha256: str
    crc: int


@dataclass
class Plan:
    """What happens to the tensors of one save."""

    moving: dict[str, Tensor] = field(default_factory=dict)
    """Written into the slot."""
    reused: dict[str, Copy] = field(default_factory=dict)
    fresh: dict[str, Tensor] = field(default_factory=dict)
    """Written into a new shared file."""


class Shared:
    """What is known about unchanged tensors of one place."""

    def __init__(self, path: Path):
        self._path = path
        self._copies: tuple[dict[str, Copy], dict[str, Copy]] = {}, {}
        self._crcs: dict[str, int] = {}
        self._still: set[str] = set()
        self._changed: set[str] = set()
        self._trusted: set[str] = set()

    def remember(self, serial: int, copies: Mapping[str, Copy]) -> None:
        """What the checkpoint `serial`, of an earlier run, says of its unchanged tensors."""
        self._copies[serial % 2].update(copies)

    def trust(self, name: str) -> None:
        """This file was just read and is whole."""
        self._trusted.add(name)

    def distrust(self, name: str) -> None:
        """This file is damaged: it is looked at again before it is named again, and then written anew."""
        self._trusted.discard(name)

    def plan(self, state: Mapping[str, Tensor], settled: Collection[str], serial: int) -> Plan:
        """Sort the tensors of a save. Reads the bytes of those that were shared before or stood still lately."""
        plan, quiet = Plan(), {}
        mine, others = self._copies[serial % 2], self._copies[1 - serial % 2]
        for name, tensor in state.items():
            if name in mine or name in others:
                now = fingerprint(tensor)
                if name in mine and mine[name].sha256 == now and self._there(mine[name].record):
                    plan.reused[name] = mine[name]
                elif any(known[name].sha256 == now for known in (mine, others) if name in known):
                    plan.fresh[name] = tensor
                else:  # it moves now; only a new time of rest makes it shared again
                    for known in self._copies:
                        known.pop(name, None)
                    self._changed.add(name)
                    plan.moving[name] = tensor
            elif name in settled and name not in self._changed:
                plan.fresh[name] = tensor
            elif name in self._still and zlib.crc32(tensors.memory(tensor)) == self._crcs[name]:
                quiet[name] = tensor
            else:
                plan.moving[name] = tensor
        enough = tensors.nbytes(quiet.values()) >= _WORTH * max(1, tensors.nbytes(state.values()))
        (plan.fresh if enough else plan.moving).update(quiet)
        return plan

    def store(self, fresh: Mapping[str, Tensor], serial: int) -> dict[str, Copy]:
        """Write the shared file of this save, unless it lies there already, whole."""
        if not fresh:
            return {}
        layout = tensors.layout(fresh, {"gradnb.copy": str(serial % 2)})
        made = tensors.digest(layout)
        record = FileRecord(f"{SHARED}{made.sha256[:16]}.safetensors", layout.size, made.sha256)
        if not self._there(record):
            disk.overwrite(self._path / record.name, layout.pieces())
        self._trusted.add(record.name)
        copies = {name: Copy(record, fingerprint(tensor), made.crcs[name]) for name, tensor in fresh.items()}
        self._copies[serial % 2].update(copies)
        return copies

    def learn(self, crcs: Mapping[str, int]) -> None:
        """The checksums of the tensors that were written into a slot: equal ones in two saves in a row stand still."""
        self._still = {name for name, crc in crcs.items() if self._crcs.get(name) == crc}
        self._crcs = dict(crcs)

    def _there(self, record: FileRecord) -> bool:
        path = self._path / record.name
        if disk.size(path) != record.size:
            return False
        if record.name not in self._trusted:
            if disk.sha256(path) != record.sha256:
                return False
            self._trusted.add(record.name)
        return True


def fingerprint(tensor: Tensor) -> str:
    """SHA-256 of dtype, shape and bytes."""
    made = hashlib.sha256(f"{tensor.dtype} {tuple(tensor.shape)}\n".encode())
    made.update(tensors.memory(tensor))
    return made.hexdigest()


def named(manifests: Iterable[bytes]) -> set[str]:
    """Names of the shared files in the bytes of manifests. Damaged ones and those of later formats count too: what they name stays."""
    return {name.decode() for data in manifests for name in _NAMED.findall(data)}


def lying(path: Path) -> list[str]:
    """Names of the shared files in a folder."""
    return [entry.name for entry in path.iterdir() if is_shared(entry.name)]


def is_shared(name: str) -> bool:
    """Whether a file has a name that only we give."""
    return _NAMED.fullmatch(name.encode("utf-8", "replace")) is not None
