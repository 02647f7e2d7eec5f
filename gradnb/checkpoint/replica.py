"""The remote side of a mirror: which checkpoints are there, and how one more is put there without losing the last good one."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from dataclasses import replace

from . import shared, slots
from .errors import DamagedError, NewerFormatError, RemoteError
from .folder import Folder
from .manifest import parse, render
from .model import Damage, Entry, FileRecord, Manifest, Remote

_OURS = re.compile(r"(rank\d+\.)?(json|safetensors)|manifest")
"""What a slot consists of; a user's ``slot-9.png`` is none of it."""
_FREE = b"gradnb: this slot is being written\n"
"""In place of a manifest: not every store takes a file of no bytes."""


class Replica:
    """The slots of a remote store, which turn by themselves: not every local checkpoint gets there."""

    def __init__(self, remote: Remote, keep_last: int, keep_best: slots.KeepBest | None):
        self._remote, self._keep_last, self._keep_best = remote, keep_last, keep_best
        self._raw: dict[str, tuple[str | None, bytes]] = {}
        self._entries: dict[str, Entry] = {}
        self._whole: list[Manifest] = []
        self._untouchable: set[int] = set()
        self._free: set[str] = set()
        self._sent: dict[str, str] = {}
        self._orphans: set[str] = set()
        self._all_read = False
        self.manifests: list[Manifest] = []
        """Newest first, as they were at the last `look`."""
        self.damage: list[Damage] = []

    def look(self) -> list[Manifest]:
        """Ask the store. A checkpoint with a file that is listed with another size or checksum is left out, and stands in `damage`."""
        self._entries = self._remote.list()
        found: list[Manifest] = []
        self._whole, self._untouchable, self.damage = [], set(), []
        raw = self._manifests()
        self._free = {name for name, entry in self._entries.items() if _is_manifest(name) and (not entry.size or raw.get(name) == _FREE)}
        self._raw = {name: (self._entries[name].sha256, data) for name, data in raw.items()}
        for name in sorted(raw.keys() - self._free):
            data = raw[name]
            try:
                manifest = parse(data, name)
            except NewerFormatError as error:
                self._untouchable.add(_slot(name))
                self.damage += error.damage
                continue
            except DamagedError as error:
                self.damage += error.damage
                continue
            manifest = replace(manifest, slot=_slot(name))
            wrong = [record for record in manifest.files if self._has(manifest, record) is False]
            if wrong:
                what = f"{manifest.id} (step {manifest.step})"
                self.damage.append(
                    Damage(what, slots.place(manifest.slot, wrong[0].name), f"is not what was written, in {self._remote.name}")
                )
                continue
            found.append(manifest)
            if all(self._has(manifest, record) for record in manifest.files):
                self._whole.append(manifest)
        self.manifests = slots.newest_first(found)
        return self.manifests

    def has(self, manifest: Manifest) -> bool:
        """Is this checkpoint there?"""
        return any((one.serial, one.files) == (manifest.serial, manifest.files) for one in self.manifests)

    def put(self, manifest: Manifest, folder: Folder, sent: Callable[[int], None]) -> None:
        """Bring a local checkpoint there: the slot's old manifest goes first, the new one comes last. ``sent(n)`` after each file."""
        slot = slots.choose(self._whole, self._keep_last, self._keep_best, self._untouchable)
        there = replace(manifest, slot=slot)
        name = slots.place(slot, slots.MANIFEST)
        if name not in self._free:  # also where none is listed: a listing may be stale
            self._remote.write(name, _FREE)
            self._free.add(name)
        for number, record in enumerate(manifest.files, 1):
            if not self._kept(there, record):
                target = slots.place(slot, record.name)
                self._sent.pop(target, None)
                self._remote.put(target, folder.file(manifest, record), record.sha256)
                self._sent[target] = record.sha256
            sent(number)
        data = render(there)
        self._free.discard(name)
        self._remote.write(name, data)
        # Known without asking: a listing may still show what was there before.
        self._raw[name] = None, data
        self._entries[name] = Entry(len(data))
        self._entries |= {slots.place(slot, record.name): Entry(record.size, record.sha256) for record in manifest.files}
        self.manifests = _with(there, self.manifests)
        self._whole = _with(there, self._whole)
        with contextlib.suppress(RemoteError):  # the checkpoint is safe; what is too much goes the next time
            self._tidy()

    def _manifests(self) -> dict[str, bytes]:
        """Of all slots. One that cannot be read is left out and its slot left alone; RemoteError when none can."""
        found, refused = {}, []
        for name, entry in self._entries.items():
            if _is_manifest(name) and entry.size:
                try:
                    found[name] = self._read(name, entry)
                except RemoteError as error:
                    refused.append(error)
                    self._untouchable.add(_slot(name))
                    self.damage.append(Damage(name, name, f"cannot be read ({error})"))
        if refused and not found:
            raise refused[0]
        self._all_read = not refused
        return found

    def _read(self, name: str, entry: Entry) -> bytes:
        known = self._raw.get(name)
        if known is not None and entry.sha256 is not None and known[0] == entry.sha256:
            return known[1]
        try:
            return self._remote.read(name)
        except RemoteError:
            return self._remote.read(name)  # a listing that was stale, a mount that blinked

    def _has(self, manifest: Manifest, record: FileRecord) -> bool | None:
        """None for a file that is not listed: a mount's listing may be stale, so it is for the download to find out."""
        entry = self._entries.get(slots.place(manifest.slot, record.name))
        if entry is None:
            return None
        return entry.size == record.size and entry.sha256 in (None, record.sha256)

    def _kept(self, there: Manifest, record: FileRecord) -> bool:
        """Is it there already, by the store's own checksum, or sent by this process?"""
        if not self._has(there, record):
            return False
        name = slots.place(there.slot, record.name)
        return self._entries[name].sha256 is not None or self._sent.get(name) == record.sha256

    def _tidy(self) -> None:
        """Shared files that no manifest names (not even a damaged one), and slots beyond their number after keep_last became smaller."""
        living = {one.slot for one in slots.keep(self.manifests, self._keep_last, self._keep_best)} | self._untouchable
        limit = slots.count(self._keep_last, self._keep_best)
        names = {name: found for name in self._entries if (found := slots.split(name)) is not None and _OURS.fullmatch(found[1])}
        surplus = {slot for slot, _ in names.values() if slot >= limit} - living
        for name, (slot, _) in sorted(names.items(), key=lambda one: one[1][1] != slots.MANIFEST):  # a manifest goes before its files
            if slot in surplus:
                self._remove(name)
        needed = shared.named(data for _, data in self._raw.values())
        orphans = {name for name in self._entries if shared.is_shared(name) and name not in needed}
        if not self._all_read:
            return  # who knows what the others name
        for name in orphans & self._orphans:  # seen twice: a listing that lags may hide a manifest once
            self._remove(name)
        self._orphans = orphans

    def _remove(self, name: str) -> None:
        self._remote.remove(name)
        self._entries.pop(name, None)
        self._raw.pop(name, None)


def _with(new: Manifest, known: list[Manifest]) -> list[Manifest]:
    return slots.newest_first([new, *(one for one in known if one.slot != new.slot)])


def _is_manifest(name: str) -> bool:
    found = slots.split(name)
    return found is not None and found[1] == slots.MANIFEST


def _slot(name: str) -> int:
    found = slots.split(name)
    assert found is not None
    return found[0]
