"""``%gradenv`` in a real shell."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from in_process import Shell

import gradnb


def test_it_shows_what_the_function_tells(shell: Shell) -> None:
    ran = shell.run("%gradenv")
    assert (ran.error, ran.err) == (None, "")
    assert ran.out.startswith("environment: ") and torch.__version__ in ran.out and f"gradnb {gradnb.__version__}" in ran.out


def test_it_is_one_bundle_of_text_and_html(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    published: list[dict] = []
    monkeypatch.setattr(shell.ip.display_pub, "publish", lambda data, metadata: published.append(data))
    shell.run("%gradenv")
    assert [set(bundle) for bundle in published] == [{"text/plain", "text/html"}]
    assert published[0]["text/html"].startswith('<div class="gradnb">')


def test_a_driver_that_crashes_leaves_the_shell_alive(shell: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "probe.py").write_text('import os\nprint(\'gradnb-probe: {"stage": "counting devices"}\', flush=True)\nos.abort()\n')
    monkeypatch.setattr("gradnb.machine.child.PROBE", tmp_path / "probe.py")
    ran = shell.run("%gradenv")
    assert ran.error is None and "SIGABRT" in ran.out and "the kernel is unharmed" in " ".join(ran.out.split())
    assert shell.run("1 + 1").value == 2


def test_a_comment_behind_it_is_a_comment(shell: Shell) -> None:
    assert shell.run("%gradenv  # or gradnb.environment()").error is None
    assert shell.run("%gradexplain detach  # what it means").error is None


@pytest.mark.parametrize("line", ["%gradenv --nope", "%gradenv --timeout 0", "%gradenv --timeout soon"])
def test_a_wrong_option_gets_one_line(shell: Shell, line: str) -> None:
    ran = shell.run(line)
    assert ran.error is not None and ran.err.count("\n") == 1 and "%gradenv? lists the options" in ran.err
