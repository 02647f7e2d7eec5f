"""``%gradwatch`` in a real IPython shell."""

from __future__ import annotations

from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell

import gradnb

SETUP = """\
import torch
from torch import nn
torch.manual_seed(0)
agent, qwen = nn.Linear(4, 4), nn.Linear(4, 1)
optimizer = torch.optim.SGD([*agent.parameters(), *qwen.parameters()], lr=0.1)
def train(steps):
    for _ in range(steps):
        optimizer.zero_grad()
        qwen(agent(torch.randn(8, 4))).pow(2).mean().backward()
        optimizer.step()
"""


@pytest.fixture
def shell() -> Any:
    InteractiveShell.clear_instance()
    shell = InteractiveShell.instance()
    gradnb.load_ipython_extension(shell)
    shell.run_cell(SETUP)
    yield shell
    monitor = shell.user_ns.get("monitor")
    if isinstance(monitor, gradnb.Monitor):
        monitor.stop()
    InteractiveShell.clear_instance()


def test_a_line_watches_models_under_the_names_of_their_variables(shell: Any, capsys: Any) -> None:
    shell.run_cell("%gradwatch agent qwen optimizer --every 2;").raise_error()
    shell.run_cell("train(5)").raise_error()
    monitor = shell.user_ns["monitor"]
    assert [layer.name for layer in monitor.history.layers] == ["agent", "qwen"]
    assert monitor.history.steps == [1, 3, 5]
    shell.run_cell("%gradwatch --stop").raise_error()
    assert monitor.stopped


def test_one_model_has_no_label_and_the_monitor_can_be_assigned(shell: Any) -> None:
    shell.run_cell("monitor = 'mine'\nwatching = %gradwatch agent").raise_error()
    shell.run_cell("train(2)").raise_error()
    assert shell.user_ns["monitor"] == "mine"
    assert [layer.name for layer in shell.user_ns["watching"].history.layers] == ["Linear"]
    shell.user_ns["watching"].stop()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("%gradwatch", "no model is named"),
        ("%gradwatch nobody", "nobody: NameError"),
        ("%gradwatch train", "train is of type function; a model, an optimizer or a GradScaler is expected"),
        ("%gradwatch agent --every 0", "every=0 records nothing"),
        ("%gradwatch --stop", "no monitor is named"),
    ],
)
def test_a_wrong_line_is_one_line_of_error(shell: Any, capsys: Any, line: str, said: str) -> None:
    assert shell.run_cell(line).error_in_exec is not None
    out = capsys.readouterr()
    assert said in out.out + out.err and "Traceback" not in out.out + out.err


def test_unloading_takes_the_magic_away(shell: Any) -> None:
    assert "gradwatch" in shell.magics_manager.magics["line"]
    gradnb.unload_ipython_extension(shell)
    assert "gradwatch" not in shell.magics_manager.magics["line"]
