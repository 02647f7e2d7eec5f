"""What must hold for the repository as a whole."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TEXT = {".py", ".md", ".toml", ".txt", ".sh", ".ipynb", ".css", ".js", ".json", ".yml", ".yaml", ".cfg", ""}


def project_files() -> list[Path]:
    """What git tracks or would track; without git, everything that no tool made."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode != 0:
        pytest.skip("not a git clone")
    return [ROOT / name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def metadata() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_dependencies_carry_no_upper_bounds_so_that_colab_keeps_its_versions(metadata: dict) -> None:
    requirements = [dependency.partition(";")[0] for dependency in metadata["project"]["dependencies"]]
    for requirement in requirements:
        assert not re.search(r"<|==|~=|!=", requirement), requirement
    low = {name: bound for name, _, bound in (requirement.partition(">=") for requirement in requirements) if bound}
    assert low == {"torch": "2.4", "ipython": "7.34", "ipywidgets": "7.7"}


def test_the_package_says_that_it_is_typed() -> None:
    assert (ROOT / "gradnb" / "py.typed").exists()


def test_no_file_names_a_registry_or_a_path_of_this_machine() -> None:
    # Put together here, so that this file does not name them either.
    hosts = ["pypi" + ".org", "python" + "hosted", "registry." + "npmjs", "deb." + "debian", "download." + "pytorch"]
    paths = [f"/{name}/" for name in ("tmp", "work", "root", "farm")]
    pattern = re.compile("|".join(re.escape(h) for h in hosts) + "|" + "|".join(rf"(?<![\w.:<>/*-]){p}" for p in paths))
    found = []
    for path in project_files():
        if path.suffix in TEXT and path.name != "LICENSE":
            for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
                if pattern.search(line):
                    found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}")
    assert not found, "\n".join(found)


def test_every_file_of_the_package_has_one_subject_and_stays_under_350_lines() -> None:
    long = {str(p.relative_to(ROOT)): n for p in (ROOT / "gradnb").rglob("*.py") if (n := len(p.read_text().splitlines())) > 350}
    assert not long


def test_the_readme_names_both_commands_and_every_cause() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "%load_ext gradnb" in readme
    assert "%%gradcheck" in readme
    diagnoses = ROOT / "gradnb" / "diagnoses"
    causes = {p.stem.replace("_", "-") for p in diagnoses.glob("*.py") if re.search(r"^def find\(", p.read_text(), re.MULTILINE)}
    assert not {cause for cause in causes if f"`{cause}`" not in readme}


def test_the_scripts_can_be_run() -> None:
    for script in (".ci/run", "scripts/make_venv.sh", "scripts/system_packages.sh"):
        path = ROOT / script
        assert path.read_text().startswith("#!/usr/bin/env bash\n")
        assert "set -euo pipefail" in path.read_text()
        assert os.name != "posix" or path.stat().st_mode & stat.S_IXUSR, f"{script} is not executable"
        subprocess.run(["bash", "-n", str(path)], check=True)


def test_the_makefile_has_the_promised_targets() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in ("demo", "test", "bench", "dist", "score", "clean"):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_make_help_tells_every_target() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)[1].split()) - {"help", "lint"}
    assert not targets - set(re.findall(r'@echo "make ([\w-]+)', makefile))
