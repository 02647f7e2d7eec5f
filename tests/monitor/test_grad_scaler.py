"""Under GradScaler the norms are those of the unscaled gradients, and steps that it leaves out are told."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from witness import batch, grads, mlp, series

import gradnb

STEPS = 6


def unscaled(model: nn.Module, scaler: torch.amp.GradScaler) -> float:
    return grads(model) / scaler.get_scale()


@pytest.mark.parametrize("given", [True, False])
@pytest.mark.parametrize("clip", ["no", "by norm"])
def test_norms_are_unscaled(given: bool, clip: str) -> None:
    model = mlp()
    x, y = batch()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**16, growth_interval=2)
    expected, clipped, scales = [], [], []
    with gradnb.watch(model, scaler=scaler if given else None) as monitor:
        for _ in range(STEPS):
            optimizer.zero_grad()
            scaler.scale((model(x) - y).pow(2).mean()).backward()
            expected.append(unscaled(model, scaler))
            scales.append(scaler.get_scale())
            if clip == "by norm":
                scaler.unscale_(optimizer)
                nn.utils.clip_grad_norm_(model.parameters(), 0.1)
                clipped.append(grads(model))
            scaler.step(optimizer)
            scaler.update()
    assert scales[0] != scales[-1]
    assert series(monitor, "global_norm") == pytest.approx(expected, rel=1e-6)
    assert series(monitor, "clipped_norm") == pytest.approx(clipped, rel=1e-6)
    assert series(monitor, "scale") == scales


def test_a_scaler_that_hides_in_a_trainer_is_found_when_it_calls_the_step() -> None:
    class Trainer:
        def __init__(self) -> None:
            self.model = mlp()
            self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1)
            self.amp = torch.amp.GradScaler("cpu", init_scale=2.0**10)

        def step(self) -> float:
            x, y = batch()
            self.optimizer.zero_grad()
            self.amp.scale((self.model(x) - y).pow(2).mean()).backward()
            norm = unscaled(self.model, self.amp)
            self.amp.step(self.optimizer)
            self.amp.update()
            return norm

    trainer = Trainer()
    monitor = gradnb.watch(trainer.model)
    expected = [trainer.step() for _ in range(STEPS)]
    # Where the scaler first shows itself, the gradients are unscaled already: they are read again at the step.
    assert series(monitor, "global_norm") == pytest.approx(expected, rel=1e-6)
    assert series(monitor, "scale")[1:] == [2.0**10] * (STEPS - 1)
    monitor.stop()


def test_skipped_steps_are_events_and_no_rows() -> None:
    model = mlp()
    x, y = batch()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    expected = []
    with gradnb.watch(model, optimizer, scaler) as monitor:
        for step in range(8):
            optimizer.zero_grad()
            loss = (model(x) - y).pow(2).mean() * (float("inf") if step in (0, 1, 5) else 1.0)
            scaler.scale(loss).backward()
            if step not in (0, 1, 5):
                expected.append(unscaled(model, scaler))
            scaler.step(optimizer)
            scaler.update()
    assert series(monitor, "global_norm") == pytest.approx(expected, rel=1e-6)
    assert monitor.history.steps == [1, 2, 3, 4, 5]
    assert [step for step, kind, _ in monitor.history.events if kind == "skipped"] == [1, 1, 4]
    assert not [event for event in monitor.history.events if event[1] == "nan"]


def test_accumulation_under_a_scaler() -> None:
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**12)
    expected = []
    with gradnb.watch(model, optimizer, scaler) as monitor:
        for step in range(STEPS):
            optimizer.zero_grad()
            for part in range(3):
                x, y = batch(10 * step + part)
                scaler.scale((model(x) - y).pow(2).mean() / 3).backward()
            expected.append(unscaled(model, scaler))
            scaler.step(optimizer)
            scaler.update()
    assert series(monitor, "global_norm") == pytest.approx(expected, rel=1e-6)


def test_one_scaler_for_two_optimizers_of_which_one_is_skipped() -> None:
    torch.manual_seed(0)
    agent, critic = nn.Linear(6, 4), nn.Linear(6, 1)
    x, y = batch()
    of_a, of_c = torch.optim.SGD(agent.parameters(), lr=0.1), torch.optim.SGD(critic.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    a = []
    with gradnb.watch({"agent": agent, "critic": critic}, [of_a, of_c], scaler) as monitor:
        for step in range(4):
            of_a.zero_grad()
            of_c.zero_grad()
            bad = float("inf") if step == 2 else 1.0
            scaler.scale(agent(x).pow(2).mean()).backward()
            scaler.scale((critic(x) - y).pow(2).mean() * bad).backward()
            a.append(unscaled(agent, scaler))
            scaler.step(of_a)
            scaler.step(of_c)
            scaler.update()
    assert [value for _, value in monitor.history.of("agent")] == pytest.approx(a, rel=1e-6)
    assert [step for step, _ in monitor.history.of("critic")] == [1, 2, 4]
    assert len([event for event in monitor.history.events if event[1] == "skipped"]) == 1


def test_a_fused_optimizer_unscales_inside_its_kernel() -> None:
    model = mlp()
    x, y = batch()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, fused=True)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    expected = []
    with gradnb.watch(model, optimizer, scaler) as monitor:
        for step in range(STEPS):
            optimizer.zero_grad()
            scaler.scale((model(x) - y).pow(2).mean() * (float("inf") if step == 3 else 1.0)).backward()
            if step != 3:
                expected.append(unscaled(model, scaler))
            scaler.step(optimizer)
            scaler.update()
    assert series(monitor, "global_norm") == pytest.approx(expected, rel=1e-6)
    assert [step for step, kind, _ in monitor.history.events if kind == "skipped"] == [4]


def test_a_disabled_scaler_changes_nothing() -> None:
    model = mlp()
    x, y = batch()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    expected = []
    with gradnb.watch(model, optimizer, scaler) as monitor:
        for _ in range(STEPS):
            optimizer.zero_grad()
            scaler.scale((model(x) - y).pow(2).mean()).backward()
            expected.append(grads(model))
            scaler.step(optimizer)
            scaler.update()
    assert series(monitor, "global_norm") == pytest.approx(expected, rel=1e-6)
