"""A trial step says what a training cell would show, and leaves nothing behind."""

from __future__ import annotations

import inspect
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from standing import Net, Uncopyable, batch, squares, standing
from torch import nn

import gradnb
from gradnb.errors import UsageError

CUT = 1 + Path(inspect.getfile(Net)).read_text().split("# <- here")[0].count("\n")


def here() -> int:
    """The line that calls."""
    frame = inspect.currentframe()
    assert frame is not None and frame.f_back is not None
    return frame.f_back.f_lineno


def trained(model: nn.Module) -> torch.optim.Optimizer:
    """An optimizer with a state, and gradients that wait for its next step."""
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(2):
        squares(model, batch()).backward()
        optimizer.step()
    return optimizer


def restless(model: nn.Module, data: Any) -> torch.Tensor:
    """A loss function that draws from every random stream and changes its batch."""
    data[0].add_(random.random() + float(np.random.rand()))
    return squares(model, data) + torch.rand(()) * 0


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("kind", [Net, Uncopyable])
@pytest.mark.parametrize("captured", [False, True], ids=["argument", "captured"])
def test_nothing_moves_and_the_line_is_found(kind: type[Net], captured: bool, steps: int) -> None:
    model, data = kind(cut=True), batch()
    optimizer = trained(model)
    model.head.eval()
    model.norm.weight.requires_grad_(False)
    model.head.weight.register_hook(lambda grad: None)
    before = standing(model, optimizer, data)
    loss_fn: Callable = (lambda _, data: restless(model, data)) if captured else restless
    report = gradnb.preflight(model, loss_fn, data, optimizer, steps=steps)
    assert standing(model, optimizer, data) == before
    found = report.findings[0]
    assert (found.cause, found.location and found.location.line) == ("detach", CUT)
    assert set(found.affected) == {"encoder.weight", "encoder.bias", "norm.bias"}
    assert sum(step.kind == "step" for step in report.steps) == steps
    assert any("cannot be copied (TypeError: cannot pickle this)" in note for note in report.notes) == (kind is Uncopyable)
    assert any("another way than the argument" in note for note in report.notes) == (captured and kind is Net)
    assert gradnb.last_report() is report


def test_a_healthy_model_gives_a_silent_report_with_its_own_names() -> None:
    model = Net()
    report = gradnb.preflight(model, squares, batch(), torch.optim.AdamW(model.parameters()))
    assert (report.verdict, report.findings, report.raised, report.notes) == ("ok", [], None, [])
    assert [row.name for row in report.parameters] == [name for name, _ in model.named_parameters()]
    assert all(row.gradient == "ok" for row in report.parameters)


def test_a_graph_from_before_can_still_be_run_backwards() -> None:
    model = Uncopyable()
    loss = squares(model, batch())
    gradnb.preflight(model, squares, batch())
    loss.backward()
    assert model.encoder.weight.grad is not None


def test_without_an_optimizer_every_trainable_parameter_is_tried() -> None:
    model = Net()
    model.encoder.requires_grad_(False)
    report = gradnb.preflight(model, squares, batch())
    assert report.verdict == "ok"
    assert [row.optimizer for row in report.parameters] == [None, None, 0, 0, 0, 0]


def test_a_model_without_a_trainable_parameter_gives_a_finding_and_no_crash() -> None:
    report = gradnb.preflight(Net().requires_grad_(False), squares, batch())
    assert report.raised is not None and "does not require grad" in report.raised.message
    assert report.verdict == "error" and report.findings[0].cause == "frozen"


@pytest.mark.parametrize(
    "make",
    [
        lambda p: torch.optim.LBFGS(p, max_iter=2),
        lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
        lambda p: torch.optim.Adam([{"params": [q], "lr": 0.1} for q in p], amsgrad=True),
        lambda p: torch.optim.Rprop(p),
    ],
)
def test_the_optimizer_is_made_again_over_the_copy(make: Callable) -> None:
    model = Net()
    optimizer = make(list(model.parameters()))
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    data = batch()
    before = standing(model, optimizer)
    report = gradnb.preflight(model, squares, data, optimizer)
    assert standing(model, optimizer) == before
    assert (report.verdict, report.raised, report.notes) == ("ok", None, [])
    assert scheduler.optimizer is optimizer


def test_a_teacher_and_a_learned_number_beside_the_model_are_left_alone() -> None:
    model, teacher, temperature = Net(), Net(), nn.Parameter(torch.ones(()))
    data = torch.randn(8, 4)
    before = standing(teacher, temperature)

    def distil(student: nn.Module, data: torch.Tensor) -> torch.Tensor:
        return (student(data) * temperature - teacher(data)).pow(2).mean()

    report = gradnb.preflight(model, distil, data)
    assert standing(teacher, temperature) == before
    assert report.raised is None and {"encoder.weight", "model.encoder.weight"} & {row.name for row in report.parameters}


def test_an_optimizer_with_more_than_the_model_steps_in_place_and_is_put_back() -> None:
    model, temperature = Net(), nn.Parameter(torch.ones(()))
    optimizer = torch.optim.Adam([*model.parameters(), temperature])
    data = batch()
    before = standing(model, optimizer, temperature)
    report = gradnb.preflight(model, lambda m, data: squares(m, data) * temperature, data, optimizer)
    assert standing(model, optimizer, temperature) == before
    assert report.verdict == "ok" and "no parameters of the model" in report.notes[0]


def test_a_loss_that_is_no_scalar_is_a_finding_at_the_line_of_the_loss_function() -> None:
    line = here() + 1
    report = gradnb.preflight(Net(), lambda m, data: (m(data[0]) - data[1]).pow(2), batch())
    assert report.findings[0].cause == "not-scalar"
    assert report.findings[0].location is not None and report.findings[0].location.line == line


def test_a_loss_that_is_a_number_is_a_finding_at_the_line_that_made_it_one() -> None:
    line = here() + 3

    def loss_fn(model: nn.Module, data: Any) -> float:
        return squares(model, data).item()

    report = gradnb.preflight(Net(), loss_fn, batch())
    assert (report.findings[0].cause, report.findings[0].severity) == ("item", "error")
    assert report.findings[0].location is not None and report.findings[0].location.line == line


def test_what_the_loss_function_raises_stands_in_the_report_with_its_line() -> None:
    model, data = Net(), batch()
    before = standing(model)
    line = here() + 3

    def wrong(model: nn.Module, data: Any) -> torch.Tensor:
        raise ValueError("no such thing")

    report = gradnb.preflight(model, wrong, data)
    assert standing(model) == before
    assert report.raised is not None and (report.raised.type, report.raised.message) == ("ValueError", "no such thing")
    assert report.raised.location is not None and report.raised.location.line == line


def test_a_batch_on_another_device_is_told() -> None:
    report = gradnb.preflight(Net().to("meta"), squares, batch())
    assert report.raised is not None
    assert "the batch lies on cpu, the model on meta: move the batch there" in report.notes


@pytest.mark.parametrize("kind", [Net, Uncopyable])
def test_an_interrupt_goes_on_and_nothing_has_moved(kind: type[Net]) -> None:
    model = kind()
    optimizer, data = trained(model), batch()
    before = standing(model, optimizer)

    def interrupted(model: nn.Module, data: Any) -> torch.Tensor:
        squares(model, data).backward()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        gradnb.preflight(model, interrupted, data, optimizer)
    assert standing(model, optimizer) == before


def test_gradients_are_on_in_a_trial_wherever_it_is_called() -> None:
    with torch.no_grad():
        assert gradnb.preflight(Net(), squares, batch()).verdict == "ok"
    with torch.inference_mode():
        assert gradnb.preflight(Net(), squares, (torch.ones(8, 4), torch.ones(8, 1))).raised is not None  # its batch is of inference mode


def test_a_check_that_runs_around_it_sees_nothing_of_the_trial() -> None:
    model, other, data = Net(), Net(cut=True), batch()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with gradnb.check(namespace={"model": model, "optimizer": optimizer}) as outer:
        loss = squares(model, data)
        assert gradnb.preflight(other, squares, data).verdict == "error"
        with pytest.raises(AssertionError):
            gradnb.assert_gradients_flow(other, squares, inputs=(data,))
        loss.backward()
        optimizer.step()
    assert outer.verdict == "ok"
    assert [step.kind for step in outer.steps] == ["backward", "step"]
    assert [row.name for row in outer.parameters] == [name for name, _ in model.named_parameters()]


LOADER = torch.utils.data.DataLoader([1, 2])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((squares, squares, 1), "model is of type function; an nn.Module is expected: preflight(model, lambda model, batch: "),
        ((Net, squares, 1), "model is the class Net, not an object of it"),
        ((Net(), 3, 1), "loss_fn is of type int; a function of the model and the batch is expected"),
        ((Net(), nn.MSELoss(), 1), "loss_fn is the criterion MSELoss, which takes an output and a target"),
        ((Net(), nn.functional.mse_loss, 1), "loss_fn is the criterion mse_loss"),
        ((Net(), lambda: 1, 1), "loss_fn cannot be called with the model and the batch (too many positional arguments)"),
        ((Net(), squares, LOADER), "batch is a DataLoader; give one batch of it: next(iter(loader))"),
        ((Net(), squares, 1, torch.optim.SGD), "optimizer is the class SGD, not an object of it"),
        ((Net(), squares, 1, [1]), "optimizer is of type list; a torch.optim.Optimizer (or None) is expected"),
        ((Net(), lambda m, b: None, 1), "the loss function returned None; a scalar tensor is expected: does it lack its return statement?"),
        ((Net(), lambda m, b: {"loss": 1}, 1), "the loss function returned a dict; a scalar tensor is expected: return one scalar tensor"),
        ((nn.LazyLinear(2), lambda m, b: m.unknown, 1, None), None),
    ],
)
def test_what_cannot_be_used_is_refused_by_name(arguments: tuple, said: str | None) -> None:
    last = gradnb.last_report()
    if said is None:
        assert gradnb.preflight(*arguments).raised is not None
        return
    with pytest.raises(UsageError) as refused:
        gradnb.preflight(*arguments)
    assert said in str(refused.value)
    assert gradnb.last_report() is last


@pytest.mark.parametrize("steps", [0, -1, True, 1.5, "2"])
def test_steps_have_to_be_a_whole_number(steps: Any) -> None:
    with pytest.raises(UsageError, match="a whole number of trial steps, 1 or more, is expected"):
        gradnb.preflight(Net(), squares, batch(), steps=steps)
