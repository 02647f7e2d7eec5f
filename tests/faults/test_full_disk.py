"""A disk that is full: foreseen, and met in the middle of a write."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gradnb.checkpoint.errors import WriteError
from gradnb.checkpoint.folder import Folder
from tests.checkpoint.states import content, filled, same, state

MEGABYTE = 1_000_000
SIZE = 100_000  # a state of 1.2 MB


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MB."""
    place = tmp_path / "small disk"
    place.mkdir()
    if (
        not sys.platform.startswith("linux")
        or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", place], capture_output=True).returncode
    ):
        pytest.skip("no right to mount a small file system; the test with a limit on files stands for it")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def unforeseen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The file system says that there is room, as a mounted Drive does."""
    usage = type("usage", (), {"total": 10**12, "free": 10**12})
    monkeypatch.setattr("gradnb.checkpoint.room.shutil.disk_usage", lambda _: usage)


@pytest.mark.parametrize("foreseen", [True, False], ids=["foreseen", "in the middle of a write"])
def test_a_full_disk_is_told_with_sizes_and_the_older_checkpoints_stay(foreseen: bool, disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = filled(disk / "run", 0)
    for step in (1, 2, 3):
        folder.write(state(step, size=SIZE))
    before = content(disk / "run")
    if not foreseen:
        unforeseen(monkeypatch)
    for _ in range(3):
        with pytest.raises(
            WriteError, match=r"No room for a checkpoint in .*small disk/run.*about 1\.2 MB are needed, and \d+ [kT]B are free. The older"
        ) as told:
            folder.write(state(4, size=SIZE))
        assert ("No space left on device" in str(told.value)) is not foreseen
        assert content(disk / "run") == before
    monkeypatch.undo()
    assert [one.step for one in folder.manifests()] == [3, 2, 1]
    assert all(same(folder.read(one), state(one.step, size=SIZE)) for one in folder.manifests())
    assert folder.write(state(4, size=1000)).step == 4, "training goes on, and what fits is saved"


def test_when_there_is_room_again_saving_goes_on(disk: Path) -> None:
    (disk / "big").write_bytes(b"x" * 3 * MEGABYTE)
    folder = filled(disk / "run", 0)
    with pytest.raises(WriteError, match="No room"):
        folder.write(state(1, size=SIZE))
    (disk / "big").unlink()
    assert same(folder.read(folder.write(state(2, size=SIZE))), state(2, size=SIZE))


def test_a_disk_with_room_for_two_keeps_one_checkpoint_for_ever(disk: Path) -> None:
    folder = filled(disk / "run", 0, keep_last=1)
    (disk / "big").write_bytes(b"x" * MEGABYTE)
    for step in range(1, 8):
        folder.write(state(step, size=SIZE))
    assert [one.step for one in folder.manifests()] == [7, 6]


def test_a_smaller_keep_last_makes_room_on_a_full_disk(disk: Path) -> None:
    folder = filled(disk / "run", 0)
    for step in (1, 2, 3):
        folder.write(state(step, size=SIZE))
    folder.close()
    folder = filled(disk / "run", 0, keep_last=1)
    folder.write(state(4, size=2 * SIZE))
    assert [one.step for one in folder.manifests()] == [4, 3]
    assert same(folder.read(folder.manifests()[0]), state(4, size=2 * SIZE))


@pytest.mark.parametrize("times", [3, 6], ids=["after it", "in the middle of it"])
def test_a_disk_that_is_full_at_a_shared_file_keeps_nothing_of_it(times: int, disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = filled(disk / "run", 2)
    before = content(disk / "run")
    unforeseen(monkeypatch)
    with pytest.raises(WriteError, match="No room"):
        folder.write(state(3, size=times * SIZE, base=1))
    assert content(disk / "run") == before


LIMITED = """
import resource, shutil, sys
from gradnb.checkpoint.errors import WriteError
from tests.checkpoint.states import filled, state
folder = filled(sys.argv[1], 2)
resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, resource.RLIM_INFINITY))
try:
    folder.write(state(3, size=100_000))
except WriteError as error:
    print(error)
folder.write(state(3))
print([one.step for one in folder.manifests()], folder.clean())
"""


@pytest.mark.skipif(os.name != "posix", reason="no limits on this system")
def test_a_limit_on_the_size_of_a_file_is_met_like_a_full_disk(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", LIMITED, tmp_path / "run"],
        cwd=Path(__file__).resolve().parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    told, rest = ended.stdout.splitlines()
    assert "No room for a checkpoint in" in told and "File too large" in told
    assert rest == "[3, 2, 1] []"
    assert [one.step for one in Folder(tmp_path / "run").manifests()] == [3, 2, 1]
