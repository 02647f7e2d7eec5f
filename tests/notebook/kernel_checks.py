"""What a cell under ``%%gradcheck`` does in a real kernel, the same in every version of IPython: mixed into two test modules."""

from __future__ import annotations

from pathlib import Path

import pytest
from kernel_session import Kernel, Ran

ROOT = Path(__file__).resolve().parents[2]

MODEL = """\
import torch
from torch import nn
torch.manual_seed(0)
encoder, head = nn.Linear(4, 3), nn.Linear(3, 1)
optimizer = torch.optim.SGD([*encoder.parameters(), *head.parameters()], lr=0.1)
batch = torch.randn(8, 4)
"""
BROKEN = """\
%%gradcheck
optimizer.zero_grad()
code = encoder(batch)
code = code.detach()
loss = head(code).pow(2).mean()
loss.backward()
optimizer.step()
"""


def arrow(ran: Ran) -> str:
    """The line that the traceback's arrow points at, innermost."""
    return [line for line in ran.traceback.splitlines() if "-> " in line][-1]


def assert_only_the_users(ran: Ran) -> None:
    assert len(ran.errors) == 1
    assert ran.traceback.count("Traceback (most recent call last)") == 1
    shown = ran.traceback.replace(str(ROOT), "").replace(str(ROOT).replace(str(Path.home()), "~"), "")  # a clone may be called gradnb
    for name in ("gradnb", "interactiveshell", "run_cell_magic", "compilerop", "codeop"):
        assert name not in shown, ran.traceback


class KernelChecks:
    """One kernel serves all of these, so each test brings what it needs."""

    @pytest.fixture(autouse=True)
    def loaded(self, kernel: Kernel) -> None:
        ran = kernel.run("%reload_ext gradnb")  # harmless when it is loaded already
        assert ran.status == "ok", ran

    def test_the_last_value_is_shown_and_kept(self, kernel: Kernel) -> None:
        ran = kernel.run("%%gradcheck --quiet\nx = 20\nx + 1")
        assert (ran.status, ran.results) == ("ok", ["21"])
        assert kernel.run(f"_ * 2, Out[{ran.count}]").results == ["(42, 21)"]

    def test_a_semicolon_shows_no_value(self, kernel: Kernel) -> None:
        ran = kernel.run("%%gradcheck --quiet\nx = 20\nx + 1;  # a comment")
        assert (ran.status, ran.outputs) == ("ok", [])

    def test_an_error_has_one_traceback_with_the_editors_line(self, kernel: Kernel) -> None:
        ran = kernel.run("%%gradcheck --quiet\ndef divide(a):\n    return a / 0\n\ndivide(1)")
        assert ran.status == "error"
        assert ran.errors[0]["ename"] == "ZeroDivisionError"
        assert_only_the_users(ran)
        assert "----> 3     return a / 0" in ran.traceback
        assert "----> 5 divide(1)" in ran.traceback

    def test_the_next_cell_of_run_all_does_not_run_after_an_error(self, kernel: Kernel) -> None:
        first, second = kernel.run_all("%%gradcheck --quiet\n1 / 0", "went_on = True")
        assert (first.status, second.status) == ("error", "aborted")
        assert kernel.run("'went_on' in globals()").results == ["False"]

    def test_an_error_inside_torch_shows_the_frames_that_a_plain_cell_shows(self, kernel: Kernel) -> None:
        body = "import torch\nimport torch.nn.functional as F\nF.cross_entropy(torch.zeros(2, 3), torch.zeros(5).long())"
        plain, watched = kernel.run("\n" + body), kernel.run("%%gradcheck --quiet\n" + body)
        assert_only_the_users(watched)
        assert watched.traceback.count("cross_entropy(input") == plain.traceback.count("cross_entropy(input") == 1

    def test_a_syntax_error_is_shown_once_with_the_editors_line(self, kernel: Kernel) -> None:
        ran = kernel.run("%%gradcheck\nx = 1\n\nx = = 2\n")
        assert (ran.status, ran.kinds) == ("error", ["error"])
        assert ran.errors[0]["ename"] == "SyntaxError"
        assert "line 4" in ran.traceback and "x = = 2" in ran.traceback
        assert "gradnb" not in ran.traceback and "interactiveshell" not in ran.traceback

    def test_an_interrupt_shows_the_report_first_and_goes_on(self, kernel: Kernel) -> None:
        kernel.run(MODEL)
        body = BROKEN + "import time\nprint('ready', flush=True)\nwhile True:\n    time.sleep(0.01)"
        ran = kernel.run_interrupted(body, at="ready")
        assert (ran.status, ran.errors[0]["ename"]) == ("error", "KeyboardInterrupt")
        assert ran.kinds.index("display_data") < ran.kinds.index("error")
        assert "detach" in ran.reports[0]["text/plain"]
        assert_only_the_users(ran)

    def test_a_broken_cell_gets_a_report_with_the_cause_and_the_line(self, kernel: Kernel) -> None:
        kernel.run(MODEL)
        ran = kernel.run(BROKEN)
        assert ran.status == "ok", ran
        (report,) = ran.reports
        assert set(report) == {"text/plain", "text/html"}
        assert "detach" in report["text/plain"]
        assert f"cell [{ran.count}], line 4" in report["text/plain"]

    def test_a_function_of_an_earlier_cell_is_named_with_that_cell(self, kernel: Kernel) -> None:
        earlier = kernel.run(MODEL + "def forward(x):\n    code = encoder(x)\n    return head(code.detach())\n")
        ran = kernel.run("%%gradcheck\nforward(batch).sum().backward()\noptimizer.step()")
        assert f"cell [{earlier.count}], line 9" in ran.reports[0]["text/plain"]

    def test_the_report_comes_before_the_error(self, kernel: Kernel) -> None:
        kernel.run(MODEL)
        ran = kernel.run(BROKEN + "raise RuntimeError('later')")
        assert (ran.status, ran.kinds) == ("error", ["display_data", "error"])
        assert_only_the_users(ran)
        assert arrow(ran).startswith("----> 8")

    def test_under_time_the_lines_are_still_the_editors(self, kernel: Kernel) -> None:
        kernel.run(MODEL)
        ran = kernel.run("%%time\n" + BROKEN + "\n'a' + 1")
        assert f"cell [{ran.count}], line 5" in ran.reports[0]["text/plain"]
        assert_only_the_users(ran)
        assert arrow(ran).startswith("---> 10")

    def test_under_capture_the_lines_are_still_the_editors(self, kernel: Kernel) -> None:
        kernel.run(MODEL)
        ran = kernel.run("%%capture kept\n" + BROKEN + "\nprint('printed')\nlater = lambda: 1 / 0")
        assert (ran.status, ran.outputs) == ("ok", [])
        shown = kernel.run("print(kept.stdout, kept.outputs[0].data['text/plain'])").stdout
        assert "printed" in shown and f"cell [{ran.count}], line 5" in shown
        assert "---> 11 later" in kernel.run("later()").traceback

    def test_magics_and_shell_commands_work_inside(self, kernel: Kernel) -> None:
        ran = kernel.run("%%gradcheck --quiet\nhere = %pwd\n!echo one \\\n  two\n1 / 0")
        assert arrow(ran).startswith("----> 5") and ran.stdout.split() == ["one", "two"]
        assert kernel.run("type(here).__name__").results == ["'str'"]

    def test_top_level_await_is_refused_in_one_line_and_nothing_runs(self, kernel: Kernel) -> None:
        ran = kernel.run("%%gradcheck\nstarted = True\nimport asyncio\nawait asyncio.sleep(0)")
        assert ran.status == "error"
        assert "line 4" in ran.stderr and "with gradnb.check():" in ran.stderr and "Traceback" not in ran.stderr
        assert kernel.run("'started' in globals()").results == ["False"]

    def test_fail_stops_run_all_after_the_report(self, kernel: Kernel) -> None:
        kernel.run(MODEL)
        ran, after = kernel.run_all(BROKEN.replace("%%gradcheck", "%%gradcheck --fail"), "1")
        assert (ran.status, ran.kinds, after.status) == ("error", ["display_data", "error"], "aborted")
        assert ran.errors[0]["ename"] == "GradientError"
        assert len(ran.traceback.strip().splitlines()) == 1

    def test_training_gives_the_same_numbers_bit_for_bit(self, kernel: Kernel) -> None:
        body = "for _ in range(3):\n    optimizer.zero_grad()\n    loss = head(torch.dropout(encoder(batch), 0.5, True)).pow(2).mean()\n"
        body += "    loss.backward()\n    optimizer.step()\n(loss.item().hex(), torch.rand(1).item().hex())"
        kernel.run(MODEL)
        plain = kernel.run(body)
        kernel.run(MODEL)
        watched = kernel.run("%%gradcheck --steps 2\n" + body)
        assert plain.results == watched.results and len(plain.results) == 1

    def test_unloading_takes_the_magics_away(self, kernel: Kernel) -> None:
        kernel.run("%unload_ext gradnb")
        ran = kernel.run("%%gradcheck\n1")
        assert ran.status == "error" and "not found" in ran.stderr
