"""What is published: the wheel and the source archive, built once from a copy of the sources, as `make dist` does."""

from __future__ import annotations

import email
import importlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from email.message import Message
from pathlib import Path, PurePosixPath
from types import ModuleType
from typing import Any

import pytest
from packaging.requirements import Requirement

import gradnb
from tests.conftest import missing

ROOT = Path(__file__).resolve().parents[2]
COPIED = ("pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "gradnb", "tests/release", "notebooks", "binder")


@dataclass
class Built:
    sources: Path
    wheel: Path
    archive: Path
    directly: Path
    """The wheel from the sources, without the archive in between."""


def needed(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError:
        missing(name)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The build must read the version without importing torch: the one that it would find here refuses."""
    needed("build")
    folder = tmp_path_factory.mktemp("release")
    for name in COPIED:
        source, target = ROOT / name, folder / "sources" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    (folder / "traps").mkdir()
    (folder / "traps" / "torch.py").write_text("raise ImportError('the build imports torch')\n")
    for arguments in (["--outdir", "dist"], ["--wheel", "--outdir", "direct"]):
        subprocess.run(
            [sys.executable, "-m", "build", "--no-isolation", *arguments, "sources"],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(folder / "traps")},
            check=True,
            capture_output=True,
        )
    (wheel,), (archive,), (directly,) = (list(folder.glob(pattern)) for pattern in ("dist/*.whl", "dist/*.tar.gz", "direct/*.whl"))
    return Built(folder / "sources", wheel, archive, directly)


@pytest.fixture(scope="module")
def metadata(built: Built) -> Message:
    with zipfile.ZipFile(built.wheel) as wheel:
        (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
        return email.message_from_bytes(wheel.read(name))


@pytest.fixture(scope="module")
def project() -> Mapping[str, Any]:
    found: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return found


def contents(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as opened:
        return {name: opened.read(name) for name in opened.namelist()}


def test_the_wheel_holds_every_file_of_the_package_and_no_other(built: Built) -> None:
    """So the explorer's scripts and styles and py.typed are in it, and neither tests nor notebooks."""
    held = {name: data for name, data in contents(built.wheel).items() if ".dist-info/" not in name}
    files = [path for path in (built.sources / "gradnb").rglob("*") if path.is_file()]
    wanted = {path.relative_to(built.sources).as_posix(): path.read_bytes() for path in files}
    assert set(held) == set(wanted)
    assert held == wanted
    assert {"gradnb/py.typed", "gradnb/graph/explore/static/explorer.js", "gradnb/graph/explore/static/explorer.css"} <= set(held)


def test_the_archive_builds_the_same_wheel(built: Built) -> None:
    assert built.wheel.name == built.directly.name
    assert contents(built.wheel) == contents(built.directly)


def test_the_archive_holds_what_a_build_needs_and_no_tests_or_notebooks(built: Built) -> None:
    with tarfile.open(built.archive) as archive:
        names = [PurePosixPath(name).parts[1:] for name in archive.getnames()]
    tops = {parts[0] for parts in names if parts}
    assert tops == {"LICENSE", "PKG-INFO", "README.md", "gradnb", "gradnb.egg-info", "pyproject.toml", "setup.cfg"}


def test_the_version_comes_from_one_place(metadata: Message, project: Mapping[str, Any]) -> None:
    assert "version" not in project and project["dynamic"] == ["version"]
    assert metadata["Version"] == gradnb.__version__


def test_the_newest_changes_are_those_of_this_version_and_dated() -> None:
    newest = re.search(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert newest and re.fullmatch(rf"{re.escape(gradnb.__version__)} \(\d{{4}}-\d{{2}}-\d{{2}}\)", newest[1])


def test_the_metadata_is_the_projects(built: Built, metadata: Message, project: Mapping[str, Any]) -> None:
    assert metadata["Name"] == "gradnb"
    assert metadata["Requires-Python"] == project["requires-python"]
    assert metadata["License-Expression"] == project["license"] and metadata.get_all("License-File") == ["LICENSE"]
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert metadata.get_payload() == (built.sources / "README.md").read_text(encoding="utf-8")
    assert dict(line.split(", ", 1) for line in metadata.get_all("Project-URL") or []) == project["urls"]
    required = {Requirement(line) for line in metadata.get_all("Requires-Dist") or []}
    assert {str(one) for one in required if "extra ==" not in str(one)} == {str(Requirement(line)) for line in project["dependencies"]}
    assert set(metadata.get_all("Provides-Extra") or []) == set(project["optional-dependencies"])


def test_the_classifiers_exist(project: Mapping[str, Any]) -> None:
    """An index refuses a file that names another one."""
    assert not set(project["classifiers"]) - set(needed("trove_classifiers").classifiers)


def test_an_index_would_take_both_and_show_the_readme(built: Built) -> None:
    needed("twine")
    command = [sys.executable, "-m", "twine", "check", "--strict", str(built.wheel), str(built.archive)]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert ran.stdout.count("PASSED") == 2
