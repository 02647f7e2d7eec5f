"""A folder on a mounted Google Drive, as Colab has it: a file system that lags, fills up, and goes away."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from . import words
from .deadline import within
from .drive_http import MAKE_ROOM
from .drive_path import parts
from .errors import QuotaError, RemoteError, WriteError
from .model import Entry
from .mounted_files import Files

MOUNTPOINT = "/content/drive"
_BLOCK = 1 << 20
_SLOTS = 16
"""Names of slots that are looked for by themselves: listings of the mount are stale now and then (googlecolab/colabtools/issues/4032)."""
_FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}
_GONE = {errno.ENOTCONN, errno.ENODEV, errno.ENXIO, errno.EIO, getattr(errno, "ESTALE", errno.EIO), errno.ETIMEDOUT}
_DENIED = {errno.EACCES, errno.EPERM, errno.EROFS}
_asked: set[str] = set()
"""Mountpoints that this process has tried to mount: a second call can end the mount's process, so there is none."""
_asking = threading.Lock()


class DriveMount:
    """A folder below a mounted Drive as a store, as ``"drive:MyDrive/run1"`` is in Colab: ``Checkpointer(DriveMount("MyDrive/run1"))``.

    Files are overwritten in place, never renamed: what is deleted fills Drive's trash, and nothing promises that a rename is atomic there.
    What it accepts is uploaded by Colab's own client later on; nobody can see from here when. Its methods are those of
    ``gradnb.checkpoint.model.Remote``.

    Parameters
    ----------
    folder
        ``"MyDrive/run1"``; made when it is missing (never its root: that shows whether Drive is mounted).
    mountpoint
        Where Drive is mounted; ``google.colab.drive.mount`` is called once when it is not.
    patience
        Seconds after which a read-back that still differs is an error: the mount may show old content for a while.
    limit
        Seconds that the mount may take, the user's consent included.
    files
        How its files are read and written: by the file system, unless a test gives another way.
    sleep
        Called with the number of seconds to wait between two looks.

    Raises
    ------
    UsageError
        Where there can be no such place on a Drive.
    """

    def __init__(
        self,
        folder: str,
        mountpoint: "str | os.PathLike[str]" = MOUNTPOINT,
        *,
        patience: float = 30.0,
        limit: float = 180.0,
        files: Files | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ):
        path = parts(folder)
        self.name = "drive:" + "/".join(path)
        self._mountpoint = Path(mountpoint)
        self._root = self._mountpoint / path[0]
        self._folder = self._mountpoint.joinpath(*path)
        self._patience, self._limit, self._sleep = patience, limit, sleep
        self._files = files or Files()

    def connect(self) -> None:
        """Mount Drive when it is not mounted. Raises RemoteError when that fails, with what the user can do."""
        with _asking:
            if not self._absent():
                return
            mount = _colab_mount() if str(self._mountpoint) not in _asked else None
            if mount is not None:
                _asked.add(str(self._mountpoint))
                try:
                    self._mount(mount)
                except Exception as error:
                    why = f"{type(error).__name__}: {error}"
                    raise RemoteError(f"{self.name}: mounting Drive at {self._mountpoint} failed ({why}).", todo=self._by_hand()) from error
            if self._absent():
                raise RemoteError(f"{self.name}: Drive is not mounted at {self._mountpoint}.", todo=self._by_hand())

    def _mount(self, mount: Callable[..., Any]) -> None:
        """Colab asks for consent over the kernel's sockets, which are the main thread's: there it is called, with its own limit."""
        if threading.current_thread() is threading.main_thread():
            mount(str(self._mountpoint), timeout_ms=int(1000 * self._limit))
        else:
            within(self._limit, lambda: mount(str(self._mountpoint)))

    def list(self) -> dict[str, Entry]:
        """The files that are there, by name. Raises RemoteError."""
        with self._in_words("listing the folder"):
            self._ready()
            try:
                names = set(self._files.names(self._folder))
            except FileNotFoundError:
                names = set()
            found = {}
            for name in names | {f"slot-{slot}.manifest" for slot in range(_SLOTS)}:
                with contextlib.suppress(FileNotFoundError):
                    found[name] = Entry(self._files.size(self._folder / name))
            return found

    def put(self, name: str, source: Path, sha256: str) -> None:
        """Copy the local file ``source`` to ``name``, read it back until ``sha256`` is right. Raises RemoteError (QuotaError: full)."""
        size = _size(source)
        with self._in_words(f"copying {name}", size):
            self._ready()
            if name.startswith("shared-") and self._is(name, size, sha256):
                return  # it is named by its content: an earlier run brought it here
            read = hashlib.sha256()
            with self._over(name) as target:
                for block in _blocks_of(source):
                    read.update(block)
                    target.write(block)
            if read.hexdigest() != sha256:
                raise RemoteError(f"{source} is not what its manifest says: it was changed or damaged before it was copied.")
            self._verify(name, size, sha256)

    def write(self, name: str, data: bytes) -> None:
        """Write ``data`` to the file ``name`` and read it back. Raises RemoteError, QuotaError when Drive is full."""
        with self._in_words(f"writing {name}", len(data)):
            self._ready()
            with self._over(name) as target:
                target.write(data)
            self._verify(name, len(data), hashlib.sha256(data).hexdigest())

    def get(self, name: str, target: Path) -> None:
        """Copy the file ``name`` to the local file ``target``. Raises RemoteError, WriteError where ``target`` cannot be written."""
        with self._in_words(f"reading {name}"):
            self._ready()
            with self._files.open(self._folder / name, "rb") as source, _local(target) as write:
                while block := source.read(_BLOCK):
                    write(block)

    def read(self, name: str) -> bytes:
        """The content of the file ``name`` as bytes. Raises RemoteError."""
        with self._in_words(f"reading {name}"):
            self._ready()
            with self._files.open(self._folder / name, "rb") as file:
                return file.read()

    def remove(self, name: str) -> None:
        """Remove the file ``name``, made empty first: the mount moves it to Drive's trash, where its bytes would count for 30 days.

        Raises RemoteError.
        """
        with self._in_words(f"removing {name}"):
            self._ready()
            path = self._folder / name
            with contextlib.suppress(FileNotFoundError):
                with self._files.open(path, "r+b") as file:
                    file.truncate(0)
                self._files.remove(path)

    def free(self) -> int | None:
        """Bytes that still fit; None where the mount cannot be asked."""
        try:
            return self._files.free(self._root)
        except (OSError, AttributeError):
            return None

    # inside

    def _absent(self) -> bool:
        """Drive's root is there only while it is mounted, so it is never made by us. RemoteError for a mount that does not answer."""
        try:
            self._files.size(self._root)
        except FileNotFoundError:
            return True
        except OSError as error:
            raise self._gone(error) from error
        return False

    def _ready(self) -> None:
        if self._absent():
            self.connect()

    @contextlib.contextmanager
    def _over(self, name: str) -> Iterator[BinaryIO]:
        """The file of this name, from its begin, in place; what was behind the new end is cut off."""
        self._files.make(self._folder)
        path = self._folder / name
        try:
            file = self._files.open(path, "r+b")
        except FileNotFoundError:
            file = self._files.open(path, "wb")
        with file:  # its close may still say that the store is full
            yield file
            file.truncate()
            self._files.sync(file)

    def _verify(self, name: str, size: int, sha256: str) -> None:
        """Read back, again and again while the mount shows what was there before."""
        waited, pause = 0.0, 0.05
        while not self._is(name, size, sha256):
            if waited >= self._patience:
                raise RemoteError(
                    f"{self.name}: {name} reads back with other content, {words.plural(round(waited), 'second')} after it was written."
                )
            self._sleep(pause)
            waited, pause = waited + pause, min(2 * pause, 5.0)

    def _is(self, name: str, size: int, sha256: str) -> bool:
        try:
            with self._files.open(self._folder / name, "rb") as file:
                self._files.forget(file)
                found, count = hashlib.sha256(), 0
                while block := file.read(_BLOCK):
                    found.update(block)
                    count += len(block)
        except FileNotFoundError:
            return False
        return count == size and found.hexdigest() == sha256

    @contextlib.contextmanager
    def _in_words(self, what: str, size: int = 0) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno in _FULL:
                free = self.free()
                left = "" if free is None else f", {words.size(free)} are free"
                raise QuotaError(f"{self.name} is full: {what} needs {words.size(size)}{left}. {MAKE_ROOM}") from error
            if error.errno in _GONE or self._absent():
                raise self._gone(error) from error
            if error.errno in _DENIED:
                raise RemoteError(f"{self.name}: {what} is not allowed ({error.strerror}).", again=False) from error
            raise RemoteError(f"{self.name}: {what} failed ({error.strerror or error}).") from error

    def _gone(self, error: OSError) -> RemoteError:
        why = f"{error.strerror or error}, errno {error.errno}"
        return RemoteError(f"{self.name}: the Drive mount at {self._mountpoint} does not answer ({why}).", todo=self._by_hand())

    def _by_hand(self) -> str:
        return f"Mount it (from google.colab import drive; drive.mount({str(self._mountpoint)!r})), or restart the runtime."


def _colab_mount() -> Callable[..., Any] | None:
    """Colab's own function; None elsewhere."""
    try:
        from google.colab import drive
    except ImportError:
        return None
    return drive.mount


def _size(source: Path) -> int:
    try:
        return source.stat().st_size
    except OSError as error:
        raise RemoteError(f"{source} cannot be read for the copy: {error.strerror}.") from error


def _blocks_of(source: Path) -> Iterator[bytes]:
    """Errors of the local file are told from those of the mount."""
    try:
        with open(source, "rb") as file:
            while block := file.read(_BLOCK):
                yield block
    except OSError as error:
        raise RemoteError(f"{source} cannot be read for the copy: {error.strerror}.") from error


@contextlib.contextmanager
def _local(target: Path) -> Iterator[Callable[[bytes], object]]:
    try:
        file = open(target, "wb")
    except OSError as error:
        raise WriteError(f"{target} cannot be written: {error.strerror}.") from error

    def write(block: bytes) -> None:
        try:
            file.write(block)
        except OSError as error:
            raise WriteError(f"{target} cannot be written: {error.strerror}.") from error

    with file:
        yield write
