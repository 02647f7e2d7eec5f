"""What one process puts into one slot, a JSON file and a safetensors file, and how it is read and checked."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ..errors import UsageError
from . import disk, tensors
from .errors import DamagedError
from .model import Damage, FileRecord, Manifest, State
from .shared import Copy, Plan, Shared
from .slots import SHARED, place

_ENTRY_BYTES = 160
"""What a tensor takes in the header and in the JSON, about: name, shape, checksums."""


@dataclass(frozen=True)
class Prepared:
    """A state that is ready to be written: nothing of it can be refused any more."""

    serial: int
    tree: str
    plan: Plan
    layout: tensors.Layout
    """Of those that are written into the slot."""
    order: tuple[str, ...]

    @property
    def nbytes(self) -> int:
        """About how much will be written."""
        fresh = tensors.nbytes(self.plan.fresh.values())
        return self.layout.size + fresh + len(self.tree) + _ENTRY_BYTES * len(self.order) + 4096


def files(rank: int) -> tuple[str, str]:
    """Names of the JSON file and of the tensors of a process."""
    before = f"rank{rank}." if rank else ""
    return f"{before}json", f"{before}safetensors"


class Content:
    """Writes and reads the files of a folder's checkpoints."""

    def __init__(self, path: Path):
        self._path = path
        self._shared = Shared(path)

    def prepare(self, state: State, serial: int) -> Prepared:
        """Raises UsageError for a tree that is no JSON, or a name that the format cannot hold. Reads unchanged tensors."""
        try:
            tree = json.dumps(state.tree, separators=(",", ":"))
        except (TypeError, ValueError, RecursionError) as error:
            raise UsageError(f"The state cannot be written as JSON: {error}.") from None
        plan = self._shared.plan(state.tensors, state.settled, serial)
        return Prepared(serial, tree, plan, tensors.layout(plan.moving), tuple(state.tensors))

    def put(self, slot: int, prepared: Prepared, rank: int = 0) -> list[FileRecord]:
        """Write the files of a slot in place; the records for the manifest."""
        about, data = files(rank)
        copies = prepared.plan.reused | self._shared.store(prepared.plan.fresh, prepared.serial)
        digest = tensors.write(self._path / place(slot, data), prepared.layout)
        self._shared.learn(digest.crcs)
        index = {name: _entry(name, copies, digest.crcs, data) for name in prepared.order}
        text = f'{{"tensors":{json.dumps(index, separators=(",", ":"))},"tree":{prepared.tree}}}'.encode("ascii")
        disk.overwrite(self._path / place(slot, about), [text])
        return [
            FileRecord(about, len(text), disk.checksum(text)),
            FileRecord(data, prepared.layout.size, digest.sha256),
            *sorted({copy.record for copy in copies.values()}, key=lambda record: record.name),
        ]

    def get(self, manifest: Manifest, rank: int = 0) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Tree and tensors. Every byte is checked; DamagedError names all files and tensors concerned."""
        tree, index = self.index(manifest, rank)
        records = {record.name: record for record in manifest.files}
        found: dict[str, Tensor] = {}
        damage: list[Damage] = []
        for name in sorted({entry[0] for entry in index.values()} | {files(rank)[1]}):
            mine = {tensor: entry for tensor, entry in index.items() if entry[0] == name}
            if name not in records:
                damage.append(Damage(label(manifest), name, "is not in the manifest"))
                continue
            path = self._path / place(manifest.slot, name)
            why = _size_differs(path, records[name])
            if why is None:
                try:
                    read, digest = tensors.read(path, mine)
                    if digest.sha256 != records[name].sha256:
                        why = _differs([tensor for tensor, entry in mine.items() if digest.crcs.get(tensor) != entry[1]])
                    elif missing := set(mine) - set(read):
                        why = f"does not hold {min(missing)}"
                    found.update(read)
                except tensors.FormatError as error:
                    why = f"is damaged: {error}"
                except OSError as error:
                    why = f"cannot be read ({error.strerror})"
            elif cut := tensors.blame(path, {tensor: entry[1] for tensor, entry in mine.items()}):
                why += _concerned(cut)
            self._note(name, why)
            if why is not None:
                damage.append(Damage(label(manifest), path.name, why))
        if damage:
            raise failure(damage)
        return tree, {name: found[name] for name in index}

    def check(self, manifest: Manifest) -> list[Damage]:
        """What is wrong with any file of a checkpoint, of all processes; empty when every byte is as it was written."""
        damage = []
        for record in manifest.files:
            path = self._path / place(manifest.slot, record.name)
            why = _size_differs(path, record)
            if why is None:
                try:
                    if disk.sha256(path) != record.sha256:
                        why = "does not match its checksum"
                except OSError as error:
                    why = f"cannot be read ({error.strerror})"
            self._note(record.name, why)
            if why is not None:
                if record.name.endswith("safetensors"):
                    why += _concerned(tensors.blame(path, self._crcs(manifest, record.name)))
                damage.append(Damage(label(manifest), path.name, why))
        return damage

    def sizes(self, manifest: Manifest) -> list[Damage]:
        """What is missing, cut or too long; looks at no content."""
        found = ((record, self._path / place(manifest.slot, record.name)) for record in manifest.files)
        return [Damage(label(manifest), path.name, why) for record, path in found if (why := _size_differs(path, record)) is not None]

    def remember(self, manifest: Manifest, rank: int = 0) -> None:
        """Learn from a checkpoint of an earlier run which tensors stand in shared files, so that they are not written again."""
        records = {record.name: record for record in manifest.files}
        _, index = self.index(manifest, rank)
        copies = {name: Copy(records[file], more[0], crc) for name, (file, crc, *more) in index.items() if file in records and more}
        self._shared.remember(manifest.serial, copies)

    def index(self, manifest: Manifest, rank: int) -> tuple[dict[str, Any], dict[str, list[Any]]]:
        """The tree, and for each tensor its record's name, its crc32, and, where it is shared, its fingerprint."""
        about = files(rank)[0]
        path = self._path / place(manifest.slot, about)
        record = next((record for record in manifest.files if record.name == about), None)
        if record is None:
            raise failure([Damage(label(manifest), path.name, "is not in the manifest")])
        why = _size_differs(path, record)
        if why is None:
            try:
                text = path.read_bytes()
                if disk.checksum(text) == record.sha256:
                    content = json.loads(text)
                    return content["tree"], _checked(content["tensors"], {record.name for record in manifest.files})
                why = "does not match its checksum"
            except OSError as error:
                why = f"cannot be read ({error.strerror})"
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
                why = f"is not what gradnb writes ({type(error).__name__})"
        raise failure([Damage(label(manifest), path.name, why)])

    def _crcs(self, manifest: Manifest, file: str) -> dict[str, int]:
        rank = int(file.removeprefix("rank").partition(".")[0]) if file.startswith("rank") else 0
        try:
            return {name: entry[1] for name, entry in self.index(manifest, rank)[1].items() if entry[0] == file}
        except DamagedError:
            return {}

    def _note(self, name: str, why: str | None) -> None:
        if name.startswith(SHARED):
            (self._shared.trust if why is None else self._shared.distrust)(name)


def label(manifest: Manifest) -> str:
    return f"{manifest.id} (step {manifest.step})"


def failure(damage: Collection[Damage]) -> DamagedError:
    return DamagedError("; ".join(f"{one.what}: {one.file} {one.why}" for one in damage), list(damage))


def _entry(name: str, copies: Mapping[str, Copy], crcs: Mapping[str, int], data: str) -> list[Any]:
    copy = copies.get(name)
    return [data, crcs[name]] if copy is None else [copy.record.name, copy.crc, copy.sha256]


def _checked(index: dict[str, list[Any]], records: Collection[str]) -> dict[str, list[Any]]:
    """Names of files become paths: only those that the manifest vouches for."""
    for name, (file, crc, *_) in index.items():
        if file not in records or type(crc) is not int:
            raise ValueError(f"{name} stands in {file!r}")
    return index


def _size_differs(path: Path, record: FileRecord) -> str | None:
    found = disk.size(path)
    if found is None:
        return "is missing"
    if found < record.size:
        return f"is cut off: {found:,} of {record.size:,} bytes"
    return None if found == record.size else f"has {found:,} bytes instead of {record.size:,}"


def _differs(names: list[str]) -> str:
    return f"does not match its checksum{_concerned(names)}" if names else "does not match its checksum (its header)"


def _concerned(names: list[str]) -> str:
    """The first tensors that are damaged, where it is known which."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f" (tensors: {', '.join(names[:3])}{more})" if names else ""
