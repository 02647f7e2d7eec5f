"""The demo's environment, as Binder would build it. `make test-install` really installs it and runs the tour there."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

from tests.conftest import missing

ROOT = Path(__file__).resolve().parents[2]
BINDER = ROOT / "binder"
SET = BINDER / "requirements.txt"


def requirements(path: Path) -> list[str]:
    return [line for line in path.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]


def dockerfile(repository: Path) -> subprocess.CompletedProcess[str]:
    """What repo2docker makes of a repository; where a daemon would be, there is none."""
    if not importlib.util.find_spec("repo2docker"):
        missing("jupyter-repo2docker")
    environment = {**os.environ, "DOCKER_HOST": f"unix://{repository / 'no-daemon.sock'}"}
    command = [sys.executable, "-m", "repo2docker", "--no-build", "--debug", "."]
    return subprocess.run(command, cwd=repository, env=environment, capture_output=True, text=True, timeout=60)


def test_repo2docker_understands_the_folder_and_uses_every_file_of_it() -> None:
    made = dockerfile(ROOT)
    assert made.returncode == 0, made.stderr
    version = (BINDER / "runtime.txt").read_text().strip().removeprefix("python-")
    assert f"python={version}" in made.stderr
    assert re.search(r"apt-get [^\n]*install(?: |\\\n)[^&]*\bgraphviz\b", made.stdout)
    assert '-r "binder/requirements.txt"' in made.stdout
    assert {path.name for path in BINDER.iterdir()} == {"runtime.txt", "apt.txt", "requirements.txt"}


@pytest.mark.parametrize("version", ["2.9", "3.99"])
def test_a_python_version_that_binder_does_not_have_would_be_noticed(tmp_path: Path, version: str) -> None:
    shutil.copytree(BINDER, tmp_path / "binder")
    (tmp_path / "binder" / "runtime.txt").write_text(f"python-{version}\n")
    made = dockerfile(tmp_path)
    assert made.returncode != 0 and "not supported" in made.stderr


def test_binders_python_is_one_that_gradnb_supports() -> None:
    version = (BINDER / "runtime.txt").read_text().strip().removeprefix("python-")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert version in SpecifierSet(project["requires-python"])


def test_the_set_is_the_package_itself_and_the_torch_that_is_tested() -> None:
    torch = re.search(r"^TORCH\s*:= (\S+)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert torch and sorted(requirements(SET)) == [".", torch[1]]


def test_every_requirement_can_be_met() -> None:
    """Asked of pip's resolver, with what is installed here and no index."""
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--no-index", "--no-build-isolation", "--quiet", "--report", "-"]
    command += ["-r", str(SET.relative_to(ROOT))]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert [item["metadata"]["name"] for item in json.loads(ran.stdout)["install"]] == ["gradnb"]
