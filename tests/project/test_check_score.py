"""The promises that CI holds the score to."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "check_score.py"


def row(family: str = "graph", cause: str = "detach", **more: Any) -> dict[str, Any]:
    good = family != "healthy"
    row = {"id": f"{family}-case", "family": family, "cause": cause, "solved": good, "found": good, "alarm": False}
    return row | {"crash": "", "same": True, "quiet": True if good else None} | more


def check(folder: Path, rows: list[dict[str, Any]]) -> subprocess.CompletedProcess:
    (folder / "score.json").write_text(json.dumps(rows))
    return subprocess.run([sys.executable, str(SCRIPT), str(folder / "score.json")], capture_output=True, text=True, check=False)


GOOD = [row() for _ in range(20)] + [row("healthy", "")]


def test_a_good_score_passes(tmp_path: Path) -> None:
    done = check(tmp_path, GOOD)
    assert done.returncode == 0, done.stdout
    assert "FAIL" not in done.stdout


def test_nine_solved_of_ten_are_enough_and_fewer_are_not(tmp_path: Path) -> None:
    assert check(tmp_path, GOOD[2:] + [row(solved=False) for _ in range(2)]).returncode == 0
    assert check(tmp_path, GOOD[3:] + [row(solved=False) for _ in range(3)]).returncode == 1


@pytest.mark.parametrize(
    ("bad", "line"),
    [
        (row("healthy", "", alarm=True), "healthy: alarms 1/2"),
        (row(crash="ValueError"), "all: crashes 1/22"),
    ],
)
def test_one_false_alarm_or_crash_fails_and_is_named(tmp_path: Path, bad: dict[str, Any], line: str) -> None:
    done = check(tmp_path, [*GOOD, bad])
    assert done.returncode == 1
    assert line in done.stdout
    assert bad["id"] in done.stdout


def test_repaired_cells_of_every_family_must_be_silent(tmp_path: Path) -> None:
    loud = [row("step", "sign", quiet=False, solved=False) for _ in range(2)]
    assert check(tmp_path, GOOD + loud[:1]).returncode == 0
    assert check(tmp_path, GOOD + loud).returncode == 1


@pytest.mark.parametrize("family", ["numeric", "backward", "step"])
def test_every_family_counts(tmp_path: Path, family: str) -> None:
    done = check(tmp_path, GOOD + [row(family, "nan", solved=False, found=False) for _ in range(9)])
    assert done.returncode == 1
    assert f"{family}-case" in done.stdout


def test_one_cell_with_other_bits_fails(tmp_path: Path) -> None:
    assert check(tmp_path, [*GOOD, row(same=False)]).returncode == 1
    assert check(tmp_path, [*GOOD, row(same=None)]).returncode == 0


def test_a_score_of_nothing_fails(tmp_path: Path) -> None:
    assert check(tmp_path, []).returncode == 1
