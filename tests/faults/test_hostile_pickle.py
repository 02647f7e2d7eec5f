"""A pickle that runs code lies in the folder, under every name: it never runs."""

from __future__ import annotations

import os
import pickle
import shutil
import zipfile
from pathlib import Path

import pytest
import torch

from gradnb.checkpoint.errors import CheckpointError
from gradnb.checkpoint.folder import Folder
from tests.checkpoint.states import content, filled, newest_good, state


class Hostile:
    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.marker),)


@pytest.fixture(params=["pickle", "torch.save"])
def hostile(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[bytes, Path]:
    """(a file that makes a folder when it is unpickled, that folder)."""
    marker = tmp_path / "it ran"
    if request.param == "pickle":
        data = pickle.dumps(Hostile(marker))
    else:
        torch.save({"model": Hostile(marker)}, tmp_path / "x.pt")
        data = (tmp_path / "x.pt").read_bytes()
        assert zipfile.is_zipfile(tmp_path / "x.pt")
    return data, marker


def use(path: Path) -> None:
    """Everything that reads a folder."""
    folder = Folder(path)
    folder.damaged()
    for manifest in folder.manifests():
        folder.verify(manifest)
        newest_good(folder)
    folder.open()
    folder.write(state(50, base=2))
    assert folder.read(folder.manifests()[0]).step == 50
    folder.close()


def test_the_pickle_is_one_that_runs(hostile: tuple[bytes, Path], tmp_path: Path) -> None:
    (tmp_path / "proof").write_bytes(hostile[0])
    if zipfile.is_zipfile(tmp_path / "proof"):
        torch.load(tmp_path / "proof", weights_only=False)
    else:
        pickle.loads(hostile[0])
    assert hostile[1].exists()


def test_a_pickle_beside_the_checkpoints_never_runs(hostile: tuple[bytes, Path], tmp_path: Path) -> None:
    filled(tmp_path / "run", 3, base=1).close()
    names = [
        ".metadata",
        "checkpoint.pt",
        "last.ckpt",
        "model.pkl",
        "slot-9.manifest",
        "slot-9.json",
        "slot-9.safetensors",
        "slot-8.safetensors",
    ]
    for name in [*names, "shared-0123456789abcdef.safetensors", "slot-9.rank1.json"]:
        (tmp_path / "run" / name).write_bytes(hostile[0])
    use(tmp_path / "run")
    assert not hostile[1].exists()


def test_a_pickle_in_place_of_any_of_our_files_never_runs_and_is_named(hostile: tuple[bytes, Path], tmp_path: Path) -> None:
    filled(tmp_path / "good", 3, base=1).close()
    for name in content(tmp_path / "good"):
        shutil.copytree(tmp_path / "good", tmp_path / name)
        size = (tmp_path / name / name).stat().st_size
        # Of the same size, so that it is really read.
        (tmp_path / name / name).write_bytes(hostile[0][:size].ljust(size, b"."))
        folder = Folder(tmp_path / name)
        assert any(folder.verify(one) for one in folder.manifests()) or folder.damaged()
        assert newest_good(folder) is not None
        use(tmp_path / name)
        (tmp_path / name / name).write_bytes(hostile[0])
        use(tmp_path / name)
    assert not hostile[1].exists()


def test_a_pickle_with_a_manifest_that_vouches_for_it_is_refused_and_never_runs(hostile: tuple[bytes, Path], tmp_path: Path) -> None:
    from dataclasses import replace

    from gradnb.checkpoint.disk import checksum
    from gradnb.checkpoint.manifest import render
    from gradnb.checkpoint.model import FileRecord

    folder = filled(tmp_path / "run", 1)
    manifest = folder.manifests()[0]
    for kind in ("json", "safetensors"):
        records = tuple(FileRecord(one.name, len(hostile[0]), checksum(hostile[0])) if one.name == kind else one for one in manifest.files)
        kept = (tmp_path / "run" / f"slot-0.{kind}").read_bytes()
        (tmp_path / "run" / f"slot-0.{kind}").write_bytes(hostile[0])
        (tmp_path / "run" / "slot-0.manifest").write_bytes(render(replace(manifest, files=records)))
        forged = Folder(tmp_path / "run")
        with pytest.raises(CheckpointError):
            forged.read(forged.manifests()[0])
        (tmp_path / "run" / f"slot-0.{kind}").write_bytes(kept)
    assert not hostile[1].exists()
