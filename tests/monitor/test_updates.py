"""Weight norms and update ratios at every step, whatever writes to the weights between two of them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn
from witness import norm, same

import gradnb


def decay(model: nn.Linear) -> None:
    with torch.no_grad():
        model.weight.mul_(0.5)


def swap(model: nn.Linear) -> None:
    model.weight.data = model.weight.data * 0.5


def load(model: nn.Linear) -> None:
    model.load_state_dict({name: value * 0.5 for name, value in model.state_dict().items()})


def replace(model: nn.Linear) -> None:
    nn.utils.vector_to_parameters(nn.utils.parameters_to_vector(model.parameters()) * 0.5, model.parameters())


def nothing(model: nn.Linear) -> None:
    return


def train(model: nn.Linear, between: Callable[[nn.Linear], None], **options: int) -> tuple[gradnb.Monitor, list[float], list[float]]:
    """The monitor, and the weight norms and update ratios in plain float64."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    weight, update = [], []
    with gradnb.watch(model, **options) as monitor:
        for _ in range(5):
            between(model)
            optimizer.zero_grad()
            model(torch.ones(2, model.in_features, dtype=model.weight.dtype)).pow(2).mean().backward()
            old = [parameter.detach().clone() for parameter in model.parameters()]
            optimizer.step()
            weight.append(norm(old))
            update.append(norm(new.double() - was.double() for new, was in zip(model.parameters(), old)) / weight[-1])
    assert monitor.problem is None
    return monitor, weight, update


@pytest.mark.parametrize("between", [nothing, decay, swap, load, replace])
@pytest.mark.parametrize("options", [{"updates": True}, {"updates": 1, "every": 2}, {"updates": 2}])
def test_only_what_the_optimizer_moves_is_its_update(between: Callable[[nn.Linear], None], options: dict[str, int]) -> None:
    torch.manual_seed(0)
    monitor, weight, update = train(nn.Linear(700, 400), between, **options)
    steps = [step for step, _ in monitor.history.of("Linear", "update")]
    assert steps == ([1, 3, 5] if "every" in options else [1, 2, 3, 4] if options["updates"] == 2 else [1, 2, 3, 4, 5])
    same(monitor, "Linear", [weight[step - 1] for step in steps], "weight", rel=1e-5)
    same(monitor, "Linear", [update[step - 1] for step in steps], "update", rel=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_moves_are_measured_in_any_precision(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    monitor, weight, update = train(nn.Linear(30, 20).to(dtype), nothing, updates=True)
    same(monitor, "Linear", weight, "weight")
    same(monitor, "Linear", update, "update", rel=2e-2 if dtype is torch.bfloat16 else 1e-4)


def test_a_move_whose_square_float32_does_not_know_is_not_zero() -> None:
    model = nn.Linear(3, 2)
    nn.init.constant_(model.weight, 1e-24)
    nn.init.constant_(model.bias, 1e-24)
    monitor, weight, update = train(model, nothing, updates=True)
    assert min(update) > 0
    same(monitor, "Linear", weight, "weight")
    same(monitor, "Linear", update, "update", rel=1e-4)


def test_weights_that_are_cut_between_two_steps_are_measured_as_they_are_then() -> None:
    torch.manual_seed(0)
    model = nn.Linear(6, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    weight = []
    with gradnb.watch(model, updates=True) as monitor:
        for size in (6, 6, 4, 4):
            model.weight.data = model.weight.data[:, :size]
            model.weight.grad = None
            model(torch.ones(2, size)).pow(2).mean().backward()
            weight.append(norm(model.parameters()))
            optimizer.step()
    assert monitor.problem is None
    same(monitor, "Linear", weight, "weight")


def test_a_write_through_data_to_a_large_tensor_counts_as_a_part_of_the_next_move() -> None:
    torch.manual_seed(0)
    model = nn.Linear(600, 1, bias=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    with gradnb.watch(model, updates=True) as monitor:
        for step in range(4):
            if step == 2:
                model.weight.data.mul_(0.5)
            model(torch.ones(2, 600)).pow(2).mean().backward()
            optimizer.step()
    same(monitor, "Linear", [0.0, 0.0, 0.5, 0.0], "update")
