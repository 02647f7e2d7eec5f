"""What fits together: the state of a training as data, the manifest that commits it, and where it is kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

FORMAT = 1
"""The version of the files. A reader takes this and older ones, and refuses newer ones with a sentence."""


@dataclass
class State:
    """A training at the end of one step.

    ``tree`` is JSON-ready (``encode.pack`` makes it); where a tensor stands in it, it names one of ``tensors``.
    """

    tree: dict[str, Any]
    tensors: dict[str, Tensor]
    step: int = 0
    """How many steps (batches, or calls of ``step``) have been made, over all runs."""
    epoch: int | None = None
    batch: int | None = None
    """How many batches of this epoch are done."""
    metrics: dict[str, float] = field(default_factory=dict)
    reason: str = "every"
    """Why it was saved: ``every``, ``best``, ``asked``, ``signal``, ``end``."""
    settled: frozenset[str] = frozenset()
    """Names of tensors that are not expected to change (frozen parameters): written once, into a file that checkpoints share."""


@dataclass(frozen=True)
class FileRecord:
    """One file of a checkpoint."""

    name: str
    """``safetensors`` and such stand in the slot (``slot-3.safetensors``, see ``slots.place``); ``shared-...`` stands by itself."""
    size: int
    """Bytes."""
    sha256: str
    """Of its content, in hexadecimal digits."""


@dataclass(frozen=True, repr=False)
class Manifest:
    """The commit point of a checkpoint, written after all its files: a checkpoint without a whole manifest does not exist."""

    slot: int
    """The number of its place in the folder; places are written over in turn."""
    serial: int
    """Counts the saves of a place over all runs; the newest checkpoint has the highest."""
    step: int
    """How many steps were done."""
    epoch: int | None
    """The epoch it falls into, from 0; None in a loop that counts none."""
    batch: int | None
    """How many batches of this epoch were done."""
    metrics: Mapping[str, float]
    """The numbers that were given to ``step`` and ``log``, by name."""
    reason: str
    """Why it was saved: ``every``, ``best``, ``asked``, ``signal``, ``end``."""
    time: float
    """Seconds since 1970, UTC."""
    files: tuple[FileRecord, ...]
    """Its files, shared ones included."""
    versions: Mapping[str, str]
    """Of gradnb, torch and Python, which wrote it."""
    world: int = 1
    """How many processes wrote it."""
    format: int = FORMAT
    """The version of the files."""

    @property
    def id(self) -> str:
        """The name by which a user calls it: ``000042``."""
        return f"{self.serial:06d}"

    @property
    def size(self) -> int:
        """Bytes of all its files; shared ones count."""
        return sum(record.size for record in self.files)

    def __repr__(self) -> str:
        from . import words  # which knows this class

        more = f", {words.metrics(self.metrics)}" if self.metrics else ""
        return f"checkpoint {self.id}: {words.stands(self)}, {words.size(self.size)}, saved {words.when(self.time)}{more}"


@dataclass(frozen=True)
class Damage:
    """A checkpoint, or a file of one, that cannot be used, and why, in words for the user."""

    what: str
    """Which checkpoint: ``000042 (step 300)``, or a file's name where the manifest itself is unreadable."""
    file: str
    """The file's name in the folder."""
    why: str
    """What is wrong with it."""


@dataclass(frozen=True)
class Entry:
    """A file as a remote store lists it."""

    size: int
    """Bytes."""
    sha256: str | None = None
    """Where the store knows it by itself."""


class Remote(Protocol):
    """A place beyond this machine where the files of a local folder are copied to. All methods may take long, and may raise RemoteError.

    ``name`` is always a file's bare name, ``sha256`` is in hexadecimal digits.
    """

    name: str
    """As the user gave it: ``drive:MyDrive/run1``."""

    def list(self) -> dict[str, Entry]:
        """The files that are there, by name; none where the folder is not made yet."""

    def put(self, name: str, source: Path, sha256: str) -> None:
        """Copy the local file ``source`` to ``name``, over an older one in place, and verify by ``sha256`` what can be read back."""

    def get(self, name: str, target: Path) -> None:
        """Copy the file ``name`` from there to the local file ``target``; the caller verifies it."""

    def read(self, name: str) -> bytes:
        """The content of a small file (a manifest), ``name``, as bytes."""

    def write(self, name: str, data: bytes) -> None:
        """Write ``data`` to the small file ``name``, over an older one in place, verified by reading it back."""

    def remove(self, name: str) -> None:
        """Remove the file ``name``, for good where the store can do that; no error when it is not there."""

    def free(self) -> int | None:
        """Bytes that still fit, where the store can tell."""
