"""The checkpoints in one folder: written so that a kill at any moment leaves a good one, read so that no damage passes."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import UsageError
from . import disk, room, shared, slots, survey
from .content import Content, label
from .errors import DamagedError, WriteError
from .lock import DirectoryLock
from .manifest import UNFINISHED, VOID, versions
from .manifest import write as commit
from .model import Damage, FileRecord, Manifest, State


class Folder:
    """Checkpoints in `path` (``~`` is the home folder): the newest `keep_last`, and the best by ``keep_best=("accuracy", "max")``.

    Nothing is touched before `open`. `write` may run in one thread while others call the rest.
    """

    def __init__(self, path: "str | os.PathLike[str]", keep_last: int = 5, keep_best: slots.KeepBest | None = None):
        if not isinstance(keep_last, int) or isinstance(keep_last, bool) or keep_last < 1:
            raise UsageError(f"keep_last={keep_last!r}: how many checkpoints to keep, a whole number from 1, is expected.")
        self.path = survey.absolute(path)
        self.keep_last, self.keep_best = keep_last, slots.rule(keep_best)
        self._content = Content(self.path)
        self._lock = DirectoryLock(self.path)
        self._commits = threading.Lock()  # so that no reader of this process sees half a manifest
        self._serial: int | None = None
        self._numbering = threading.Lock()  # the mirror raises it while a checkpoint is written
        self._remembered = False
        self._draft: tuple[int, frozenset[int]] | None = None  # slot and pinned ones of the save in progress
        self._bad: dict[tuple[int, int], list[Damage]] = {}
        self._whole: set[tuple[int, int]] = set()

    # before and after

    def open(self) -> list[str]:
        """Make the folder where it is not there, see that it can be written, keep other processes out, and `clean` it.

        Raises UsageError that says what is wrong with the place.
        """
        survey.prepare(self.path)
        self._lock.take()
        return self.clean()

    def close(self) -> None:
        """Let other processes write here."""
        with self._lock.busy:
            self._lock.free()

    def clean(self) -> list[str]:
        """Remove what a killed run left: slots that were being written, shared files that nothing names. The names of what was removed."""
        with self._writing():
            unfinished = self._survey().unfinished
            return [name for slot in unfinished for name in survey.remove(self.path, slot)] + self._collect()

    # reading

    def manifests(self) -> list[Manifest]:
        """The checkpoints whose files are all there in their full size, newest first; also older ones whose slot is not needed yet."""
        return self._looked().good

    def damaged(self) -> list[Damage]:
        """What lies here and cannot be used, and why; of the content of files only what `read` and `verify` have met."""
        found = self._looked()
        return found.damage + [Damage(f"slot {slot}", slots.place(slot, slots.MANIFEST), UNFINISHED) for slot in found.unfinished]

    def read(self, manifest: Manifest, rank: int | None = None) -> State:
        """The state as it was written, of all processes or of one, every byte checked. Raises DamagedError that names files and tensors."""
        if rank is None and manifest.world > 1:
            from .rank_folder import joined

            return joined(self, manifest)
        try:
            tree, tensors = self._content.get(manifest, rank or 0)
        except DamagedError as error:
            self._bad[_key(manifest)] = error.damage
            raise
        if manifest.world == 1:
            self._mark(manifest, [])
        return State(tree, tensors, manifest.step, manifest.epoch, manifest.batch, dict(manifest.metrics), manifest.reason)

    def places(self, manifest: Manifest, rank: int = 0) -> tuple[dict[str, Any], dict[str, Path]]:
        """The tree of one process, checked, and the file that each of its tensors stands in, not checked."""
        tree, index = self._content.index(manifest, rank)
        return tree, {name: self.path / slots.place(manifest.slot, entry[0]) for name, entry in index.items()}

    def verify(self, manifest: Manifest) -> list[Damage]:
        """Read every file of a checkpoint; what is wrong with them."""
        damage = self._content.check(manifest)
        self._mark(manifest, damage)
        return damage

    def file(self, manifest: Manifest, record: FileRecord) -> Path:
        """Where a file of a checkpoint lies."""
        return self.path / slots.place(manifest.slot, record.name)

    # writing

    def write(self, state: State, pinned: Collection[int] = ()) -> Manifest:
        """Commit a state. `pinned` slots (being uploaded) are left alone.

        Raises WriteError when it cannot be written; then the other checkpoints are as they were.
        """
        with self._writing():
            prepared = self._content.prepare(state, self._next())
            slot, serial = self.begin(pinned, prepared.nbytes)
            with self._undone(prepared.nbytes):
                return self.commit(slot, serial, state, self._content.put(slot, prepared))

    def begin(self, pinned: Collection[int] = (), nbytes: int = 0) -> tuple[int, int]:
        """Choose a slot for a new checkpoint of about `nbytes`, and take back its manifest: (slot, serial).

        `put` by each process, then `commit`, or `abandon`, follow.
        """
        with self._writing():
            serial = self._next()
            slot, spare = self._choose(frozenset(pinned))
            room.need(self.path, slot, spare, nbytes, self.keep_last)
            self._draft = slot, frozenset(pinned)
            with self._undone(nbytes):
                disk.overwrite(self.path / slots.place(slot, slots.MANIFEST), [VOID])
                disk.sync_directory(self.path)
            return slot, serial

    def put(self, slot: int, serial: int, state: State, rank: int = 0) -> list[FileRecord]:
        """Write one process's files into a slot that `begin` chose; also from another process's Folder."""
        self._remember(rank)
        prepared = self._content.prepare(state, serial)
        with room.told(self.path, prepared.nbytes, self.keep_last):
            return self._content.put(slot, prepared, rank)

    def commit(self, slot: int, serial: int, state: State, files: Collection[FileRecord], world: int = 1) -> Manifest:
        """Write the manifest: from here on the checkpoint exists. Then remove what is not needed any more."""
        records = tuple({record.name: record for record in files}.values())  # processes may name the same shared file
        metrics, now = dict(state.metrics), time.time()
        with self._writing():
            return self._commit(
                Manifest(slot, serial, state.step, state.epoch, state.batch, metrics, state.reason, now, records, versions(), world)
            )

    def abandon(self) -> None:
        """Remove what `begin` and `put` have written."""
        with contextlib.suppress(OSError):
            if self._draft is not None and self._lock.held():
                survey.remove(self.path, self._draft[0])
                self._collect()
        self._draft = None

    def adopt(self, manifest: Manifest, fetch: Callable[[str, Path], None]) -> Manifest:
        """Take a checkpoint of a remote store into a slot of this folder; `fetch(name there, path here)` copies a file.

        Raises DamagedError when what came is not what the manifest says, and what `fetch` raises; then nothing of it stays.
        """
        with self._writing():
            self._next()  # knows what is here before the serial from there is put beside it
            for known in self.manifests():
                if (known.serial, set(known.files)) == (manifest.serial, set(manifest.files)):
                    return known
            self._number_after(manifest.serial - 1)
            slot, _ = self.begin(nbytes=manifest.size)
            local = replace(manifest, slot=slot)
            with self._undone(manifest.size):
                for record in manifest.files:
                    path = self.file(local, record)
                    if disk.size(path) != record.size or disk.sha256(path) != record.sha256:
                        fetch(slots.place(manifest.slot, record.name), path)
                if damage := self._content.check(local):
                    raise DamagedError(f"{label(manifest)} did not come whole: {damage[0].file} {damage[0].why}", damage)
                self._content.remember(local)
                return self._commit(local)

    def after(self, serial: int) -> None:
        """Number the next checkpoints higher than `serial`, one that a remote store has."""
        self._number_after(max(self._looked().serial if self._serial is None else 0, serial))

    # inside

    def _commit(self, manifest: Manifest) -> Manifest:
        disk.sync_directory(self.path)  # no manifest before the names of its files
        with self._commits:
            commit(self.path / slots.place(manifest.slot, slots.MANIFEST), manifest)
        pinned = {manifest.slot, *(self._draft[1] if self._draft is not None else ())}
        self._draft = None
        self._number_after(manifest.serial)
        written = {record.name for record in manifest.files}
        for key, damage in list(self._bad.items()):
            if all(one.file in written for one in damage):  # a shared file that was written anew is whole again for all who name it
                self._bad.pop(key, None)
        self._mark(manifest, [])
        with contextlib.suppress(OSError):
            self._trim(pinned, slots.count(self.keep_last, self.keep_best))
            self._collect()
        return manifest

    def _survey(self) -> survey.Survey:
        with self._commits:
            found = survey.survey(self.path, self._content.sizes, self._bad)
            if (draft := self._draft) is not None and draft[0] in found.unfinished:  # the writing thread may end it meanwhile
                found.unfinished.remove(draft[0])
            return found

    def _looked(self) -> survey.Survey:
        try:
            return self._survey()
        except OSError as error:
            raise UsageError(f"{self.path} cannot be read: {error.strerror or error}.") from None

    def _mark(self, manifest: Manifest, damage: list[Damage]) -> None:
        if damage:
            self._bad[_key(manifest)] = damage
            self._whole.discard(_key(manifest))
        else:
            self._bad.pop(_key(manifest), None)
            self._whole.add(_key(manifest))

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """One writer at a time, and the one that holds the folder."""
        with room.told(self.path):
            self.path.mkdir(parents=True, exist_ok=True)  # a folder that was removed in mid-training comes back
            self._lock.take()
            with self._lock.busy:
                if not self._lock.held():
                    raise WriteError(f"A newer Checkpointer writes into {self.path}; this one has ended.")
                yield

    @contextlib.contextmanager
    def _undone(self, nbytes: int) -> Iterator[None]:
        """What fails inside leaves nothing behind."""
        with room.told(self.path, nbytes, self.keep_last):
            try:
                yield
            except BaseException:
                self.abandon()
                raise

    def _next(self) -> int:
        """The serial of the next checkpoint. Raises WriteError when another process has written here."""
        newest = self._survey().serial
        if self._serial is not None and newest > self._serial:
            raise WriteError(
                f"Another process writes checkpoints into {self.path}: {newest:06d} appeared there, "
                f"and this one wrote up to {self._serial:06d}. Give each run a folder of its own."
            )
        self._remember()
        return self._number_after(newest) + 1

    def _number_after(self, serial: int) -> int:
        with self._numbering:
            self._serial = max(self._serial or 0, serial)
            return self._serial

    def _remember(self, rank: int = 0) -> None:
        if self._remembered:
            return
        self._remembered = True
        for manifest in reversed(self.manifests()[:2]):  # the two name both copies of what is shared
            with contextlib.suppress(DamagedError):
                self._content.remember(manifest, rank)

    def _choose(self, pinned: frozenset[int]) -> tuple[int, list[int]]:
        """The slot to write, and the other slots that hold nothing that lives."""
        while True:
            found = self._survey()
            taken = pinned | found.untouchable
            living = slots.keep(found.good, self.keep_last, self.keep_best)
            if not living or any(_key(manifest) in self._whole for manifest in living):
                slot = slots.choose(found.good, self.keep_last, self.keep_best, taken)
                return slot, [spare for spare in found.spare(self.keep_last, self.keep_best, taken) if spare != slot]
            # Not yet read in this run. All of them may be damaged, and then what is no longer kept is the last good one.
            for manifest in living:
                if not self.verify(manifest):
                    break

    def _trim(self, pinned: Collection[int], limit: int) -> None:
        """Slots beyond `limit` that hold nothing that lives, after keep_last became smaller."""
        found = self._survey()
        for slot in found.spare(self.keep_last, self.keep_best, pinned)[: max(0, len(found.slots) - limit)]:
            survey.remove(self.path, slot)

    def _collect(self) -> list[str]:
        """Remove the shared files that no manifest names, not even a damaged one."""
        named = shared.named(self._survey().raw)
        return [name for name in shared.lying(self.path) if name not in named and disk.remove(self.path / name)]


def _key(manifest: Manifest) -> tuple[int, int]:
    return manifest.slot, manifest.serial
