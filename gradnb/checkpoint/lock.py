"""One writer a folder: a lock on the directory itself, so that no lock file can be left behind by a kill."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import weakref
from pathlib import Path

from ..errors import UsageError
from .errors import WriteError

if sys.platform != "win32":
    import fcntl

_guard = threading.Lock()
_owners: "weakref.WeakValueDictionary[tuple[int, int], DirectoryLock]" = weakref.WeakValueDictionary()
"""By device and inode: who writes there in this process."""
_handles: set[int] = set()
"""The open directories that hold a lock."""


class DirectoryLock:
    """Held from `take` to `free`, or until the process ends.

    A second one in this process takes over: a cell that is run again makes a new object while the old one is still alive.
    """

    def __init__(self, path: Path):
        self._path = path
        self._handle: int | None = None
        self._key: tuple[int, int] | None = None
        self._end: weakref.finalize | None = None
        self.busy = threading.RLock()
        """Held while something is written; shared with the one that takes over."""

    def take(self) -> None:
        """Raises UsageError when another process holds it, WriteError when a newer object of this process does."""
        found = os.stat(self._path)
        key = found.st_dev, found.st_ino
        while not self._takes_over(key, _owners.get(key)):
            pass  # somebody else was faster

    def _takes_over(self, key: tuple[int, int], other: "DirectoryLock | None") -> bool:
        """``busy`` always comes before the guard: what the other one is writing is finished first, and asks for the guard meanwhile."""
        if other is self:
            return True
        if self._key == key and other is not None:
            raise WriteError(f"A newer Checkpointer of this process writes into {self._path}; this one has ended.")
        with contextlib.nullcontext() if other is None else other.busy, _guard:
            if _owners.get(key) is not other:
                return False
            self._drop()  # of a folder that was removed meanwhile
            if other is None:
                handle = _lock(self._path, key)
            else:
                self.busy = other.busy
                handle, other._handle = other._handle, None
                other._drop()
            _owners[key] = self
            self._key, self._handle = key, handle
            if handle is not None:
                self._end = weakref.finalize(self, _release, handle)
        return True

    def held(self) -> bool:
        return self._key is not None and _owners.get(self._key) is self

    def free(self) -> None:
        with _guard:
            if self._key is not None and self.held():
                del _owners[self._key]
            self._drop()
            self._key = None

    def _drop(self) -> None:
        if self._end is not None:
            self._end.detach()
            self._end = None
        if self._handle is not None:
            _release(self._handle)
            self._handle = None


def _lock(path: Path, key: tuple[int, int]) -> int | None:
    if sys.platform == "win32":
        return None
    handle = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        pid = _holder(key)
        who = f"Another process ({pid})" if pid else "Another process"
        raise UsageError(f"{who} writes checkpoints into {path}: end it first, or give this run a folder of its own.") from None
    except OSError:  # not every file system can lock
        os.close(handle)
        return None
    _handles.add(handle)
    return handle


def _release(handle: int) -> None:
    if handle in _handles:
        _handles.discard(handle)
        os.close(handle)


def _forget() -> None:
    """In a forked child: a data loader's worker that outlives its killed parent must not hold the folder."""
    global _guard
    _guard = threading.Lock()
    for handle in list(_handles):
        _release(handle)
    _owners.clear()


def _holder(key: tuple[int, int]) -> int | None:
    """The process that holds a lock on this inode, where Linux tells."""
    inode = f"{os.major(key[0]):02x}:{os.minor(key[0]):02x}:{key[1]}"
    try:
        for line in Path("/proc/locks").read_text(encoding="ascii").splitlines():
            fields = line.split()
            if "FLOCK" in fields and inode in fields and int(fields[fields.index(inode) - 1]) > 0:
                return int(fields[fields.index(inode) - 1])
    except (OSError, ValueError):
        pass
    return None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
