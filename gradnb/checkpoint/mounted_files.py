"""What a mounted Drive is asked of the operating system, and nothing else: its faults can be tried here."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path
from typing import BinaryIO

_CANNOT_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.ENOSYS}


class Files:
    """Any of these may raise OSError at any time: a mount goes away, fills up, and lists what is not there."""

    def open(self, path: Path, mode: str) -> BinaryIO:
        return open(path, mode)  # type: ignore[return-value]

    def size(self, path: Path) -> int:
        return os.stat(path).st_size

    def names(self, path: Path) -> list[str]:
        return os.listdir(path)

    def make(self, path: Path) -> None:
        os.makedirs(path, exist_ok=True)

    def remove(self, path: Path) -> None:
        os.remove(path)

    def free(self, path: Path) -> int:
        found = os.statvfs(path)
        return found.f_bavail * found.f_frsize

    def sync(self, file: BinaryIO) -> None:
        file.flush()
        try:
            os.fsync(file.fileno())
        except OSError as error:
            if error.errno not in _CANNOT_SYNC:
                raise

    def forget(self, file: BinaryIO) -> None:
        """Read from the mount, not from this machine's page cache, where the system lets one say so."""
        if hasattr(os, "posix_fadvise"):
            with contextlib.suppress(OSError):
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
