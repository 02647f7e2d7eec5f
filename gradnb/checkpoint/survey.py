"""What lies in a folder of checkpoints, and whether the folder can be used at all."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import UsageError
from . import disk
from .errors import DamagedError, NewerFormatError
from .manifest import VOID, parse
from .model import Damage, Manifest
from .slots import MANIFEST, KeepBest, keep, newest_first, place, split

_SERIAL = re.compile(rb'"serial":\s*(\d{1,12})')


@dataclass
class Survey:
    """The slots of a folder by what their manifests say."""

    good: list[Manifest] = field(default_factory=list)
    """Newest first."""
    damage: list[Damage] = field(default_factory=list)
    slots: set[int] = field(default_factory=set)
    """All that are ours to write over."""
    unfinished: list[int] = field(default_factory=list)
    untouchable: frozenset[int] = frozenset()
    """Of a newer gradnb, or files that have our names and are not ours: every slot of ours begins with its manifest."""
    serial: int = 0
    """The highest that was written here."""
    raw: list[bytes] = field(default_factory=list)
    """The content of all manifests."""

    def spare(self, keep_last: int, keep_best: KeepBest | None, pinned: Collection[int]) -> list[int]:
        """Slots that hold nothing that lives: those without a good checkpoint first, then the oldest."""
        serials = {manifest.slot: manifest.serial for manifest in self.good}
        living = {manifest.slot for manifest in keep(self.good, keep_last, keep_best)}
        return sorted(self.slots - living - set(pinned), key=lambda slot: (serials.get(slot, 0), -slot))


def survey(path: Path, sizes: Callable[[Manifest], list[Damage]], bad: Mapping[tuple[int, int], list[Damage]]) -> Survey:
    """Read all manifests. `sizes` looks at the files of one; `bad` is what reading them has shown before, by slot and serial."""
    found = Survey()
    untouchable = set()
    for slot, names in sorted(named(path).items()):
        file = place(slot, MANIFEST)
        try:
            data = (path / file).read_bytes() if MANIFEST in names else None
        except OSError:
            data = None
        if data is None:
            untouchable.add(slot)
            if {"json", "safetensors"} <= names:
                found.damage.append(Damage(f"slot {slot}", file, "is missing; its other files are left alone"))
            continue
        found.raw.append(data)
        found.slots.add(slot)
        if data.startswith(VOID) or (not data and names == {MANIFEST}):
            found.unfinished.append(slot)
            continue
        try:
            manifest = parse(data, file)
            if manifest.slot != slot:
                raise DamagedError("", [Damage(f"slot {slot}", file, f"belongs to slot {manifest.slot}")])
        except DamagedError as error:
            found.damage += [Damage(f"slot {slot}", file, one.why) for one in error.damage]
            if isinstance(error, NewerFormatError):
                found.slots.discard(slot)
                untouchable.add(slot)
                found.serial = max([found.serial, *(int(serial) for serial in _SERIAL.findall(data))])
        else:
            found.serial = max(found.serial, manifest.serial)
            if damage := bad.get((slot, manifest.serial)) or sizes(manifest):
                found.damage += damage
            else:
                found.good.append(manifest)
    found.good = newest_first(found.good)
    found.untouchable = frozenset(untouchable)
    return found


def named(path: Path) -> dict[int, set[str]]:
    """The files that have our names, by slot; none where there is no folder yet."""
    slots: dict[int, set[str]] = {}
    for name in os.listdir(path) if path.exists() else ():
        if (parts := split(name)) is not None:
            slots.setdefault(parts[0], set()).add(parts[1])
    return slots


def remove(path: Path, slot: int) -> list[str]:
    """Remove the files of a slot; their names. A kill in between leaves a void manifest, by which the rest is known as ours."""
    names = sorted(named(path).get(slot, ()), key=lambda name: name == MANIFEST)
    with contextlib.suppress(OSError):  # on a full disk even one byte may be too much
        if MANIFEST in names:
            disk.overwrite(path / place(slot, MANIFEST), [VOID])
    return [place(slot, name) for name in names if disk.remove(path / place(slot, name))]


def absolute(path: "str | os.PathLike[str]") -> Path:
    """The folder a user named. Raises UsageError for what can be none."""
    if not isinstance(path, (str, os.PathLike)) or not os.fspath(path):
        raise UsageError(f"{path!r} is no folder: a path for the checkpoints is expected.")
    try:
        return Path(os.path.abspath(Path(path).expanduser()))
    except (RuntimeError, TypeError) as error:
        raise UsageError(f"{path!r} is no folder: {error}.") from None


def prepare(path: Path) -> None:
    """Make the folder where it is missing. Raises UsageError that says why it cannot be used."""
    link = next((part for part in (path, *path.parents) if part.is_symlink() and not part.exists()), None)
    if link is not None:
        raise UsageError(f"{link} is a link to {os.readlink(link)}, which is not there: make that folder, or name another place.")
    blocking = next((part for part in (path, *path.parents) if part.exists() and not part.is_dir()), None)
    if blocking is not None:
        raise UsageError(f"{blocking} is a file, and checkpoints need a folder: name another place.")
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"The folder {path} cannot be made: {error.strerror}.") from None
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        raise UsageError(f"{path} cannot be written: no permission, or a read-only disk. Name another place.")
