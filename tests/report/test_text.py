"""What the text form of a report says."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from gradnb.recorder.recording import Location
from gradnb.report.finding import Finding
from gradnb.report.report import RaisedRow, Report

from .samples import CELL, crowded, detach, healthy, hostile, rich, row


def test_the_first_line_is_the_verdict_in_prose() -> None:
    expected = "gradcheck: 2 errors and 1 warning: 6 of 13 parameters get no gradient, 1 gets only zeros"
    assert repr(rich()).splitlines()[0] == expected


def test_a_healthy_report_says_that_every_parameter_gets_a_gradient() -> None:
    first = repr(healthy()).splitlines()[0]
    assert first == "gradcheck: every trainable parameter gets a gradient (12 parameters, 5 steps recorded)"


def test_the_text_report_marks_the_cut_with_a_caret() -> None:
    lines = repr(rich()).splitlines()
    code = next(i for i, line in enumerate(lines) if line.startswith("16 | "))
    marked = lines[code + 1]
    assert lines[code][marked.index("^") : marked.rindex("^") + 1] == "scores.detach()"
    assert marked.endswith("the gradient is lost here")


def test_a_finding_names_cause_place_context_affected_explanation_fix_and_note() -> None:
    text = repr(rich())
    for part in (
        "error[detach]: `.detach()` cuts 6 parameters off from the loss",
        "  --> cell [4], line 16, in forward",
        "15 |         scores =",
        "17 |         return adjacency @ x",
        "starves: blocks.{0,1}.graph.theta (weight, bias: 4 parameters)",
        "fix: Drop the call:\n         adjacency = torch.softmax(scores, dim=-1)",
        "note: cell [4], line 17, in forward: the value",
    ):
        assert part in text


def test_the_path_marks_the_break_by_sign_and_word_and_shows_what_comes_after() -> None:
    lines = repr(rich()).splitlines()
    broken = [line for line in lines if "✗ lost here" in line]
    assert len(broken) == 1 and re.match(r"  ✗  detach .*line 16 .*float32 .* no .* on ", broken[0])
    after = lines[lines.index(broken[0]) + 1]
    assert after.startswith("  ┊  softmax")


def test_a_long_path_keeps_its_start_the_break_and_its_end() -> None:
    text = repr(crowded(findings=1))
    assert "(79 steps not shown)" in text
    for kept in ("●  blocks.0.graph.theta.weight", "✗  detach", "┊  loss"):
        assert kept in text


def test_an_info_finding_comes_last_and_short() -> None:
    report = rich()
    report.findings.reverse()
    text = repr(report)
    assert text.index("error[") < text.index("warning[") < text.index("info[")
    assert "It was frozen before the run" not in text


@pytest.mark.parametrize("norm", [2.34e-4, 1e-12, 5e-324, 3e-45])
def test_a_small_norm_is_never_shown_as_zero(norm: float) -> None:
    text = repr(Report(parameters=[row("head.weight", norm=norm)]))
    shown = re.search(r"norm (\S+)", text)
    assert shown and float(shown.group(1)) > 0


def test_healthy_modules_take_one_line_each_and_a_starved_one_stands_apart() -> None:
    lines = repr(rich()).splitlines()
    assert any(re.match(r"     head +weight bias +ok +norm 2\.34e-04\.\.1\.20e\+00 +opt 0 +moved", line) for line in lines)
    assert any(re.match(r"  ✗  blocks\.0\.graph\.theta +weight bias +no gradient", line) for line in lines)


def test_three_hundred_parameters_stay_under_120_lines() -> None:
    assert len(repr(crowded(findings=1)).splitlines()) < 120


def test_twenty_findings_are_counted_though_not_all_are_spelled_out() -> None:
    text = repr(crowded())
    assert "10 errors and 10 warnings" in text and "8 more findings" in text
    assert len(text.splitlines()) < 170


def test_the_raised_error_is_one_line_and_changes_the_verdict_of_a_clean_report() -> None:
    report = healthy()
    report.raised = RaisedRow("ValueError", "bad shape\nsecond line", Location(4, None, 7, "<module>", "boom()"))
    text = repr(report)
    assert "stopped by ValueError; no gradient fault found up to there" in text.splitlines()[0]
    assert "\nraised ValueError at cell [4], line 7: bad shape\n" in text
    assert "second line" not in text


def test_without_a_source_the_bare_line_is_shown() -> None:
    report = rich()
    report.sources = {}
    lines = repr(report).splitlines()
    place = lines.index("16 | adjacency = torch.softmax(scores.detach(), dim=-1)")
    assert "^" in lines[place + 1] and not lines[place - 1].startswith("15 |")


def test_a_source_that_changed_since_does_not_show_a_line_that_never_ran() -> None:
    report = rich()
    report.sources = {CELL: "\n".join(f"other = {i}" for i in range(60))}
    assert "other" not in repr(report)


def test_a_finding_without_a_place_still_speaks() -> None:
    finding = replace(detach(), location=None, path=[], related=[])
    assert "fix: Drop the call" in repr(Report(findings=[finding]))


def test_a_finding_on_parameters_that_have_gradients_does_not_say_starves() -> None:
    finding = Finding("step-missing", "error", "`opt.step()` is never called", "Nothing moves.", "Call it.", None, affected=["head.weight"])
    text = repr(Report(findings=[finding], parameters=[row("head.weight")]))
    assert text.startswith("gradcheck: 1 error: `opt.step()` is never called")
    assert "affects: head.weight" in text and "starves" not in text


def test_no_control_character_of_the_user_reaches_the_terminal() -> None:
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f\u202e]", repr(hostile()))


def test_an_empty_report_is_one_calm_sentence() -> None:
    assert repr(Report()) == "gradcheck: no trainable parameter took part (no optimizer step recorded)"
