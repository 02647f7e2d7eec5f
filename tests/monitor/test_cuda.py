"""On a GPU: right numbers, read a step later, and no synchronisation that was not there before."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from witness import grads, norm, series

import gradnb

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int, monitor: gradnb.Monitor | None = None) -> list[float]:
    """Nothing in it waits for the GPU but what is asked for when it is over."""
    seen = []
    x = torch.randn(32, 64, device="cuda")
    for _ in range(steps):
        optimizer.zero_grad()
        loss = model(x).pow(2).mean()
        loss.backward()
        seen.append([parameter.grad.clone() for parameter in model.parameters()])
        nn.utils.clip_grad_norm_(model.parameters(), 0.01)
        optimizer.step()
        if monitor is not None:
            monitor.log(loss=loss)
            monitor.gate("low", fired=loss < 1)
    return [norm(step) for step in seen] if monitor is None else [0.0] * steps


def model_on_gpu() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 1)).cuda()


@pytest.mark.parametrize("kind", ["sgd", "capturable"])
def test_watching_adds_no_synchronisation(kind: str) -> None:
    model = model_on_gpu()
    if kind == "sgd":
        optimizer: torch.optim.Optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    else:
        rate = torch.tensor(1e-3, device="cuda")
        optimizer = torch.optim.Adam(model.parameters(), lr=rate, capturable=True)
    train(model, optimizer, 2)
    monitor = gradnb.watch(model, optimizer, updates=True)
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        train(model, optimizer, 25, monitor)
    finally:
        torch.cuda.set_sync_debug_mode(before)
    assert monitor.problem is None
    monitor.stop()
    assert monitor.history.step == 25 and len(monitor.history.series["loss"]) == 25
    assert len(monitor.history.of("0", "update")) == 25


def test_the_numbers_are_those_of_float64() -> None:
    model = model_on_gpu()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with gradnb.watch(model, optimizer) as monitor:
        expected = train(model, optimizer, 20)
        assert grads(model) > 0
    assert series(monitor, "global_norm") == pytest.approx(expected, rel=1e-5)
    assert all(after <= 0.0101 for after in series(monitor, "clipped_norm"))
    assert monitor.history.steps == list(range(1, 21))


def test_under_a_grad_scaler_with_skipped_steps() -> None:
    model = model_on_gpu()
    x = torch.randn(32, 64, device="cuda")
    for fused in (False, True):
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=fused)
        scaler = torch.amp.GradScaler("cuda", init_scale=2.0**10)
        expected = []
        with gradnb.watch(model, optimizer, scaler) as monitor:
            for step in range(10):
                optimizer.zero_grad()
                loss = model(x).pow(2).mean() * (float("inf") if step == 4 else 1.0)
                scaler.scale(loss).backward()
                if step != 4:
                    expected.append(grads(model) / scaler.get_scale())
                scaler.step(optimizer)
                scaler.update()
        assert series(monitor, "global_norm") == pytest.approx(expected, rel=1e-5), fused
        assert len([event for event in monitor.history.events if event[1] == "skipped"]) == 1, fused
