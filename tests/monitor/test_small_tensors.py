"""Small tensors are measured together, by one copy of them all; nothing else may show that."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from witness import grads, norm, same

import gradnb
from gradnb.recorder.packed import SMALL


def layers(*sizes: int) -> nn.Module:
    torch.manual_seed(0)
    made = nn.ParameterDict({f"p{k}": nn.Parameter(torch.randn(size)) for k, size in enumerate(sizes)})
    model = nn.Module()
    model.parts = made
    return model


@pytest.mark.parametrize("sizes", [(3, 1, 5), (SMALL, SMALL + 1, 2, 4 * SMALL, 1), (SMALL + 1, 2 * SMALL), (7, 0, 2)])
@pytest.mark.parametrize("factor", [1.0, 1e-30, 1e25])
def test_norms_are_right_whatever_is_small_and_beyond_float32s_squares(sizes: tuple[int, ...], factor: float) -> None:
    model = layers(*sizes)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    expected = []
    with gradnb.watch(model, optimizer) as monitor:
        for step in range(3):
            optimizer.zero_grad()
            (sum(parameter.sin().sum() for parameter in model.parameters()) * factor).backward()
            expected.append(grads(model))
            if step == 1:
                nn.utils.clip_grad_norm_(model.parameters(), 1e-3)
            optimizer.step()
    assert monitor.problem is None
    same(monitor, "parts", expected, rel=1e-5)


def test_the_step_of_a_nan_in_a_small_tensor_is_told_with_its_count() -> None:
    model = layers(4, 4)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    with gradnb.watch(model, optimizer) as monitor:
        for step in range(3):
            optimizer.zero_grad()
            first, second = model.parameters()
            (first.sum() + second[:3].sum() * (float("nan") if step == 2 else 1.0)).backward()
            optimizer.step()
    monitor.flush()
    assert monitor.history.of("parts", "bad")[-1] == (3, 3.0)


def test_what_is_written_through_data_between_two_steps_is_no_part_of_an_update() -> None:
    model = layers(8, 8)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    with gradnb.watch(model, optimizer, updates=True) as monitor:
        for _ in range(3):
            for parameter in model.parameters():
                parameter.data.clamp_(-0.1, 0.1)
            optimizer.zero_grad()
            sum(parameter.sum() for parameter in model.parameters()).backward()
            optimizer.step()
    monitor.flush()
    before = norm([torch.full((16,), 0.1)])
    assert [value for _, value in monitor.history.of("parts", "update")][1:] == pytest.approx([0.5 * 4 / before] * 2, rel=1e-5)


@pytest.mark.parametrize("sizes", [(5,), (5, 6), (5, 2 * SMALL), (2 * SMALL,)])
def test_weights_and_gradients_are_only_read(sizes: tuple[int, ...]) -> None:
    def trained(watched: bool) -> list[torch.Tensor]:
        model = layers(*sizes)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        monitor = gradnb.watch(model, optimizer, updates=True) if watched else None
        for _ in range(4):
            optimizer.zero_grad()
            sum(parameter.sin().sum() for parameter in model.parameters()).backward()
            optimizer.step()
        if monitor is not None:
            monitor.stop()
        return [value.detach() for parameter in model.parameters() for value in (parameter, parameter.grad)]

    assert all(torch.equal(one, other) for one, other in zip(trained(True), trained(False), strict=True))
