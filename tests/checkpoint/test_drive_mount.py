"""A mounted Drive: a folder on another file system that lags, fills up, lies about what it holds, and goes away."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import sys
import tempfile
import threading
import types
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

import pytest

from gradnb.checkpoint import DriveMount, QuotaError, RemoteError, WriteError
from gradnb.checkpoint.model import Entry
from gradnb.checkpoint.mounted_files import Files

NAME = "slot-0.safetensors"


class Faulty(Files):
    """A file layer with the faults of a FUSE mount."""

    def __init__(self) -> None:
        self.error: int | None = None
        """Every call fails with this errno."""
        self.full_after: int | None = None
        """So many bytes still fit; then ``full`` is raised, at write or at sync."""
        self.full, self.full_at = errno.ENOSPC, "write"
        self.ghosts: set[str] = set()
        """Listed, and not there."""
        self.hidden: set[str] = set()
        """There, and not listed."""
        self.stale: dict[str, list[bytes]] = {}
        """What the next reads of a name show in place of its content."""
        self.calls: list[str] = []

    def _may(self, what: str, path: Path) -> None:
        self.calls.append(f"{what} {path.name}")
        if self.error is not None:
            raise OSError(self.error, os.strerror(self.error))

    def open(self, path: Path, mode: str) -> BinaryIO:
        self._may(f"open {mode}", path)
        if mode == "rb" and self.stale.get(path.name):
            old = tempfile.TemporaryFile()
            old.write(self.stale[path.name].pop(0))
            old.seek(0)
            return old  # type: ignore[return-value]
        file = super().open(path, mode)
        return _Limited(file, self) if mode != "rb" else file  # type: ignore[return-value]

    def size(self, path: Path) -> int:
        self._may("size", path)
        return super().size(path)

    def names(self, path: Path) -> list[str]:
        self._may("names", path)
        return [name for name in super().names(path) if name not in self.hidden] + sorted(self.ghosts)

    def make(self, path: Path) -> None:
        self._may("make", path)
        super().make(path)

    def remove(self, path: Path) -> None:
        self._may("remove", path)
        self.calls.append(f"removed {path.stat().st_size} bytes")
        super().remove(path)

    def sync(self, file: BinaryIO) -> None:
        file.flush()
        if self.full_after is not None and self.full_after < 0 and self.full_at == "sync":
            raise OSError(self.full, os.strerror(self.full))


class _Limited:
    def __init__(self, file: BinaryIO, files: Faulty):
        self._file, self._files = file, files

    def write(self, data: bytes) -> int:
        files = self._files
        if files.full_after is not None:
            files.full_after -= len(data)
            if files.full_after < 0 and files.full_at == "write":
                raise OSError(files.full, os.strerror(files.full))
        return self._file.write(data)

    def __getattr__(self, name: str) -> object:
        return getattr(self._file, name)

    def __enter__(self) -> "_Limited":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


@pytest.fixture
def mountpoint() -> Iterator[Path]:
    """On another file system than the temporary folder, where there is one."""
    shared = Path("/dev/shm")
    path = Path(tempfile.mkdtemp(dir=shared if shared.is_dir() and os.access(shared, os.W_OK) else None))
    (path / "MyDrive").mkdir()
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def files() -> Faulty:
    return Faulty()


@pytest.fixture
def mount(mountpoint: Path, files: Faulty) -> DriveMount:
    return DriveMount("MyDrive/a/run1", mountpoint, files=files, sleep=lambda _: None)


def local(folder: Path, size: int = 3_000_000) -> tuple[Path, bytes, str]:
    data = os.urandom(size)
    path = folder / "local"
    path.write_bytes(data)
    return path, data, hashlib.sha256(data).hexdigest()


def colab(monkeypatch: pytest.MonkeyPatch, mount: object) -> None:
    """A stand-in for ``google.colab.drive`` with its documented functions."""
    package, drive = types.ModuleType("google.colab"), types.ModuleType("google.colab.drive")
    drive.mount = mount  # type: ignore[attr-defined]

    def flush_and_unmount(timeout_ms: int = 86400000) -> None:
        raise AssertionError("gradnb must never unmount the user's Drive")

    drive.flush_and_unmount = flush_and_unmount  # type: ignore[attr-defined]
    package.drive = drive  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "google.colab", package)
    monkeypatch.setitem(sys.modules, "google.colab.drive", drive)


def test_files_go_there_and_come_back_over_the_same_file(mount: DriveMount, mountpoint: Path, tmp_path: Path, files: Faulty) -> None:
    assert mount.list() == {} and os.listdir(mountpoint / "MyDrive") == []  # looking makes nothing
    inodes = set()
    for size in (3_000_000, 0, 1_000, 2_000_000):
        path, data, sha256 = local(tmp_path, size)
        mount.put(NAME, path, sha256)
        assert mount.list() == {NAME: Entry(size)}
        mount.get(NAME, tmp_path / "back")
        assert (tmp_path / "back").read_bytes() == data
        inodes.add((mountpoint / "MyDrive/a/run1" / NAME).stat().st_ino)
    mount.write("slot-0.manifest", b"longer")
    mount.write("slot-0.manifest", b"short")
    assert mount.read("slot-0.manifest") == b"short"
    assert len(inodes) == 1 and not any(call.startswith("remove") for call in files.calls)
    assert sorted(os.listdir(mountpoint / "MyDrive/a/run1")) == ["slot-0.manifest", NAME]  # no temporary file, nothing else
    assert mount.free() == Files().free(mountpoint)


def test_what_is_removed_is_made_empty_first_so_that_the_trash_holds_nothing(mount: DriveMount, files: Faulty) -> None:
    mount.write("shared-0.safetensors", b"data")
    mount.remove("shared-0.safetensors")
    mount.remove("shared-0.safetensors")
    assert mount.list() == {} and "removed 0 bytes" in files.calls


@pytest.mark.parametrize("number", [errno.ENOTCONN, errno.EIO, errno.ESTALE])
def test_a_mount_that_vanishes_is_told_and_works_again_when_it_is_back(
    mount: DriveMount, files: Faulty, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    mounts: list[object] = []
    colab(monkeypatch, lambda *given, **named: mounts.append((given, named)))
    path, data, sha256 = local(tmp_path)
    mount.put(NAME, path, sha256)
    files.error = number
    for act in (
        mount.list,
        lambda: mount.put(NAME, path, sha256),
        lambda: mount.read(NAME),
        lambda: mount.write("m", b""),
        lambda: mount.get(NAME, tmp_path / "x"),
        lambda: mount.remove(NAME),
    ):
        with pytest.raises(RemoteError, match=f"does not answer .*errno {number}.*drive.mount") as error:
            act()
        assert error.value.again
    files.error = None
    mount.put(NAME, path, sha256)
    assert mount.read(NAME) == data
    assert not mounts  # it is mounted: mounting it again would end Drive's process


@pytest.mark.parametrize("at", ["write", "sync"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_drive_names_what_is_needed_and_keeps_the_other_slots(
    mount: DriveMount, files: Faulty, tmp_path: Path, number: int, at: str
) -> None:
    mount.write("slot-0.manifest", b"good")
    files.full_after, files.full, files.full_at = 1_500_000, number, at
    path, data, sha256 = local(tmp_path)
    with pytest.raises(QuotaError, match=r"is full: copying slot-1.safetensors needs 3 MB, .* are free. Free some space"):
        mount.put("slot-1.safetensors", path, sha256)
    files.full_after = None
    assert mount.read("slot-0.manifest") == b"good"
    mount.put("slot-1.safetensors", path, sha256)
    assert mount.read("slot-1.safetensors") == data


def test_a_stale_listing_neither_hides_a_slot_nor_invents_one(mount: DriveMount, files: Faulty) -> None:
    mount.write("slot-0.manifest", b"seen")
    mount.write("slot-3.manifest", b"hidden")
    files.hidden, files.ghosts = {"slot-3.manifest"}, {"slot-1.manifest", "slot-9.safetensors"}
    assert mount.list() == {"slot-0.manifest": Entry(4), "slot-3.manifest": Entry(6)}
    mount.write("slot-3.manifest", b"still in place")
    assert mount.read("slot-3.manifest") == b"still in place"
    with pytest.raises(RemoteError, match="reading slot-9.safetensors failed"):
        mount.read("slot-9.safetensors")


def test_old_content_that_is_shown_for_a_while_is_waited_for(mount: DriveMount, files: Faulty, tmp_path: Path) -> None:
    path, data, sha256 = local(tmp_path)
    files.stale[NAME] = [b"old", data[:1000], b""]
    mount.put(NAME, path, sha256)
    files.stale["slot-0.manifest"] = [b"old"] * 1000
    with pytest.raises(RemoteError, match="slot-0.manifest reads back with other content, 3[0-9] seconds after it was written"):
        mount.write("slot-0.manifest", b"new")
    assert len(files.stale["slot-0.manifest"]) > 980  # few reads, growing pauses


def test_a_shared_file_that_is_there_is_not_copied_again(mount: DriveMount, files: Faulty, tmp_path: Path) -> None:
    path, data, sha256 = local(tmp_path)
    name = f"shared-{sha256[:16]}.safetensors"
    mount.put(name, path, sha256)
    files.calls.clear()
    mount.put(name, path, sha256)
    assert not any(call.startswith(("open r+b", "open wb")) for call in files.calls)
    mount.write(name, b"cut")
    mount.put(name, path, sha256)
    assert mount.read(name) == data


def test_a_local_file_that_changed_is_the_one_that_is_blamed(mount: DriveMount, tmp_path: Path) -> None:
    path, _, _ = local(tmp_path)
    with pytest.raises(RemoteError, match="changed or damaged before it was copied"):
        mount.put(NAME, path, "0" * 64)
    with pytest.raises(RemoteError, match="cannot be read for the copy"):
        mount.put(NAME, tmp_path / "none", "0" * 64)
    mount.write("m", b"data")
    with pytest.raises(WriteError, match="cannot be written"):
        mount.get("m", tmp_path / "no such folder" / "x")


def test_a_mount_that_may_not_be_written_to_is_told(mount: DriveMount, files: Faulty, tmp_path: Path) -> None:
    mount.write("m", b"data")
    mount.list()

    def refuse(path: Path, mode: str) -> BinaryIO:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    files.open = refuse  # type: ignore[method-assign]
    with pytest.raises(RemoteError, match="is not allowed .Read-only") as error:
        mount.write("m", b"more")
    assert not error.value.again


# mounting


def test_drive_is_mounted_when_it_is_not_and_only_then(mountpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (mountpoint / "MyDrive").rmdir()
    asked: list[tuple] = []

    def mount(where: str, force_remount: bool = False, timeout_ms: int = 120000, readonly: bool = False) -> None:
        asked.append((where, force_remount, readonly))
        (mountpoint / "MyDrive").mkdir()

    colab(monkeypatch, mount)
    for _ in range(2):
        store = DriveMount("MyDrive/run1", mountpoint)
        store.connect()
        store.write("m", b"data")
    assert asked == [(str(mountpoint), False, False)]
    shutil.rmtree(mountpoint / "MyDrive")  # unmounted by hand: a second call in this process could end Drive's process
    with pytest.raises(RemoteError, match="Drive is not mounted at .*drive.mount"):
        store.list()
    assert len(asked) == 1 and not (mountpoint / "MyDrive").exists()  # nothing is written where Drive would be


def in_a_thread(action: Callable[[], object]) -> None:
    with ThreadPoolExecutor(1) as pool:
        pool.submit(action).result()


def test_a_mount_call_that_fails_or_hangs_is_told_and_is_not_made_again(mountpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (mountpoint / "MyDrive").rmdir()
    hang, calls = threading.Event(), []

    def fail(where: str, timeout_ms: int = 120000) -> None:
        calls.append(where)
        assert timeout_ms == 50
        raise ValueError("mount failed: the user said no")

    def wait(where: str) -> None:
        calls.append(where)
        hang.wait()

    for number, (behaviour, message) in enumerate(
        [(fail, "ValueError: mount failed: the user said no"), (wait, "TimeoutError: no answer")]
    ):
        place = mountpoint / str(number)
        colab(monkeypatch, behaviour)
        store = DriveMount("MyDrive/run1", place, limit=0.05)
        with pytest.raises(RemoteError, match=f"mounting Drive at {place} failed .{message}.*drive.mount"):
            in_a_thread(store.list) if behaviour is wait else store.list()  # the main thread waits as long as Colab's own limit says
        with pytest.raises(RemoteError, match="is not mounted"):
            store.list()
    hang.set()
    assert len(calls) == 2


def test_outside_colab_a_drive_that_is_not_mounted_is_told(tmp_path: Path) -> None:
    with pytest.raises(RemoteError, match="Drive is not mounted"):
        DriveMount("MyDrive/run1", tmp_path / "none").list()
    assert not (tmp_path / "none").exists()
