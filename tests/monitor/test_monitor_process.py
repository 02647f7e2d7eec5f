"""A user's process is sacred: the same training bit for bit, nothing left behind, nothing kept alive, bounded memory."""

from __future__ import annotations

import contextlib
import copy
import gc
import io
import pickle
import random
import tracemalloc
import weakref
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import optimizer as optimizers
from witness import batch, mlp

import gradnb
from gradnb.monitor.history import History, Layer


class Everything(nn.Module):
    """Dropout, batch norm, an embedding and an unused head."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(10, 6)
        self.body = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 1))
        self.spare = nn.Linear(3, 3)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.body(self.embed(tokens).mean(1))


def train(watch: dict[str, Any] | None, kind: str) -> tuple[list[torch.Tensor], Any, tuple]:
    torch.manual_seed(0)
    random.seed(0)
    model = Everything()
    optimizer: torch.optim.Optimizer
    optimizer = {
        "sgd": lambda: torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-2),
        "adamw": lambda: torch.optim.AdamW(model.parameters(), lr=0.01),
        "scaler": lambda: torch.optim.AdamW(model.parameters(), lr=0.01),
        "lbfgs": lambda: torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=3),
    }[kind]()
    scaler = torch.amp.GradScaler("cpu", enabled=kind == "scaler", init_scale=2.0**127, growth_interval=3)
    monitor = gradnb.watch(model, **watch) if watch is not None else None

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = model(torch.randint(10, (8, 4))).pow(2).mean()
        scaler.scale(loss).backward()
        return loss

    for _ in range(25):
        if kind == "lbfgs":
            loss = optimizer.step(closure)
        else:
            loss = closure()
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(model.parameters(), 0.5)
            scaler.step(optimizer)
            scaler.update()
        if monitor is not None:
            monitor.log(loss=loss)
            monitor.gate("odd", fired=bool(loss > 0.1))
    if monitor is not None:
        with contextlib.redirect_stdout(io.StringIO()):
            monitor.epoch()
        monitor.stop()
        assert monitor.problem is None
    tensors = [*model.state_dict().values(), *(p.grad for p in model.parameters() if p.grad is not None)]
    return (
        [tensor.clone() for tensor in tensors],
        copy.deepcopy(optimizer.state_dict()),
        (torch.get_rng_state(), random.getstate(), scaler.state_dict()),
    )


def equal(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a.view(torch.uint8) if a.dim() else a, b.view(torch.uint8) if b.dim() else b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(equal(x, y) for x, y in zip(a, b))
    return a == b or (a != a and b != b)


@pytest.mark.parametrize("kind", ["sgd", "adamw", "scaler", "lbfgs"])
@pytest.mark.parametrize("options", [{}, {"updates": True, "activations": True}, {"every": 3, "depth": 1}])
def test_training_is_the_same_bit_for_bit(kind: str, options: dict[str, Any]) -> None:
    assert equal(train(None, kind), train(options, kind))


def hooks(model: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    count = len(optimizers._global_optimizer_pre_hooks) + len(optimizers._global_optimizer_post_hooks)
    count += len(optimizer._optimizer_step_pre_hooks) + len(optimizer._optimizer_step_post_hooks)
    for parameter in model.parameters():
        count += len(parameter._post_accumulate_grad_hooks or ()) + len(parameter._backward_hooks or ())
    return count + sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())


@pytest.mark.parametrize("given", [True, False])
@pytest.mark.parametrize("steps", [0, 2, 8])
def test_stop_leaves_no_hook(given: bool, steps: int) -> None:
    model = Everything()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before = hooks(model, optimizer)
    monitor = gradnb.watch(model, optimizer if given else None, activations=True)
    assert hooks(model, optimizer) > before
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.randint(10, (8, 4))).pow(2).mean().backward()
        optimizer.step()
    monitor.stop()
    monitor.stop()
    assert hooks(model, optimizer) == before
    assert monitor.history.step == steps


def test_after_the_first_steps_one_hook_does_for_a_model() -> None:
    model = mlp()
    x, y = batch()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with gradnb.watch(model, optimizer):
        for _ in range(5):
            optimizer.zero_grad()
            (model(x) - y).pow(2).mean().backward()
            optimizer.step()
        assert sum(len(parameter._post_accumulate_grad_hooks or ()) for parameter in model.parameters()) == 1


def test_leaving_by_an_error_removes_the_hooks_and_lets_the_error_go_on() -> None:
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before = hooks(model, optimizer)
    with pytest.raises(RuntimeError, match="the user's own"), gradnb.watch(model, optimizer):
        raise RuntimeError("the user's own")
    assert hooks(model, optimizer) == before


def test_watching_the_same_model_again_stops_the_first_monitor() -> None:
    model = mlp()
    first = gradnb.watch(model)
    second = gradnb.watch(model)
    assert first.stopped and not second.stopped
    second.stop()


def test_nothing_of_the_users_is_kept_alive_and_the_monitor_ends_with_its_model() -> None:
    model = mlp()
    x, y = batch()
    optimizer = torch.optim.Adam(model.parameters())
    monitor = gradnb.watch(model)
    for _ in range(5):
        optimizer.zero_grad()
        (model(x) - y).pow(2).mean().backward()
        optimizer.step()
    gone = [weakref.ref(model), weakref.ref(optimizer), weakref.ref(model[0].weight)]
    del model, optimizer
    gc.collect()
    assert [ref() for ref in gone] == [None] * 3
    assert monitor.stopped
    assert len(optimizers._global_optimizer_pre_hooks) == 0
    assert "0 " in repr(monitor)  # what was seen stays readable


def test_a_watched_model_can_be_copied_and_saved() -> None:
    model = mlp()
    x, y = batch()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with gradnb.watch(model, optimizer, activations=True) as monitor:
        twin = copy.deepcopy(model)
        file = io.BytesIO()
        torch.save(model.state_dict(), file)
        pickle.loads(pickle.dumps(optimizer.state_dict()))
        copy.deepcopy(optimizer)
        (twin(x) - y).pow(2).mean().backward()  # the twin's gradients are nobody's business
        torch.optim.SGD(twin.parameters(), lr=0.1).step()
    assert monitor.history.step == 0 and monitor.problem is None


def test_a_fault_of_gradnbs_own_is_one_line_and_the_training_goes_on(capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    model = mlp()
    x, y = batch()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    monitor = gradnb.watch(model, optimizer)
    before = model[0].weight.detach().clone()

    def broken(*args: Any) -> None:
        raise ZeroDivisionError("a fault")

    monkeypatch.setattr("gradnb.monitor.gradients.read", broken)
    for _ in range(4):
        optimizer.zero_grad()
        (model(x) - y).pow(2).mean().backward()
        optimizer.step()
    assert not torch.equal(before, model[0].weight)
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "internal problem (ZeroDivisionError: a fault)" in said
    assert monitor.stopped


def test_an_error_in_the_users_backward_does_not_confuse_the_next_one() -> None:
    model = mlp()
    x, y = batch()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    class Broken(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, value: torch.Tensor) -> torch.Tensor:
            return value.clone()

        @staticmethod
        def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
            raise ValueError("the user's own")

    with gradnb.watch(model, optimizer) as monitor:
        for step in range(4):
            optimizer.zero_grad()
            hidden = model[:2](x)
            loss = (model[2:](Broken.apply(hidden) if step == 1 else hidden) - y).pow(2).mean()
            with contextlib.suppress(ValueError):
                loss.backward()
            optimizer.step()
    assert monitor.history.step == 4 and monitor.problem is None


def test_ten_thousand_steps_of_a_hundred_layers_stay_under_two_megabytes_and_keep_the_extremes() -> None:
    layers = [Layer(f"block.{index}", "", 10, [(10,)]) for index in range(100)]
    tracemalloc.start()
    history = History(layers)
    ones = [1.0] * 100
    for step in range(1, 10_001):
        row = {"norm": ones, "missing": [0.0] * 100, "bad": [0.0] * 100}
        if step % 10 == 0:
            row |= {"weight": ones, "update": ones, "zeros": ones}
        if step in (137, 5000):
            row["norm"] = [1e6 if index == 3 else 1e-6 if index == 4 else 1.0 for index in range(100)]
        history.put(step, row)
        history.log(step, "loss", 1.0 if step != 4321 else float("nan"))
        history.log(step, "global_norm", 1.0)
        history.event(step, "skipped", f"step {step} was left out")
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size < 2_000_000
    assert history.count == 10_000 and history.step == 10_000
    assert history.steps[-256:] == list(range(9745, 10_001))
    assert [value for _, value in history.of("block.3") if value != 1.0] == [1e6, 1e6]
    assert [value for _, value in history.of("block.4") if value != 1.0] == [1e-6, 1e-6]
    near = [step for step, value in history.of("block.3") if value != 1.0]
    assert abs(near[0] - 137) < 400 and abs(near[1] - 5000) < 400
    assert [step for step, value in history.series["loss"] if value != value] == [4321]
    assert history.steps == sorted(history.steps)
    assert history.events[0][0] == 1 and history.events[-1][0] == 10_000 and len(history.events) <= 1000


def test_a_long_run_does_not_grow() -> None:
    model = nn.Linear(4, 1)
    x = torch.randn(8, 4)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
    monitor = gradnb.watch(model, optimizer)

    def run(steps: int) -> int:
        for _ in range(steps):
            optimizer.zero_grad()
            loss = model(x).pow(2).mean()
            loss.backward()
            optimizer.step()
            monitor.log(loss=loss)
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    early = run(1500)
    late = run(3000)
    tracemalloc.stop()
    monitor.stop()
    assert late - early < 100_000
