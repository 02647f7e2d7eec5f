"""Checkpoints that earlier versions wrote still load, those of later ones are refused with a sentence and never written over.

``fixtures/format-1`` was written by gradnb 0.1.0; it is never made anew, a new format gets a folder of its own.
"""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import torch

from gradnb.checkpoint.folder import Folder
from gradnb.checkpoint.model import FORMAT
from gradnb.checkpoint.tensors import memory
from tests.checkpoint.states import content, state

FIXTURES = Path(__file__).parent / "fixtures"


def test_there_is_a_fixture_of_every_format() -> None:
    assert {path.name for path in FIXTURES.iterdir() if path.is_dir()} == {f"format-{number}" for number in range(1, FORMAT + 1)} | {
        "format-newer"
    }


def test_checkpoints_of_format_1_load() -> None:
    folder = Folder(FIXTURES / "format-1")
    manifests = folder.manifests()
    assert [(one.id, one.step, one.epoch, one.batch, one.reason, one.format) for one in manifests] == [
        ("000002", 20, 1, 20, "every", 1),
        ("000001", 10, 1, 10, "every", 1),
    ]
    assert manifests[0].metrics["accuracy"] == 0.2 and math.isnan(manifests[0].metrics["loss"])
    for manifest in manifests:
        assert not folder.verify(manifest)
        found = folder.read(manifest)
        assert found.tree == {"position": {"epoch": 1, "batch": found.step}, "ü": [None, 1.5, "x"]}
        assert torch.equal(found.tensors["model/weight"], torch.arange(6, dtype=torch.float32).reshape(2, 3) + found.step)
        assert torch.equal(found.tensors["model/base"], torch.full((4,), 7.0, dtype=torch.bfloat16))
        assert torch.equal(found.tensors["model/mask"], torch.tensor([True, False]))
        assert found.tensors["model/empty"].shape == (0, 3)
        assert memory(found.tensors["model/phase"]) == memory(torch.tensor([1 + 2j, complex(math.nan, -0.0)], dtype=torch.complex64))
    assert folder.damaged() == []


def test_training_goes_on_in_a_folder_of_format_1(tmp_path: Path) -> None:
    shutil.copytree(FIXTURES / "format-1", tmp_path / "run")
    folder = Folder(tmp_path / "run")
    assert folder.open() == []
    assert folder.write(state(30)).serial == 3
    assert [one.step for one in folder.manifests()] == [30, 20, 10]


def test_a_newer_checkpoint_is_refused_with_a_sentence_and_never_written_over(tmp_path: Path) -> None:
    shutil.copytree(FIXTURES / "format-newer", tmp_path / "run")
    newer = {name: data for name, data in content(tmp_path / "run").items() if name.startswith(("slot-1.", "shared-"))}
    folder = Folder(tmp_path / "run", keep_last=1)
    folder.open()
    assert [one.step for one in folder.manifests()] == [10]
    assert [damage.why for damage in folder.damaged()] == [
        f"was written by a newer gradnb (format 1000, this one reads up to {FORMAT}); pip install -U gradnb"
    ]
    for step in range(30, 35):
        folder.write(state(step))
    assert [one.serial for one in folder.manifests()] == [7, 6], "newer than the checkpoint that cannot be read"
    assert {name: content(tmp_path / "run")[name] for name in newer if name.startswith("slot-1.")} == {
        name: data for name, data in newer.items() if name.startswith("slot-1.")
    }
    assert any(name in content(tmp_path / "run") for name in newer if name.startswith("shared-"))
