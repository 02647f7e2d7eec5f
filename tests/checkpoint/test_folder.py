"""A folder of checkpoints, as the training loop uses it."""

from __future__ import annotations

import json
import math
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from gradnb.checkpoint.disk import checksum
from gradnb.checkpoint.errors import DamagedError, WriteError
from gradnb.checkpoint.folder import Folder
from gradnb.checkpoint.model import State
from gradnb.errors import UsageError
from tests.checkpoint.states import content, filled, newest_good, same, state, steps

# what is written and read


def test_a_state_comes_back_as_it_was(tmp_path: Path) -> None:
    folder = filled(tmp_path, 0)
    saved = State(
        {"nested": [1, {"ü": None, "deep": [1.5, "x"]}]},
        {"model/w": torch.randn(3, 4), "z": torch.tensor(1 + 2j), "a": torch.empty(0, 2), "same": torch.arange(5)},
        step=7,
        epoch=2,
        batch=3,
        metrics={"loss": math.inf},
        reason="best",
    )
    manifest = folder.write(saved)
    assert (manifest.step, manifest.epoch, manifest.batch, manifest.reason) == (7, 2, 3, "best")
    assert same(folder.read(manifest), saved)
    assert same(Folder(tmp_path).read(Folder(tmp_path).manifests()[0]), saved)


def test_the_files_are_safetensors_json_and_a_manifest_and_nothing_else(tmp_path: Path) -> None:
    folder = filled(tmp_path, 1)
    assert set(content(tmp_path)) == {"slot-0.manifest", "slot-0.json", "slot-0.safetensors"}
    assert torch.equal(load_file(tmp_path / "slot-0.safetensors")["model/weight"], torch.ones(1000))
    assert json.loads((tmp_path / "slot-0.json").read_bytes())["tree"] == {"position": {"step": 1}}
    first = folder.manifests()[0]
    assert [folder.file(first, record).stat().st_size for record in first.files] == [record.size for record in first.files]


def test_nothing_is_touched_before_open_and_missing_folders_are_empty(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "not" / "there")
    assert (folder.manifests(), folder.damaged()) == ([], [])
    assert list(tmp_path.iterdir()) == []


def test_a_write_needs_no_rename_and_no_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a mounted Drive promises nothing about it")

    for name in ("rename", "replace", "link", "symlink", "renames"):
        monkeypatch.setattr(os, name, refuse)
    assert steps(filled(tmp_path, 4, keep_last=2)) == [4, 3, 2]


def test_the_bytes_written_are_those_of_the_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, big, really, counts = filled(tmp_path, 0), state(1, size=400_000), os.write, []

    def write(handle: int, data: memoryview) -> int:
        counts.append(really(handle, data))
        return counts[-1]

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", write)
        folder.write(big)
    assert 1 <= sum(counts) / sum(tensor.nbytes for tensor in big.tensors.values()) <= 1.01
    assert sum(len(data) for data in content(tmp_path).values()) <= sum(counts)


def test_what_cannot_be_written_is_refused_before_anything_is_touched(tmp_path: Path) -> None:
    folder = filled(tmp_path, 3, keep_last=1)
    before = content(tmp_path)
    for wrong in (State({"x": {1, 2}}, {}), State({}, {"__metadata__": torch.ones(1)})):
        with pytest.raises(UsageError):
            folder.write(wrong)
        assert content(tmp_path) == before
    folder.write(state(4))
    assert steps(folder) == [4, 3]


# rotation


def test_the_last_stay_and_the_best_and_nothing_grows(tmp_path: Path) -> None:
    folder = filled(tmp_path, 0, keep_last=2, keep_best=("accuracy", "max"))
    accuracies = [0.1, 0.9, math.nan, 0.9, 0.2, 0.3, 0.4, 0.5, 0.6]
    for step, accuracy in enumerate(accuracies, 1):
        folder.write(state(step, **({} if step == 7 else {"accuracy": accuracy})))
    assert {9, 8, 2} <= set(steps(folder))
    assert set(content(tmp_path)) <= {f"slot-{slot}.{name}" for slot in range(4) for name in ("manifest", "json", "safetensors")}
    assert all(not folder.verify(manifest) for manifest in folder.manifests())


@pytest.mark.parametrize(("before", "after"), [(5, 2), (1, 5), (5, 1)])
def test_another_keep_last_takes_effect_without_losing_a_good_one(before: int, after: int, tmp_path: Path) -> None:
    filled(tmp_path, 8, keep_last=before).close()
    folder = filled(tmp_path, 0, keep_last=after)
    assert steps(folder)[0] == 8
    seen = [set(steps(folder))]
    for step in range(9, 16):
        folder.write(state(step))
        seen.append(set(steps(folder)))
        assert {step, step - 1} <= seen[-1]
    assert steps(folder)[:after] == list(range(15, 15 - after, -1))
    assert len({name.split(".")[0] for name in content(tmp_path)}) == after + 1


def test_a_pinned_slot_is_left_alone_while_it_is_uploaded(tmp_path: Path) -> None:
    folder = filled(tmp_path, 1, keep_last=1)
    pinned = folder.manifests()[0]
    before = {name: data for name, data in content(tmp_path).items() if name.startswith(f"slot-{pinned.slot}.")}
    for step in range(2, 7):
        folder.write(state(step), pinned={pinned.slot})
    assert {name: content(tmp_path)[name] for name in before} == before
    folder.write(state(7))
    folder.write(state(8))
    assert len({name.split(".")[0] for name in content(tmp_path)}) == 2


def test_serials_go_on_over_runs_and_over_what_a_remote_store_has(tmp_path: Path) -> None:
    filled(tmp_path, 3).close()
    folder = filled(tmp_path, 0)
    assert folder.write(state(4)).id == "000004"
    folder.after(100)
    assert folder.write(state(5)).serial == 101
    folder.after(50)
    assert folder.write(state(6)).serial == 102


# damage


def flip(path: Path, place: int = -1) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 4
    path.write_bytes(data)


@pytest.mark.parametrize("kind", ["manifest", "json", "safetensors"])
def test_a_damaged_newest_one_is_named_and_the_one_before_it_is_read(kind: str, tmp_path: Path) -> None:
    newest = filled(tmp_path, 3).manifests()[0]
    flip(tmp_path / f"slot-{newest.slot}.{kind}")
    folder = Folder(tmp_path)
    found = newest_good(folder)
    assert found is not None and found[1].step == 2
    assert [(damage.file, damage.what) for damage in folder.damaged()] == [
        (f"slot-{newest.slot}.{kind}", "slot 2" if kind == "manifest" else "000003 (step 3)")
    ]
    assert steps(folder) == [2, 1]


def test_the_damaged_tensors_are_named(tmp_path: Path) -> None:
    folder = filled(tmp_path, 1)
    manifest = folder.manifests()[0]
    flip(tmp_path / "slot-0.safetensors")
    with pytest.raises(DamagedError, match="tensors: model/weight") as caught:
        folder.read(manifest)
    assert "000001 (step 1): slot-0.safetensors" in str(caught.value)
    assert "model/weight" in folder.verify(manifest)[0].why
    flip(tmp_path / "slot-0.safetensors", 20)
    assert folder.verify(manifest)


@pytest.mark.parametrize("place", ["../secret.safetensors", "shared-/../../secret.safetensors", ["x"], None])
def test_a_checkpoint_that_names_files_of_others_is_damaged_however_well_it_is_signed(place: object, tmp_path: Path) -> None:
    folder = filled(tmp_path / "there", 1)
    manifest = folder.manifests()[0]
    path = folder.file(manifest, next(record for record in manifest.files if record.name == "json"))
    forged = json.loads(path.read_bytes())
    forged["tensors"] = {name: [place, 0] for name in forged["tensors"]} if place is not None else []
    text = json.dumps(forged).encode()
    path.write_bytes(text)
    files = tuple(replace(one, size=len(text), sha256=checksum(text)) if one.name == "json" else one for one in manifest.files)
    with pytest.raises(DamagedError, match=r"slot-0\.json is not what gradnb writes"):
        folder.places(replace(manifest, files=files))
    with pytest.raises(DamagedError, match=r"slot-0\.json is not what gradnb writes"):
        folder.read(replace(manifest, files=files))


def test_a_file_that_is_missing_cut_or_longer_is_noticed_without_reading_it(tmp_path: Path) -> None:
    folder = filled(tmp_path, 3)
    (tmp_path / "slot-0.json").unlink()
    os.truncate(tmp_path / "slot-1.safetensors", 100)
    with (tmp_path / "slot-2.json").open("ab") as file:
        file.write(b" ")
    assert folder.manifests() == []
    assert [(damage.file, damage.why.split(":")[0]) for damage in folder.damaged()] == [
        ("slot-0.json", "is missing"),
        ("slot-1.safetensors", "is cut off"),
        ("slot-2.json", "has 134 bytes instead of 133"),
    ]


def test_writing_never_takes_the_last_whole_checkpoint_even_when_nobody_has_read_the_damaged_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(tmp_path, 2, keep_last=1).close()
    flip(tmp_path / "slot-1.safetensors")
    folder = filled(tmp_path, 0, keep_last=1)

    def fail(*_: object) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr("gradnb.checkpoint.tensors.write", fail)
        with pytest.raises(WriteError, match="Input/output error"):
            folder.write(state(3))
    found = newest_good(folder)
    assert found is not None and found[1].step == 1
    folder.write(state(3))
    assert steps(folder) == [3, 1]


# a checkpoint that comes from a remote store


def test_a_checkpoint_of_a_remote_store_is_adopted_verified_and_only_what_lacks_is_fetched(tmp_path: Path) -> None:
    there = filled(tmp_path / "there", 5, base=1, keep_last=2)
    here = filled(tmp_path / "here", 1, base=1)
    fetched: list[str] = []

    def fetch(name: str, target: Path) -> None:
        fetched.append(name)
        shutil.copyfile(tmp_path / "there" / name, target)

    remote = there.manifests()[0]
    local = here.adopt(remote, fetch)
    assert (local.serial, here.manifests()[0]) == (5, local)
    assert same(here.read(local), there.read(remote))
    assert fetched == [f"slot-{remote.slot}.json", f"slot-{remote.slot}.safetensors"], "the shared file is here already"
    assert here.adopt(remote, fetch) == local
    assert len(fetched) == 2
    assert here.write(state(6, base=1)).serial == 6


def test_a_checkpoint_that_does_not_come_whole_leaves_nothing(tmp_path: Path) -> None:
    remote = filled(tmp_path / "there", 5).manifests()[0]
    here = filled(tmp_path / "here", 2)
    before = content(tmp_path / "here")
    with pytest.raises(DamagedError, match="did not come whole"):
        here.adopt(remote, lambda name, target: target.write_bytes(b"half"))  # type: ignore[arg-type, func-returns-value]
    assert content(tmp_path / "here") == before

    def lose(name: str, target: Path) -> None:
        target.write_bytes(b"half")
        raise ConnectionResetError(104, "Connection reset by peer")

    with pytest.raises(WriteError, match="Connection reset by peer"):
        here.adopt(remote, lose)
    assert content(tmp_path / "here") == before
    assert here.write(state(3)).step == 3


# several processes


def test_the_files_of_several_processes_become_one_checkpoint(tmp_path: Path) -> None:
    folder, other = filled(tmp_path, 1), Folder(tmp_path)
    states = [state(7), state(70)]
    slot, serial = folder.begin()
    records = folder.put(slot, serial, states[0]) + other.put(slot, serial, states[1], rank=1)
    assert steps(folder) == [1]
    manifest = folder.commit(slot, serial, states[0], records, world=2)
    assert {record.name for record in manifest.files} == {"json", "safetensors", "rank1.json", "rank1.safetensors"}
    assert folder.read(manifest, 1).tree == {"position": {"step": 70}}
    assert folder.places(manifest, 1)[1]["model/weight"] == tmp_path / f"slot-{slot}.rank1.safetensors"
    flip(tmp_path / f"slot-{slot}.rank1.safetensors")
    assert [damage.file for damage in folder.verify(manifest)] == [f"slot-{slot}.rank1.safetensors"]
    folder.begin()
    folder.abandon()
    assert not folder.clean()
