"""Files written in place: no rename and no temporary file, because a mounted Drive promises nothing about either."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

CHUNK = 16 << 20
"""Bytes a call: one write of more than 2 GiB is refused or cut short by several systems."""
_CANNOT_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EBADF, errno.EACCES, errno.EPERM, errno.EISDIR}
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG} if hasattr(errno, "EDQUOT") else {errno.ENOSPC, errno.EFBIG}
"""What a system says when nothing more fits: the disk, a quota, a limit on one file."""


def overwrite(path: Path, pieces: Iterable[bytes | memoryview]) -> None:
    """Write `pieces` from the beginning of a file that may exist, cut off what is left of the old content, and wait for the disk."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0), 0o666)
    try:
        size = 0
        for piece in pieces:
            view = memoryview(piece)
            while view:
                done = os.write(handle, view[:CHUNK])
                size += done
                view = view[done:]
        os.ftruncate(handle, size)
        _sync(handle)
    finally:
        os.close(handle)


def first_byte(path: Path, byte: bytes) -> None:
    """Change the first byte of a file, and wait for the disk: nothing can be left half done."""
    handle = os.open(path, os.O_RDWR | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0))
    try:
        os.write(handle, byte)
        _sync(handle)
    finally:
        os.close(handle)


def sync_directory(path: Path) -> None:
    """Wait until the names in a directory are on the disk, where the system lets a directory be opened."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:
        return
    try:
        _sync(handle)
    finally:
        os.close(handle)


def _sync(handle: int) -> None:
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in _CANNOT_SYNC:
            raise


def remove(path: Path) -> bool:
    """Whether a file was there and is gone now."""
    with contextlib.suppress(OSError):
        path.unlink()
        return True
    return False


def size(path: Path) -> int | None:
    """Bytes of a regular file; None where there is none."""
    try:
        return path.stat().st_size if path.is_file() else None
    except OSError:
        return None


def sha256(path: Path) -> str:
    """The checksum of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def checksum(data: bytes) -> str:
    """The checksum of bytes in memory."""
    return hashlib.sha256(data).hexdigest()
