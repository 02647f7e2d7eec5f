#!/usr/bin/env python3
"""Install gradnb as its users do, each time into a new environment, and run the tour there.

    python scripts/fresh_install.py [binder] [wheel] [colab]

binder: what binder/ lists, from a copy of the sources as Binder has it. wheel: the wheel of dist/ (`make dist`) with all its
dependencies. colab: the same, on top of Colab's versions, and no package that was there may change. All three without names.
torch comes first and pinned, from wherever pip is told to look, so that a machine without a GPU can keep to the CPU build.
Exit status 1 where something is amiss. Printed: seconds, the size of the environment, and the peak memory of the tour's processes.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

import psutil

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from scripts.notebooks import execute  # noqa: E402

TOUR = ROOT / "notebooks" / "00_tour.ipynb"
SET = Path("binder") / "requirements.txt"
PINS = ROOT / "tests" / "colab" / "requirements.txt"
MEGABYTES = 1500
"""What the tour may need: Binder gives a session 2 GB, and its JupyterLab takes a part of them."""


def pinned(requirements: Path) -> list[str]:
    """The lines that fix a version."""
    return re.findall(r"^[\w-]+==\S+$", requirements.read_text(encoding="utf-8"), re.MULTILINE)


TORCH = next(line for line in pinned(ROOT / SET) if line.startswith("torch=="))


class Environment:
    """A new virtual environment with torch in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.python = folder / "bin" / "python"
        subprocess.run(["bash", str(ROOT / "scripts" / "make_venv.sh"), sys.executable, str(folder)], check=True)
        self.install(TORCH)

    def install(self, *what: str, cwd: Path | None = None) -> None:
        # Not compiled: most of torch's 8,000 files are never imported.
        command = [str(self.python), "-m", "pip", "install", "--quiet", "--no-compile", "--disable-pip-version-check", *what]
        subprocess.run(command, cwd=cwd, check=True)

    def versions(self) -> dict[str, str]:
        command = [str(self.python), "-m", "pip", "list", "--format=json", "--disable-pip-version-check"]
        listed = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        return {package["name"]: package["version"] for package in listed}

    def megabytes(self) -> float:
        return sum(file.lstat().st_size for file in self.folder.rglob("*")) / 1e6


def binder(environment: Environment, scratch: Path) -> list[str]:
    clone = scratch / "clone"
    shutil.copytree(ROOT, clone, ignore=not_cloned)
    environment.install("ipykernel", "-r", str(SET), cwd=clone)  # the kernel stands for the Jupyter that Binder has
    return []


def not_cloned(folder: str, names: list[str]) -> list[str]:
    """Environments, and what was built: they lie at the root."""
    return [name for name in names if Path(folder) == ROOT and (name.startswith(".") or name in ("build", "dist"))]


def wheel(environment: Environment, scratch: Path) -> list[str]:
    environment.install("ipykernel", str(the_wheel()))
    return []


def colab(environment: Environment, scratch: Path) -> list[str]:
    """Only what is pinned goes in first, so that everything else has to come with the wheel and agree with it."""
    environment.install(*pinned(PINS))
    before = environment.versions()
    environment.install(str(the_wheel()))
    return moved(before, environment.versions())


def the_wheel() -> Path:
    found = list((ROOT / "dist").glob("*.whl"))
    if len(found) != 1:
        raise SystemExit(f"one wheel is expected in {ROOT / 'dist'}, there are {len(found)}: run `make dist`")
    return found[0]


def moved(before: dict[str, str], after: dict[str, str]) -> list[str]:
    """The packages that an installation changed or removed, as sentences."""
    return [f"{name} {version} became {after.get(name, 'nothing')}" for name, version in before.items() if after.get(name) != version]


class Peak:
    """The most memory that all child processes, and theirs, held together while the block ran (a page they share counts for each)."""

    megabytes = 0.0

    def __enter__(self) -> Peak:
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._end.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._end.wait(0.05):
            self.look()

    def look(self) -> None:
        held = 0
        for child in psutil.Process().children(recursive=True):
            try:
                held += child.memory_info().rss
            except psutil.Error:
                continue  # it ended in between
        self.megabytes = max(self.megabytes, held / 1e6)


WAYS = {"binder": binder, "wheel": wheel, "colab": colab}


def problems(name: str, scratch: Path) -> list[str]:
    """Of one way of installing; prints its figures."""
    start = time.perf_counter()
    environment = Environment(scratch / "venv")
    found = WAYS[name](environment, scratch)
    installed = time.perf_counter() - start
    with Peak() as peak:
        run = execute(TOUR, str(environment.python), ["gradnb.__file__", "gradnb.__version__", "torch.__version__"])
    took = time.perf_counter() - start - installed
    found += run.problems
    file, *versions = run.values.values() or [""]
    if not run.problems and not Path(file).is_relative_to(environment.folder):
        found.append(f"the tour took gradnb from {file}")
    if peak.megabytes > MEGABYTES:
        found.append(f"the tour needed {peak.megabytes:.0f} MB, {MEGABYTES} are allowed")
    print(f"{name}: gradnb and torch {versions}, installed in {installed:.0f} s, {environment.megabytes():.0f} MB on disk", end="; ")
    print(f"the tour took {took:.0f} s and {peak.megabytes:.0f} MB of memory", flush=True)
    return [f"{name}: {problem}" for problem in found]


def main(names: list[str]) -> int:
    if unknown := set(names) - set(WAYS):
        raise SystemExit(f"{', '.join(sorted(unknown))}: expected are {', '.join(WAYS)}")
    found: list[str] = []
    with ThreadPoolExecutor(1) as sweeper:  # a gigabyte of small files can take longer to delete than to write
        for name in names or WAYS:
            made = tempfile.TemporaryDirectory(prefix=f"fresh-{name}-")
            found += problems(name, Path(made.name).resolve())
            sweeper.submit(made.cleanup)
    print("\n".join(found) or "all of them run the tour")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
