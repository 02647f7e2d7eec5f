"""Tensors that do not change are written once into files that checkpoints share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from gradnb.checkpoint.errors import DamagedError, WriteError
from gradnb.checkpoint.folder import Folder
from gradnb.checkpoint.model import State
from tests.checkpoint.states import content, filled, newest_good, same, state


def shared(path: Path) -> set[str]:
    return {name for name in content(path) if name.startswith("shared-")}


def frozen(step: int, *still: int, size: int = 1000, settled: bool = False) -> State:
    """One tensor that moves, and a few more, each with its own number."""
    tensors = {
        "moving": torch.full((size,), float(step)),
        **{f"still{at}": torch.full((size,), float(value)) for at, value in enumerate(still)},
    }
    return State({}, tensors, step=step, settled=frozenset(name for name in tensors if settled and name != "moving"))


def written(folder: Folder, saved: State) -> int:
    """Bytes of the files that a save changed."""
    before = {name: (folder.path / name).stat().st_mtime_ns for name in content(folder.path)}
    manifest = folder.write(saved)
    assert same(folder.read(manifest), saved)
    return sum(path.stat().st_size for path in folder.path.iterdir() if before.get(path.name) != path.stat().st_mtime_ns)


def test_a_settled_base_is_written_in_the_first_two_saves_and_never_again(tmp_path: Path) -> None:
    folder = filled(tmp_path, 0, keep_last=2)
    counts = [written(folder, frozen(step, 7, size=100_000, settled=True)) for step in range(1, 8)]
    assert all(800_000 < count < 810_000 for count in counts[:2])
    assert all(400_000 < count < 405_000 for count in counts[2:])
    files = shared(tmp_path)
    assert len(files) == 2, "two copies, so that one damaged file does not take two checkpoints in a row"
    assert all(torch.equal(load_file(tmp_path / name)["still0"], torch.full((100_000,), 7.0)) for name in files)


def test_checkpoints_in_a_row_name_different_copies_and_one_damaged_copy_is_survived_and_healed(tmp_path: Path) -> None:
    folder = filled(tmp_path, 5, base=3)
    newest = folder.manifests()[0]
    name = next(record.name for record in newest.files if record.name.startswith("shared-"))
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    again = Folder(tmp_path)
    found = newest_good(again)
    assert found is not None and found[1].step == 4
    with pytest.raises(DamagedError, match=rf"{name} does not match its checksum \(tensors: model/base\)"):
        again.read(newest)
    folder.close()
    again.open()
    again.write(state(6, base=3))  # takes serial 6, the other copy
    again.write(state(7, base=3))
    assert (tmp_path / name).read_bytes() == whole
    assert not again.damaged()
    assert all(not again.verify(manifest) for manifest in again.manifests())


def test_tensors_found_equal_in_two_saves_are_shared_without_being_announced(tmp_path: Path) -> None:
    folder = filled(tmp_path, 0)
    counts = [written(folder, frozen(step, 7, 8, size=100_000)) for step in range(1, 8)]
    assert max(counts[4:]) < min(counts) + 10
    assert min(counts) < 405_000 < 1_190_000 < counts[0]


def test_a_tensor_that_changes_moves_out_and_comes_back_right(tmp_path: Path) -> None:
    folder = filled(tmp_path, 0, keep_last=2)
    values = [1, 1, 1, 1, 1, 2, 3, 3, 3, 3, 3, 1, 1, 1, 1]
    kept = {}
    for step, value in enumerate(values, 1):
        kept[step] = frozen(step, 5, value)
        folder.write(kept[step])
        for manifest in folder.manifests():
            assert same(folder.read(manifest), kept[manifest.step])


def test_a_tensor_announced_as_settled_that_changes_all_the_same_is_saved_right(tmp_path: Path) -> None:
    folder = filled(tmp_path, 0)
    for step in range(1, 8):
        saved = frozen(step, step, settled=True)
        assert same(folder.read(folder.write(saved)), saved)
    assert len(shared(tmp_path)) <= 2


def test_another_dtype_or_shape_with_the_same_bytes_is_another_tensor(tmp_path: Path) -> None:
    folder = filled(tmp_path, 0)
    for tensor in (
        torch.zeros(4, 2),
        torch.zeros(4, 2),
        torch.zeros(4, 2),
        torch.zeros(8),
        torch.zeros(8, dtype=torch.int32),
        torch.zeros(2, 4),
    ):
        saved = State({}, {"a": tensor}, settled=frozenset({"a"}))
        assert same(folder.read(folder.write(saved)), saved)


def test_the_next_run_uses_the_files_of_the_one_before(tmp_path: Path) -> None:
    filled(tmp_path, 3, base=7).close()
    stamps = {name: (tmp_path / name).stat().st_mtime_ns for name in shared(tmp_path)}
    folder = filled(tmp_path, 0)
    for step in (4, 5, 6):
        folder.write(state(step, base=7))
    assert {name: (tmp_path / name).stat().st_mtime_ns for name in shared(tmp_path)} == stamps


def test_files_that_nothing_names_any_more_are_removed_and_no_others(tmp_path: Path) -> None:
    folder = filled(tmp_path, 0, keep_last=2)
    for step in range(1, 30):
        folder.write(state(step, base=step // 6), pinned={0} if 6 <= step < 12 else ())
        named = {record.name for manifest in folder.manifests() for record in manifest.files if record.name.startswith("shared-")}
        assert shared(tmp_path) == named
        assert all(not folder.verify(manifest) for manifest in folder.manifests())


def test_a_damaged_manifest_still_holds_its_shared_file(tmp_path: Path) -> None:
    folder = filled(tmp_path, 1, base=1)
    name = shared(tmp_path).pop()
    manifest = tmp_path / "slot-0.manifest"
    manifest.write_bytes(manifest.read_bytes()[:-1])
    folder.clean()
    assert shared(tmp_path) == {name}


def test_a_write_that_fails_after_the_shared_file_leaves_nothing_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = filled(tmp_path, 2, base=1)
    before = content(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr("gradnb.checkpoint.tensors.write", lambda *_: os.stat(tmp_path / "nowhere"))
        with pytest.raises(WriteError):
            folder.write(state(3, base=2))
    assert content(tmp_path) == before
    assert same(folder.read(folder.write(state(3, base=2))), state(3, base=2))
    assert len(shared(tmp_path)) == 2


def test_a_shared_file_that_is_gone_or_cut_is_written_anew(tmp_path: Path) -> None:
    folder = filled(tmp_path, 4, base=1)
    for name in shared(tmp_path):
        (tmp_path / name).unlink()
    assert folder.manifests() == []
    assert same(folder.read(folder.write(state(5, base=1))), state(5, base=1))
    os.truncate(tmp_path / shared(tmp_path).pop(), 10)
    for step in (6, 7):
        assert same(folder.read(folder.write(state(step, base=1))), state(step, base=1))
