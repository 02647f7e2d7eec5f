"""The options of the magic, its answers, and what happens when gradnb itself is broken."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from in_process import Shell

import gradnb
from gradnb.errors import GradientError
from gradnb.report.report import Report

MODEL = """\
import torch
from torch import nn
encoder, head = nn.Linear(4, 3), nn.Linear(3, 1)
optimizer = torch.optim.SGD([*encoder.parameters(), *head.parameters()], lr=0.1)
batch = torch.randn(8, 4)
"""
HEALTHY = "loss = head(encoder(batch)).pow(2).mean()\noptimizer.zero_grad()\nloss.backward()\noptimizer.step()\n"
BROKEN = HEALTHY.replace("encoder(batch)", "encoder(batch).detach()")


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ("%%gradcheck --nope\n1", "unrecognized arguments: --nope"),
        ("%%gradcheck --steps many\n1", "--steps"),
        ("%%gradcheck --steps 0\n1", "1 or more"),
        ("%%gradcheck --html 'a\n1", "lists the options"),
        ("%%gradcheck --model nowhere\n1", "nowhere does not exist (modules here: encoder, head)"),
        ("%%gradcheck --model batch\n1", "not an nn.Module but of type Tensor"),
        ("%%gradcheck", "empty"),
        ("%%gradcheck\n\n  \n", "put the code that trains below"),
        ("%%gradcheck\n%%time\n1", "put %%time on the first line"),
        ("%gradcheck", "%%gradcheck"),
        ("%gradexplain nosuch", "nosuch"),
    ],
)
def test_a_wrong_use_gets_one_line_that_says_what_to_do_and_nothing_runs(shell: Shell, cell: str, said: str) -> None:
    shell.run(MODEL)
    ran = shell.run(cell + "\nran = True" if "\n1" in cell else cell)
    assert ran.error is not None
    assert said in ran.err and ran.err.count("\n") == 1 and "Traceback" not in ran.out + ran.err
    assert "ran" not in shell.names


def test_a_broken_cell_is_reported_and_kept_as_the_last_report(shell: Shell) -> None:
    shell.run(MODEL)
    ran = shell.run("%%gradcheck\n" + BROKEN)
    report = gradnb.last_report()
    assert ran.error is None and report is not None
    assert report.verdict == "error" and "detach" in ran.out


@pytest.mark.parametrize(
    "keeps", ["", "kept = optimizer\n", "for parameter in encoder.parameters():\n    parameter.requires_grad = False\n"]
)
def test_the_model_that_an_earlier_run_of_the_cell_built_is_not_counted(shell: Shell, keeps: str) -> None:
    shell.run(f"{MODEL}\n{HEALTHY}{keeps}")
    shell.run(f"%%gradcheck --no-graph\n{MODEL}{HEALTHY}")
    report = gradnb.last_report()
    assert report is not None and len(report.parameters) == 4
    assert "every trainable parameter gets a gradient" in str(report)


def test_quiet_shows_what_is_wrong_and_nothing_else(shell: Shell) -> None:
    shell.run(MODEL)
    assert shell.run("%%gradcheck --quiet\n" + HEALTHY).out == ""
    assert "detach" in shell.run("%%gradcheck --quiet\n" + BROKEN).out


def test_a_module_that_the_cell_makes_can_be_named(shell: Shell) -> None:
    ran = shell.run("%%gradcheck --model head\n" + MODEL + BROKEN)
    assert (ran.error, ran.err) == (None, "")


def test_a_name_that_is_no_module_after_the_run_is_told_and_the_report_stays(shell: Shell) -> None:
    ran = shell.run("%%gradcheck --model head late\n" + MODEL + BROKEN + "late = 3")
    assert ran.error is None and "gradcheck" in ran.out
    assert ran.err.startswith("gradnb: --model late: late is not an nn.Module") and "the report is about head" in ran.err


def test_both_files_are_written(shell: Shell, tmp_path: Path) -> None:
    shell.run(MODEL)
    html, data = tmp_path / "a page.html", tmp_path / "report.json"
    assert shell.run(f"%%gradcheck --quiet --html '{html}' --json {data}\n" + BROKEN).err == ""
    assert "<svg" in html.read_text() or "<div" in html.read_text()
    assert json.loads(data.read_text())["verdict"] == "error"


def test_a_file_that_cannot_be_written_stops_nothing(shell: Shell, tmp_path: Path) -> None:
    shell.run(MODEL)
    ran = shell.run(f"%%gradcheck --json {tmp_path}/none/report.json\n" + BROKEN + "7")
    assert ran.value == 7 and "detach" in ran.out
    assert "report.json was not written: No such file or directory" in ran.err and ran.err.count("\n") == 1


def test_fail_raises_after_the_report_with_the_report_in_hand(shell: Shell) -> None:
    shell.run(MODEL)
    ran = shell.run("%%gradcheck --fail\n" + BROKEN)
    assert isinstance(ran.error, GradientError) and ran.error.report is gradnb.last_report()
    assert ran.out.rstrip().splitlines()[-1].startswith("GradientError: ") and "Traceback" not in ran.out
    assert shell.run("%%gradcheck --fail --quiet\n" + HEALTHY).error is None


def test_an_error_of_the_cell_is_not_replaced_by_fail(shell: Shell) -> None:
    shell.run(MODEL)
    assert isinstance(shell.run("%%gradcheck --fail\n" + BROKEN + "1 / 0").error, ZeroDivisionError)


def assert_told(err: str, fault: str) -> None:
    assert err.startswith(f"gradnb: internal problem ({fault}") and err.count("\n") == 1
    assert "report this line" in err and gradnb.__version__ in err


def faulty(where: str) -> type:
    class Check:
        problem: str | None = None

        def __init__(self, **options: Any):
            self.fail("init")
            self.report = Report()

        def __enter__(self) -> Any:
            self.fail("enter")
            return self.report

        def __exit__(self, *raised: Any) -> bool:
            self.fail("exit")
            if where == "problem":
                self.problem = "OSError: boom"
            return False

        def fail(self, at: str) -> None:
            if at == where:
                raise OSError("boom")

    return Check


@pytest.mark.parametrize("where", ["init", "enter", "exit", "problem"])
@pytest.mark.parametrize("body", ["x = 5\nx", "x = 5\nx / 0"])
def test_a_check_that_breaks_never_touches_the_cell(shell: Shell, monkeypatch: pytest.MonkeyPatch, where: str, body: str) -> None:
    monkeypatch.setattr(sys.modules["gradnb.check"], "Check", faulty(where))
    ran = shell.run("%%gradcheck --quiet\n" + body)
    assert_told(ran.err, "OSError: boom")
    assert shell.names["x"] == 5
    if "/ 0" in body:
        assert isinstance(ran.error, ZeroDivisionError) and "----> 3 x / 0" in ran.out
    else:
        assert (ran.error, ran.value) == (None, 5)


@pytest.mark.parametrize(("method", "rest"), [("__repr__", ""), ("_repr_html_", "detach"), ("to_html", "detach"), ("to_dict", "detach")])
def test_a_report_that_cannot_be_drawn_stops_nothing(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, method: str, rest: str
) -> None:
    def broken(self: Any, *args: Any) -> str:
        raise ZeroDivisionError("in the report")

    monkeypatch.setattr(sys.modules["gradnb.report.report"].Report, method, broken)
    shell.run(MODEL)
    ran = shell.run(f"%%gradcheck --html {tmp_path}/a.html --json {tmp_path}/a.json\n" + BROKEN + "'done'")
    assert (ran.error, ran.value) == (None, "done") and rest in ran.out
    assert_told(ran.err, "ZeroDivisionError: in the report")


def test_the_report_is_one_bundle_of_text_and_html(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    published: list[dict] = []
    shell.run(MODEL)
    monkeypatch.setattr(shell.ip.display_pub, "publish", lambda data, metadata: published.append(data))
    shell.run("%%gradcheck\n" + BROKEN)
    assert [set(bundle) for bundle in published] == [{"text/plain", "text/html"}]


def test_help_shows_examples_and_the_options(shell: Shell) -> None:
    shown = shell.run("%%gradcheck?").out
    assert "%%gradcheck [--steps N]" in shown and "%%gradcheck --model generator" in shown and "--fail" in shown


def test_explain_lists_the_causes_and_explains_one(shell: Shell) -> None:
    causes = shell.run("%gradexplain").out.split()
    assert "detach" in causes
    assert "detach" in shell.run("%gradexplain detach").out


def test_explain_knows_what_the_flags_of_the_monitor_are_called(shell: Shell) -> None:
    assert "Threshold" in shell.run("%gradexplain loss-without-metric").out


def test_loading_again_is_harmless_and_unloading_leaves_nothing(shell: Shell) -> None:
    def registered() -> list[tuple[str, str]]:
        return sorted((kind, name) for kind, table in shell.ip.magics_manager.magics.items() for name in table if "grad" in name)

    def callbacks() -> dict[str, int]:
        return {name: len(found) for name, found in shell.ip.events.callbacks.items()}

    before, hooks = registered(), callbacks()
    assert before == [
        ("cell", "gradcheck"),
        ("line", "gradckpt"),
        ("line", "gradenv"),
        ("line", "gradexplain"),
        ("line", "gradgraph"),
        ("line", "gradwatch"),
    ]
    shell.run("%reload_ext gradnb")
    assert (registered(), callbacks()) == (before, hooks)
    shell.run("%unload_ext gradnb")
    assert registered() == [] and "GradnbMagics" not in shell.ip.magics_manager.registry
    assert callbacks() == hooks
    shell.run("%load_ext gradnb")
    assert registered() == before
