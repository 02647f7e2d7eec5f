"""Where checkpoints are kept: texts, paths and stores."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import pytest

from gradnb.checkpoint import DriveAPI, DriveMount, places
from gradnb.checkpoint.drive_path import parts
from gradnb.checkpoint.places import where
from gradnb.errors import UsageError


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(places.CACHE, str(tmp_path / "cache"))
    monkeypatch.delenv(places.MOUNTED_AT, raising=False)


def as_in_colab(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    package, found = types.ModuleType("google.colab"), types.ModuleType("google.colab.drive")
    monkeypatch.setitem(sys.modules, "google.colab", package)
    monkeypatch.setitem(sys.modules, "google.colab.drive", found)
    (tmp_path / "content").mkdir()
    monkeypatch.setattr(places, "MOUNTPOINT", str(tmp_path / "content/drive"))


def test_a_path_is_a_folder_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert where(tmp_path / "run") == (tmp_path / "run", None)
    assert where("runs/a") == (Path("runs/a"), None)
    assert where("~/runs") == (tmp_path / "runs", None)
    assert where("drive/run1") == (Path("drive/run1"), None)
    assert where("a:b" if sys.platform != "win32" else "C:\\b")[1] is None  # one letter is a drive of Windows
    assert list(tmp_path.iterdir()) == []  # nothing is made by looking


def test_drive_is_the_mount_in_colab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    as_in_colab(monkeypatch, tmp_path)
    for text in ("drive:MyDrive/a/run1", "drive:a/run1", "drive:My Drive/a/run1", str(tmp_path / "content/drive/MyDrive/a/run1")):
        folder, remote = where(text)
        assert isinstance(remote, DriveMount) and remote.name == "drive:MyDrive/a/run1"
        assert folder.parent == tmp_path / "cache" and folder.name.startswith("drive-MyDrive-a-run1-")
    assert where(tmp_path / "content/drive/MyDrive/a/run1")[0] == folder  # one place, however it is written
    assert where("drive:MyDrive/a-run1")[0] != folder
    assert where("drive:MyDrive/a/run1", local=tmp_path / "mine")[0] == tmp_path / "mine"
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["content"]


def test_drive_is_where_the_environment_says_it_is_mounted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(places.MOUNTED_AT, str(tmp_path / "G"))
    (tmp_path / "G/MyDrive").mkdir(parents=True)
    _, remote = where("drive:run1")
    assert isinstance(remote, DriveMount)
    remote.write("m", b"data")
    assert (tmp_path / "G/MyDrive/run1/m").read_bytes() == b"data"
    assert isinstance(where(tmp_path / "G/MyDrive/run1")[1], DriveMount)


def test_drive_is_the_api_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from google.auth import environment_vars

    me = tmp_path / "me.json"
    me.write_text('{"type": "authorized_user", "client_id": "a", "client_secret": "b", "refresh_token": "c"}')
    monkeypatch.setenv(environment_vars.CREDENTIALS, str(me))
    folder, remote = where("drive:MyDrive/run1")
    assert isinstance(remote, DriveAPI) and remote.name == "drive:MyDrive/run1"
    assert where("drive:run1")[0] == folder


def test_a_store_is_taken_as_it_is(tmp_path: Path) -> None:
    store = DriveMount("MyDrive/run1", tmp_path)
    folder, remote = where(store)
    assert remote is store and folder.parent == tmp_path / "cache"


def test_without_the_variable_local_copies_lie_in_the_users_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(places.CACHE)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert where(DriveMount("run1", tmp_path))[0].parent == tmp_path / ".cache/gradnb/checkpoints"


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("drive:", "needs a folder's name; write it like"),
        ("drive:  ", "needs a folder's name"),
        ("drive:/content/drive/MyDrive/run1", "looks like a path of this machine"),
        ("drive:~/run1", "looks like a path of this machine"),
        ("drive:C:/run1", "looks like a path of this machine"),
        ("drive:MyDrive", "names no folder"),
        ("drive:MyDrive/", "names no folder"),
        ("drive:MyDrive/../x", "goes up by"),
        ("s3://bucket/run1", "s3: is no place that gradnb knows; what is possible: a folder .*drive:MyDrive/run1.*DriveAPI"),
        ("gs:bucket", "gs: is no place"),
        ("", "is no folder"),
        (b"runs", "no place"),
        (None, "None is no place for checkpoints; what is possible"),
        (3, "3 is no place for checkpoints; what is possible"),
        (object(), "it has no list, put"),
    ],
)
def test_what_is_no_place_is_refused_with_what_is_possible(place: object, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        where(place)  # type: ignore[arg-type]


def test_a_local_folder_for_a_local_place_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="goes with a remote place"):
        where(tmp_path, local=tmp_path)
    with pytest.raises(UsageError, match="local=3"):
        where(DriveMount("run1", tmp_path), local=3)  # type: ignore[arg-type]


def test_other_roots_of_drive_are_the_mounts_business(tmp_path: Path) -> None:
    assert parts("Shareddrives/lab/run1") == ("Shareddrives", "lab", "run1")
    with pytest.raises(UsageError, match="below MyDrive only; mount Drive"):
        DriveAPI("Shareddrives/lab/run1", service=lambda: None)
