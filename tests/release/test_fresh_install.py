"""The parts of scripts/fresh_install.py that decide; `make test-install` runs it whole."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from scripts import fresh_install
from scripts.fresh_install import Peak, moved, not_cloned, pinned

ROOT = Path(__file__).resolve().parents[2]


def test_a_package_that_an_installation_changes_or_removes_is_named() -> None:
    before = {"ipython": "7.34.0", "traitlets": "5.7.1", "torch": "2.13.0"}
    assert moved(before, {**before, "gradnb": "0.1.0"}) == []
    assert moved(before, {"ipython": "9.18.1", "torch": "2.13.0"}) == ["ipython 7.34.0 became 9.18.1", "traitlets 5.7.1 became nothing"]


def test_colabs_pins_are_what_goes_in_first() -> None:
    names = {line.partition("==")[0] for line in pinned(fresh_install.PINS)}
    assert {"ipython", "ipykernel", "ipywidgets", "traitlets"} <= names
    assert not names & {"torchviz", "fast-sugiyama"}, "they have to come with the wheel"


def test_the_copy_has_the_package_whole_and_no_environments() -> None:
    assert set(not_cloned(str(ROOT), [".venv", "build", "dist", "gradnb", "binder"])) == {".venv", "build", "dist"}
    assert not not_cloned(str(ROOT / "gradnb" / "graph"), ["build", "draw"])


def test_the_peak_is_that_of_all_processes_together() -> None:
    """A child and its own child, 60 MB each, both alive until they are told to end."""
    hold = "import sys; kept = b'x' * 60_000_000; print(flush=True); "
    inner = hold + "sys.stdin.read()"
    outer = (
        f"import subprocess; inner = subprocess.Popen([sys.executable, '-c', {inner!r}], stdin=subprocess.PIPE, stdout=subprocess.PIPE); "
    )
    outer += "inner.stdout.readline(); print(flush=True); sys.stdin.read(); inner.communicate()"
    with Peak() as peak:
        child = subprocess.Popen([sys.executable, "-c", hold + outer], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert child.stdout
        child.stdout.readline()
        child.stdout.readline()
        peak.look()
        child.communicate()
    assert 120 < peak.megabytes < 240


def test_an_unknown_way_is_refused() -> None:
    with pytest.raises(SystemExit, match="conda: expected are binder, wheel, colab"):
        fresh_install.main(["conda"])
