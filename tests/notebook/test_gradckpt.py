"""``%gradckpt`` in a real IPython shell."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell

import gradnb

SETUP = """\
import torch

import gradnb

model = torch.nn.Linear(2, 1)
ckpt = gradnb.Checkpointer("run", every=2).track(model=model)
for _, batch in ckpt.loop([torch.ones(2)] * 5, epochs=1):
    with torch.no_grad():
        model.weight += 1
ckpt.close()
"""


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> Any:
    monkeypatch.chdir(tmp_path)
    InteractiveShell.clear_instance()
    shell = InteractiveShell.instance()
    gradnb.load_ipython_extension(shell)
    shell.run_cell(SETUP).raise_error()
    capsys.readouterr()
    yield shell
    gradnb.unload_ipython_extension(shell)
    InteractiveShell.clear_instance()


def test_list_shows_a_table_newest_first(shell: Any, capsys: Any) -> None:
    shell.run_cell("%gradckpt list").raise_error()
    said = capsys.readouterr().out
    assert "3 checkpoints in" in said
    assert [line.split()[0] for line in said.splitlines()[-3:]] == ["000003", "000002", "000001"]


def test_a_place_that_no_variable_names_can_be_looked_at(shell: Any, capsys: Any) -> None:
    shell.run_cell("del ckpt\n%gradckpt verify run  # every file\n%gradckpt list run").raise_error()
    said = capsys.readouterr().out
    assert "3 checkpoints in" in said and "every file is whole" in said
    shell.run_cell("%gradckpt list nowhere").raise_error()
    assert "no checkpoints in" in capsys.readouterr().out and not Path("nowhere").exists()


def test_verify_names_what_is_damaged(shell: Any, capsys: Any) -> None:
    file = next(Path("run").glob("slot-*.safetensors"))
    file.write_bytes(file.read_bytes()[:-3])
    shell.run_cell("%gradckpt verify ckpt").raise_error()
    said = capsys.readouterr().out
    assert "damaged" in said and file.name in said
    shell.run_cell("%gradckpt list").raise_error()
    listed = capsys.readouterr().out
    assert "2 checkpoints in" in listed and f"): {file.name} is cut off" in listed.partition("left out, damaged: ")[2]


def test_resume_puts_the_state_back(shell: Any, capsys: Any) -> None:
    shell.run_cell("end = model.weight.clone()\nmodel.weight.data.zero_()\n%gradckpt resume").raise_error()
    assert "resumed at step 5" in capsys.readouterr().out
    shell.run_cell("assert torch.equal(model.weight, end)").raise_error()
    shell.run_cell("%gradckpt resume ckpt --id 000001").raise_error()
    assert "resumed at step 2" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("%gradckpt", "say what to do: %gradckpt list, %gradckpt verify or %gradckpt resume"),
        ("%gradckpt burn", "burn"),
        ("%gradckpt resume model", "'model' is no Checkpointer"),
        ("%gradckpt resume ckpt --id 000009", "There is no checkpoint '000009'"),
        ("second = gradnb.Checkpointer('b')\n%gradckpt list", "There are several Checkpointers (ckpt, second): name one of them."),
    ],
)
def test_a_wrong_line_is_one_line_of_error(shell: Any, capsys: Any, line: str, said: str) -> None:
    assert shell.run_cell(line).error_in_exec is not None
    out = capsys.readouterr()
    assert said in out.out + out.err and "Traceback" not in out.out + out.err
