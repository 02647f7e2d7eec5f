"""One line in a test: passes in silence, and fails with the names, the line and the repair."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from standing import Net, Uncopyable, batch, squares, standing
from test_preflight import CUT, trained
from torch import nn

import gradnb
from gradnb.errors import UsageError

ROOT = Path(__file__).resolve().parents[2]

SUITE = """\
import gradnb
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Linear(4, 3)
        self.head = nn.Linear(3, 1)

    def forward(self, x):
        h = self.encoder(x)
        return self.head(torch.tensor(h.tolist()))


def test_it_learns():
    model = Net()
    gradnb.assert_gradients_flow(model, lambda: model(torch.ones(2, 4)).mean())


def test_part_of_it_learns():
    model = Net()
    gradnb.assert_gradients_flow(model, lambda: model(torch.ones(2, 4)).mean(), ignore=["encoder.*"])
"""


def test_pytest_shows_the_message_and_the_line_of_the_test(tmp_path: Path) -> None:
    (tmp_path / "test_net.py").write_text(SUITE)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_net.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1 and "1 failed, 1 passed" in done.stdout
    assert "E       gradnb.errors.GradientFlowError: 2 of 4 trainable parameters get no gradient: encoder (weight, bias)" in done.stdout
    assert "test_net.py, line 14, in forward" in done.stdout and "= fix: " in done.stdout
    assert "gradnb/testing.py" not in done.stdout  # its own frames are hidden


@pytest.mark.parametrize("kind", [Net, Uncopyable])
def test_a_function_is_recorded_and_everything_put_back(kind: type[Net]) -> None:
    model, data = kind(cut=True), batch()
    optimizer = trained(model)
    waiting = squares(model, data)
    before = standing(model, optimizer, data)
    for loss, inputs in ((lambda: squares(model, data), ()), (lambda m: squares(m, data), ()), (squares, (data,))):
        with pytest.raises(AssertionError) as failed:
            gradnb.assert_gradients_flow(model, loss, inputs=inputs)
        said = str(failed.value)
        assert said.startswith("4 of 6 trainable parameters get no gradient: encoder (weight, bias), norm (weight, bias)\n")
        assert f"standing.py, line {CUT}, in forward" in said and "fix: " in said
        assert isinstance(failed.value, gradnb.GradientFlowError) and failed.value.report is gradnb.last_report()
        assert standing(model, optimizer, data) == before
    waiting.backward()


def test_a_healthy_model_passes_in_silence(capsys: pytest.CaptureFixture[str]) -> None:
    model, data = Net(), batch()
    before = standing(model)
    gradnb.assert_gradients_flow(model, squares, inputs=(data,))
    assert standing(model) == before
    loss = squares(model, data)
    gradnb.assert_gradients_flow(model, loss)
    gradnb.assert_gradients_flow(model, loss)  # its graph is still there
    assert all(parameter.grad is None for parameter in model.parameters())
    assert capsys.readouterr() == ("", "")


def test_a_computed_loss_gives_the_names_and_says_how_to_get_the_line() -> None:
    model = Net(cut=True)
    loss = squares(model, batch())
    with pytest.raises(gradnb.GradientFlowError, match="4 of 6 trainable parameters get no gradient: encoder") as failed:
        gradnb.assert_gradients_flow(model, loss)
    assert "Pass a function instead of the computed loss" in str(failed.value)
    gradnb.assert_gradients_flow(model, loss, ignore=("encoder.*", "norm.weight", "norm.bias"))
    with pytest.raises(gradnb.GradientFlowError, match="6 of 6 trainable parameters"):
        gradnb.assert_gradients_flow(model, loss.detach())


class Adapter(nn.Module):
    """B is zero at first, so A gets zeros in the first step."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Parameter(torch.randn(4, 2)), nn.Parameter(torch.zeros(2, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.sum(1, keepdim=True) + x @ self.a @ self.b


@pytest.mark.parametrize("computed", [False, True])
def test_zeros_fail_unless_they_are_allowed(computed: bool) -> None:
    model = Adapter()
    loss: Any = squares(model, batch()) if computed else lambda: squares(model, batch())
    with pytest.raises(gradnb.GradientFlowError, match="1 of 2 trainable parameters get a gradient of zeros only: a") as failed:
        gradnb.assert_gradients_flow(model, loss)
    assert "pass allow_zero=True" in str(failed.value)
    gradnb.assert_gradients_flow(model, loss, allow_zero=True)
    gradnb.assert_gradients_flow(model, loss, ignore=["a"])


def test_a_gradient_that_is_no_number_fails() -> None:
    model = nn.Linear(4, 1)
    with pytest.raises(gradnb.GradientFlowError, match="2 of 2 trainable parameters get a gradient with NaN: weight, bias"):
        gradnb.assert_gradients_flow(model, lambda: (model(torch.ones(2, 4)) * float("nan")).sum())


def test_a_loss_without_history_fails_with_its_line() -> None:
    model = Net()
    with pytest.raises(gradnb.GradientFlowError) as failed:
        gradnb.assert_gradients_flow(model, lambda: squares(model, batch()).detach())
    assert "6 of 6 trainable parameters get no gradient" in str(failed.value) and "error[detach]" in str(failed.value)


def test_a_frozen_model_fails() -> None:
    with pytest.raises(gradnb.GradientFlowError, match="no trainable parameter: all 6 are frozen"):
        gradnb.assert_gradients_flow(Net().requires_grad_(False), squares, inputs=(batch(),))


def test_an_error_of_the_users_goes_on_as_it_is() -> None:
    model, data = Net(), batch()
    before = standing(model)
    with pytest.raises(ZeroDivisionError):
        gradnb.assert_gradients_flow(model, lambda: squares(model, data) / (1 // 0))
    assert standing(model) == before


@pytest.mark.parametrize(
    ("model", "loss", "options", "said"),
    [
        (3, squares, {}, "model is of type int; an nn.Module is expected"),
        (Net(), 3, {}, "loss is of type int; a function that computes the loss, or the scalar loss itself, is expected"),
        (Net(), nn.MSELoss(), {}, "loss is the criterion MSELoss"),
        (Net(), torch.ones(3), {}, "the loss has the shape (3,); a scalar is expected"),
        (Net(), lambda a, b, c: 1, {}, "loss takes (a, b, c), and is called as loss() or loss(model)"),
        (Net(), squares, {"inputs": torch.ones(3)}, "inputs is of type Tensor; a tuple or list is expected: inputs=(...,)"),
        (Net(), squares, {"ignore": "head.*"}, "ignore is of type str; a tuple or list is expected: ignore=('head.*',)"),
        (
            Net(),
            squares,
            {"ignore": ["haed.*"]},
            "ignore='haed.*' matches no parameter of the model; its parameters: encoder (weight, bias)",
        ),
    ],
)
def test_what_cannot_be_used_is_refused_by_name(model: Any, loss: Any, options: dict, said: str) -> None:
    with pytest.raises(UsageError) as refused:
        gradnb.assert_gradients_flow(model, loss, **options)
    assert said in str(refused.value)
