"""Every single call of a save that touches the disk, as the last one before a kill, and as the one that fails."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from gradnb.checkpoint.errors import WriteError
from gradnb.checkpoint.folder import Folder
from tests.checkpoint.states import content, filled, newest_good, same, state

CALLS = ("open", "write", "ftruncate", "fsync", "unlink")
STEPS = 8


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("calls") / "run"
    filled(path, STEPS, base=1, keep_last=3).close()
    return path


def at_call(number: int, act: Callable[[str, Callable[..., object], tuple], object], patch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Let the call `number` (from 0) to the disk do `act` instead; how many were made is what the result tells."""
    made = 0

    def wrapped(name: str, real: Callable[..., object]) -> Callable[..., object]:
        def call(*args: object, **options: object) -> object:
            nonlocal made
            made += 1
            return act(name, real, args) if made == number + 1 else real(*args, **options)

        return call

    for name in CALLS:
        patch.setattr(os, name, wrapped(name, getattr(os, name)))
    return lambda: made


def save(path: Path) -> None:
    """One save in which everything happens: a changed base is written anew, slots and shared files are removed."""
    folder = Folder(path, keep_last=1)
    folder.open()
    folder.write(state(STEPS + 1, base=2))
    folder.close()


def die(name: str, real: Callable[..., object], args: tuple) -> object:
    if name == "write":
        real(args[0], args[1][: len(args[1]) // 2])
    os._exit(9)


def killed_at(number: int, path: Path) -> bool:
    """Whether a process that ends at that call was ended by it."""
    if (child := os.fork()) == 0:
        status = 1
        try:
            with pytest.MonkeyPatch.context() as patch:
                at_call(number, die, patch)
                save(path)
            status = 0
        finally:
            os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, 9)
    return status == 9


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_kill_at_every_call_leaves_a_good_checkpoint_and_nothing_else(good: Path, tmp_path: Path) -> None:
    number, seen = 0, set()
    while True:
        place = tmp_path / str(number)
        shutil.copytree(good, place)
        killed = killed_at(number, place)
        folder = Folder(place, keep_last=1)
        folder.open()
        found = newest_good(folder)
        assert found is not None and found[0] == folder.manifests()[0], number
        assert found[1].step in (STEPS, STEPS + 1)
        assert same(found[1], state(found[1].step, base=1 if found[1].step == STEPS else 2)), number
        seen.add(found[1].step)
        assert folder.damaged() == [], number
        named = {folder.file(one, record).name for one in folder.manifests() for record in one.files}
        assert set(content(place)) == named | {f"slot-{one.slot}.manifest" for one in folder.manifests()}, number
        folder.close()
        if not killed:
            break
        number += 1
    assert number > 20
    assert seen == {STEPS, STEPS + 1}


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
def test_an_error_at_every_call_is_told_and_leaves_the_older_checkpoints_and_the_next_save_works(
    code: int, good: Path, tmp_path: Path
) -> None:
    def fail(*_: object) -> object:
        raise OSError(code, os.strerror(code))

    number, told = 0, 0
    while True:
        place = tmp_path / str(number)
        shutil.copytree(good, place)
        folder = Folder(place, keep_last=1)
        folder.open()
        with pytest.MonkeyPatch.context() as patch:
            made = at_call(number, fail, patch)
            try:
                folder.write(state(STEPS + 1, base=2))
            except WriteError as error:
                told += 1
                assert os.strerror(code) in str(error)
                expected = STEPS
            else:
                expected = STEPS + 1
        for last in (expected, STEPS + 5):
            found = newest_good(folder)
            assert found is not None and found[1].step == last, number
            assert folder.clean() == [] or last == expected, number
            assert folder.damaged() == [], number
            folder.write(state(STEPS + 5, base=2))
        folder.close()
        if made() <= number:
            break
        number += 1
    assert told > 15
