"""Where a folder of checkpoints may lie, whose files are in it, and who else writes there."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from gradnb.checkpoint.errors import WriteError
from gradnb.checkpoint.folder import Folder
from gradnb.errors import UsageError
from tests.checkpoint.states import content, filled, state, steps

# places


def test_home_blanks_and_unicode_in_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    folder = filled(Path("~/my rün 1/π"), 2)
    assert folder.path == tmp_path / "my rün 1" / "π"
    assert steps(folder) == [2, 1]
    assert filled(str(tmp_path / "a" / ".." / "b"), 1).path == tmp_path / "b"  # type: ignore[arg-type]


def test_a_relative_path_stays_where_it_was_when_the_working_folder_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = filled(Path("run"), 1)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    folder.write(state(2))
    assert steps(Folder(tmp_path / "run")) == [2, 1]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: path.write_text("mine"), "run is a file, and checkpoints need a folder"),
        (lambda path: path.symlink_to(path.parent / "gone"), "is a link to .*gone, which is not there"),
    ],
)
@pytest.mark.parametrize("below", ["", "deeper/still"])
def test_a_place_that_can_be_no_folder_is_told_before_training(make: object, words: str, below: str, tmp_path: Path) -> None:
    make(tmp_path / "run")  # type: ignore[operator]
    with pytest.raises(UsageError, match=words):
        Folder(tmp_path / "run" / below).open()
    assert len(list(tmp_path.iterdir())) == 1


def test_a_link_to_a_folder_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    filled(tmp_path / "link", 2)
    assert steps(Folder(tmp_path / "real")) == [2, 1]


def test_a_folder_that_cannot_be_written_is_told_before_training_and_can_still_be_read(tmp_path: Path) -> None:
    filled(tmp_path / "run", 2).close()
    tmp_path.joinpath("run").chmod(0o555)
    read_only = os.geteuid() != 0
    if not read_only:
        mounted = subprocess.run(["mount", "-o", "bind,ro", tmp_path / "run", tmp_path / "run"], capture_output=True)
        read_only = mounted.returncode == 0
    if not read_only:
        pytest.skip("root without the right to mount: no folder refuses it")
    try:
        with pytest.raises(UsageError, match="cannot be written: no permission, or a read-only disk"):
            Folder(tmp_path / "run").open()
        assert steps(Folder(tmp_path / "run")) == [2, 1]
        with pytest.raises(WriteError, match="No checkpoint could be written into .*(Read-only file system|Permission denied)"):
            Folder(tmp_path / "run").write(state(3))
    finally:
        if os.geteuid() == 0:
            subprocess.run(["umount", tmp_path / "run"], check=True)
        tmp_path.joinpath("run").chmod(0o755)


@pytest.mark.parametrize("path", ["", None, 5, b"x"])
def test_what_is_no_path_is_refused(path: object) -> None:
    with pytest.raises(UsageError, match="is no folder"):
        Folder(path)  # type: ignore[arg-type]


@pytest.mark.parametrize("options", [{"keep_last": 0}, {"keep_last": 2.5}, {"keep_last": True}, {"keep_best": ("accuracy", "highest")}])
def test_nonsense_about_what_to_keep_is_refused(options: dict, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="expected"):
        Folder(tmp_path, **options)


def test_a_folder_that_is_removed_in_mid_training_comes_back(tmp_path: Path) -> None:
    folder = filled(tmp_path / "run", 3)
    shutil.rmtree(tmp_path / "run")
    assert folder.write(state(4)).serial == 4
    assert steps(folder) == [4]


# what belongs to others


def test_files_of_the_user_are_never_touched_not_even_with_names_like_ours(tmp_path: Path) -> None:
    mine = {
        "notes.txt": b"mine",
        "slot-1.json": b"{}",  # without a manifest: not ours
        "slot-2.safetensors": b"weights",
        "slot-0.manifest.bak": b"copy",
        "shared-model.safetensors": b"x",
        "shared-0011223344556677.safetensors.old": b"x",
        "model.pt": b"\x80\x04.",
        ".hidden": b"",
    }
    for name, data in mine.items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "slot-3.manifest").mkdir()
    (tmp_path / "sub").mkdir()
    folder = filled(tmp_path, 9, base=1, keep_last=2)
    folder.clean()
    after = content(tmp_path)
    assert {name: after[name] for name in mine} == mine
    assert steps(folder) == [9, 8, 7]
    assert (tmp_path / "slot-3.manifest").is_dir()


def test_clean_removes_what_a_killed_run_left_and_says_so(tmp_path: Path) -> None:
    filled(tmp_path, 3, base=1).close()
    before = content(tmp_path)
    left = {
        "slot-7.manifest": b'\0"gradnb":',
        "slot-7.safetensors": b"half",
        "slot-7.json": b"",
        "slot-8.manifest": b"",
        "shared-0123456789abcdef.safetensors": b"half",
    }
    for name, data in left.items():
        (tmp_path / name).write_bytes(data)
    assert "slot 7" in [damage.what for damage in Folder(tmp_path).damaged()]
    assert set(Folder(tmp_path).open()) == set(left)
    assert content(tmp_path) == before


# others who write


def test_another_process_that_writes_there_is_named_before_training_and_none_is_after_it_was_killed(tmp_path: Path) -> None:
    pytest.importorskip("fcntl")
    hold = (
        f"import fcntl, os; d = os.open({str(tmp_path)!r}, os.O_RDONLY); fcntl.flock(d, fcntl.LOCK_EX); print('held', flush=True); input()"
    )
    with subprocess.Popen([sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None and other.stdout.readline() == b"held\n"
        pid = rf" \({other.pid}\)" if Path("/proc/locks").exists() else ""
        with pytest.raises(UsageError, match=f"Another process{pid} writes checkpoints into .*end it first"):
            Folder(tmp_path).open()
        assert Folder(tmp_path).manifests() == []
        other.send_signal(signal.SIGKILL)
        other.wait()
    assert steps(filled(tmp_path, 1)) == [1]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_child_that_outlives_its_parent_does_not_hold_the_folder(tmp_path: Path) -> None:
    import fcntl

    folder = filled(tmp_path, 1)
    ready, go = os.pipe(), os.pipe()
    if (child := os.fork()) == 0:
        os.close(go[1])
        os.write(ready[1], b"x")
        os.read(go[0], 1)
        os._exit(0)
    os.read(ready[0], 1)
    handle = os.open(tmp_path, os.O_RDONLY)
    try:
        with pytest.raises(BlockingIOError):
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        folder.close()
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.close(handle)
        os.close(go[1])
        os.waitpid(child, 0)


def test_a_cell_that_is_run_again_takes_over_and_the_old_one_says_that_it_has_ended(tmp_path: Path) -> None:
    old = filled(tmp_path, 2)
    new = filled(tmp_path, 0)
    new.write(state(3))
    with pytest.raises(WriteError, match="newer Checkpointer"):
        old.write(state(30))
    old.close()
    assert new.write(state(4)).serial == 4
    assert steps(new) == [4, 3, 2, 1]


def test_checkpoints_of_another_process_that_appear_there_are_told(tmp_path: Path) -> None:
    folder = filled(tmp_path / "run", 2)
    filled(tmp_path / "other", 5).close()
    for name in ("manifest", "json", "safetensors"):
        shutil.copy(tmp_path / "other" / f"slot-4.{name}", tmp_path / "run")
    before = content(tmp_path / "run")
    with pytest.raises(
        WriteError, match="Another process writes checkpoints into .*000005 appeared there, and this one wrote up to 000002"
    ):
        folder.write(state(3))
    assert content(tmp_path / "run") == before


def test_a_background_thread_writes_while_others_look(tmp_path: Path) -> None:
    folder = filled(tmp_path, 1, base=1, keep_last=2)
    errors: list[BaseException] = []

    def write() -> None:
        try:
            for step in range(2, 40):
                folder.write(state(step, base=step // 10))
        except BaseException as error:
            errors.append(error)

    writer = threading.Thread(target=write)
    writer.start()
    looks = 0
    while writer.is_alive():
        assert folder.damaged() == []
        found = folder.manifests()
        assert not folder.verify(found[0]) or folder.manifests()[0].serial > found[0].serial + 1
        looks += 1
    writer.join()
    assert not errors
    assert looks > 3
    assert steps(folder) == [39, 38, 37]


def test_a_cell_that_is_run_again_while_the_old_one_writes_waits_for_that_write_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = filled(tmp_path, 1)
    begun, go_on, opened = threading.Event(), threading.Event(), threading.Event()
    put = old._content.put

    def slowly(*args: Any) -> Any:
        begun.set()
        go_on.wait(10)
        return put(*args)

    monkeypatch.setattr(old._content, "put", slowly)
    new = Folder(tmp_path)
    writing = threading.Thread(target=old.write, args=(state(2),), daemon=True)
    opening = threading.Thread(target=lambda: (new.open(), opened.set()), daemon=True)
    writing.start()
    assert begun.wait(10)
    opening.start()
    assert not opened.wait(0.2)
    go_on.set()
    writing.join(10)
    opening.join(10)
    assert opened.is_set() and not writing.is_alive() and steps(new) == [2, 1]
    new.write(state(3))
    assert steps(new) == [3, 2, 1]
