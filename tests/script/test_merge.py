"""One report out of several ranks', from reports made by hand and files left by processes that are gone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gradnb.recorder.recording import Location
from gradnb.report.finding import Finding
from gradnb.report.report import ParameterRow, RaisedRow, Report, StepRow
from gradnb.script.merge import merge
from gradnb.script.ranks import Ranks, join


def finding(line: int, *affected: str) -> Finding:
    place = Location(None, "train.py", line, "forward", "h.detach()", filename="train.py")
    return Finding("detach", "error", f"line {line} cuts", "", "", place, affected=list(affected))


def row(name: str, gradient: str) -> ParameterRow:
    return ParameterRow(name, (1,), "float32", "cpu", True, True, gradient, 1.0 if gradient == "ok" else None, 0, True)


def long() -> float:
    return 60.0


def test_what_every_rank_found_stands_once_and_the_rest_names_its_rank() -> None:
    merged = merge(
        {
            0: Report([finding(3, "a")]),
            1: Report([finding(3, "a"), finding(9, "b")]),
            2: Report([finding(9, "b"), finding(3, "a"), finding(5, "c")]),
        },
        {},
    )
    assert sorted(f.title for f in merged.findings) == [
        "line 3 cuts (on all 3 ranks)",
        "line 5 cuts (on rank 2 only)",
        "line 9 cuts (on ranks 1 and 2)",
    ]


def test_a_parameter_is_shown_as_it_fares_on_the_worst_rank() -> None:
    merged = merge({0: Report(parameters=[row("a", "ok"), row("b", "nan")]), 1: Report(parameters=[row("a", "none"), row("b", "ok")])}, {})
    assert [(p.name, p.gradient) for p in merged.parameters] == [("a", "none"), ("b", "nan")]


def test_a_rank_that_has_not_trained_yet_says_nothing_about_gradients() -> None:
    step = [StepRow("step", None, True)]
    merged = merge({0: Report(parameters=[row("a", "none")]), 1: Report(parameters=[row("a", "ok")], steps=step)}, {})
    assert [p.gradient for p in merged.parameters] == ["ok"]


def test_a_rank_without_a_report_and_a_rank_that_raised_are_named() -> None:
    merged = merge({0: Report(notes=["same"]), 2: Report(notes=["same"], raised=RaisedRow("ValueError", "no", None))}, {1: "it died"})
    assert merged.notes == ["rank 1 gave no report: it died", "same", "on rank 2 only: raised ValueError: no"]
    assert merged.raised is not None and merged.raised.type == "ValueError"
    assert "(on rank 0)" in merge({0: Report([finding(3)])}, {1: "it died"}).findings[0].title


ALONE: list[dict[str, str]] = [
    {},
    {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"},
    {"RANK": "x", "WORLD_SIZE": "2"},
    {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "5"},
]


@pytest.mark.parametrize("environment", ALONE)
def test_without_a_launcher_a_process_is_alone(environment: dict[str, str]) -> None:
    assert join(environment) is None


def test_a_folder_that_others_can_write_to_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    environment = {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_PORT": "1"}
    found = join(environment)
    assert found is not None and found.folder.stat().st_mode & 0o777 == 0o700
    found.folder.chmod(0o777)
    assert join(environment) is None


def test_a_dead_rank_is_named_at_once_and_a_report_of_an_earlier_run_is_not_taken_for_its_own(tmp_path: Path) -> None:
    old = Ranks(1, 1, 2, tmp_path)
    old.hand_in(Report([finding(3)]))
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    (tmp_path / "1.alive").write_text(str(gone.pid))
    first = Ranks(0, 0, 2, tmp_path)
    first._started += 3600
    first.hand_in(Report())
    assert first.prints(long)
    found = first.gather(long)
    assert not old.prints(long)  # it has been printed
    assert list(found.reports) == [0] and found.running == []
    assert found.silent == {1: "its process ended without one (killed, os._exit, or a crash)"}
    assert not tmp_path.exists()


def test_a_rank_that_still_runs_is_waited_for_and_no_longer_than_that(tmp_path: Path) -> None:
    first, second = Ranks(0, 0, 2, tmp_path), Ranks(1, 1, 2, tmp_path)
    assert (tmp_path / "1.alive").read_text() == str(os.getpid())
    first.hand_in(Report())
    second.hand_in(Report(notes=["here"]))
    assert not second.prints(long)
    (tmp_path / "1.report").unlink()
    found = first.gather(lambda: 0.2)
    assert found.running == [1] and found.silent == {1: "it was still running when this was printed"}


def test_where_the_first_rank_is_gone_the_next_one_prints(tmp_path: Path) -> None:
    Ranks(0, 0, 2, tmp_path)
    second = Ranks(1, 1, 2, tmp_path)
    second.hand_in(Report())
    assert not second.prints(long)
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    (tmp_path / "0.alive").write_text(str(gone.pid))
    assert second.prints(long)
    assert list(second.gather(long).silent) == [0]
