"""Schedulers and scalers go on as if nothing had happened."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from tracking import equal, load, net, saved, tracking, train, weights

S = torch.optim.lr_scheduler


SCHEDULERS = {
    "StepLR": lambda o: S.StepLR(o, 2),
    "MultiStepLR": lambda o: S.MultiStepLR(o, [1, 4]),
    "ConstantLR": lambda o: S.ConstantLR(o, total_iters=4),
    "LinearLR": lambda o: S.LinearLR(o, total_iters=8),
    "ExponentialLR": lambda o: S.ExponentialLR(o, 0.9),
    "PolynomialLR": lambda o: S.PolynomialLR(o, 8, 2.0),
    "CosineAnnealingLR": lambda o: S.CosineAnnealingLR(o, 10),
    "CosineAnnealingWarmRestarts": lambda o: S.CosineAnnealingWarmRestarts(o, 2, 2),
    "CyclicLR": lambda o: S.CyclicLR(o, 0.01, 0.1, 3, mode="triangular2"),
    "CyclicLR with a function": lambda o: S.CyclicLR(o, 0.01, 0.1, 3, scale_fn=lambda x: 0.9**x),
    "OneCycleLR": lambda o: S.OneCycleLR(o, 0.1, total_steps=20),
    "ReduceLROnPlateau": lambda o: S.ReduceLROnPlateau(o, patience=0, threshold=0.5, factor=0.5),
    "LambdaLR": lambda o: S.LambdaLR(o, lambda epoch: 0.95**epoch),
    "MultiplicativeLR": lambda o: S.MultiplicativeLR(o, lambda epoch: 0.95),
    "SequentialLR": lambda o: S.SequentialLR(o, [S.LinearLR(o, total_iters=4), S.CosineAnnealingLR(o, 6)], [4]),
    "SWALR": lambda o: torch.optim.swa_utils.SWALR(o, 0.01, anneal_epochs=5),
    "ChainedScheduler": lambda o: S.ChainedScheduler([S.LinearLR(o, total_iters=4), S.ExponentialLR(o, 0.9)]),
}


@pytest.mark.parametrize("build", SCHEDULERS.values(), ids=SCHEDULERS)
def test_any_scheduler_goes_on_as_if_nothing_had_happened(build: Any) -> None:
    def start() -> tuple[nn.Module, Any, Any]:
        model = net(0)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        return model, optimizer, build(optimizer)

    model, optimizer, scheduler = start()
    train(model, optimizer, range(3), scheduler)
    state = saved(tracking(model=model, optimizer=optimizer, scheduler=scheduler))
    other, fresh, resumed = start()
    assert all("lr" not in note for note in load(tracking(model=other, optimizer=fresh, scheduler=resumed), state))
    for step in range(3, 9):
        train(model, optimizer, range(step, step + 1), scheduler)
        train(other, fresh, range(step, step + 1), resumed)
        assert [g["lr"] for g in optimizer.param_groups] == [g["lr"] for g in fresh.param_groups]
    assert equal(weights(model), weights(other))


class Warmup(S.LRScheduler):
    """Holds another scheduler, and a function, among its attributes, which are its state_dict."""

    def __init__(self, optimizer: torch.optim.Optimizer):
        self.after = S.CosineAnnealingLR(optimizer, 10)
        self.form = lambda step: step / 3
        super().__init__(optimizer)

    def get_lr(self) -> list[float]:
        return [base * self.form(self.last_epoch) for base in self.base_lrs]

    def step(self, epoch: Any = None) -> None:
        self.after.step() if self.last_epoch >= 2 else super().step(epoch)


def test_a_scheduler_that_holds_another_one_goes_on() -> None:
    def start() -> tuple[nn.Module, Any, Any]:
        model = net(0)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        return model, optimizer, Warmup(optimizer)

    model, optimizer, scheduler = start()
    train(model, optimizer, range(5), scheduler)
    other, fresh, resumed = start()
    inner = resumed.after
    load(tracking(model=other, optimizer=fresh, scheduler=resumed), saved(tracking(model=model, optimizer=optimizer, scheduler=scheduler)))
    assert resumed.after is inner and inner.last_epoch == scheduler.after.last_epoch > 0
    train(model, optimizer, range(5, 9), scheduler), train(other, fresh, range(5, 9), resumed)
    assert equal(weights(model), weights(other)) and optimizer.param_groups[0]["lr"] == fresh.param_groups[0]["lr"]


def test_a_scaler_that_is_switched_off_here_is_told() -> None:
    on, off = torch.amp.GradScaler("cpu"), torch.amp.GradScaler("cpu", enabled=False)
    assert "was enabled when saved and is disabled now" in load(tracking(scaler=off), saved(tracking(scaler=on)))[0]
    assert "was disabled when saved and is enabled now" in load(tracking(scaler=on), saved(tracking(scaler=off)))[0]
