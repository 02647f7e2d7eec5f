"""What a user types: watch, log, gate, epoch, rule, tables, boards; and what is said when it is wrong."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from witness import batch, mlp

import gradnb
from gradnb.errors import UsageError
from gradnb.monitor import View


def train(model: nn.Module, monitor: gradnb.Monitor | None = None, steps: int = 4, **numbers: Any) -> None:
    x, y = batch()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = (model(x) - y).pow(2).mean()
        loss.backward()
        optimizer.step()
        if monitor is not None:
            monitor.log(loss=loss, **numbers)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"model": 3}, "watch() takes a module, or several by name"),
        ({"model": {}}, "the collection is empty"),
        ({"model": {"agent": "weights.pt"}}, "'agent' is of type str; an nn.Module is expected"),
        ({"model": nn.Linear(1, 1).requires_grad_(False)}, "no parameter of Linear requires a gradient"),
        ({"model": nn.ReLU()}, "no parameter of ReLU requires a gradient"),
        ({"model": mlp(), "optimizer": "adam"}, "optimizer is of type str; a torch optimizer"),
        ({"model": mlp(), "scaler": 2.0}, "scaler is of type float; a torch.amp.GradScaler"),
        ({"model": mlp(), "every": 0}, "every=0 records nothing"),
        ({"model": mlp(), "every": True}, "every=True records nothing"),
        ({"model": mlp(), "depth": -1}, "depth=-1: give a whole number"),
        ({"model": mlp(), "updates": "yes"}, "updates='yes'"),
        ({"model": mlp(), "include": [3]}, "include takes patterns such as 'encoder.*', not something of type int"),
        ({"model": mlp(), "include": "encoder.*"}, "nothing is left to watch by include=['encoder.*']"),
    ],
)
def test_a_wrong_argument_is_named_with_what_was_expected(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError) as error:
        gradnb.watch(**arguments)
    assert said in str(error.value)


class Deep(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.zeros(2))
        self.encoder = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2)))
        self.head = nn.utils.parametrizations.weight_norm(nn.Linear(2, 1))


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({}, ["Deep", "encoder.0", "encoder.1.0", "encoder.1.1", "head"]),
        ({"depth": 1}, ["Deep", "encoder", "head"]),
        ({"depth": 2}, ["Deep", "encoder.0", "encoder.1", "head"]),
        ({"depth": 0}, ["Deep"]),
        ({"include": "encoder.*"}, ["encoder.0", "encoder.1.0", "encoder.1.1"]),
        ({"exclude": ["*.1.*", "Deep"]}, ["encoder.0", "head"]),
        ({"include": "*.bias"}, ["encoder.0", "encoder.1.0", "encoder.1.1", "head"]),
    ],
)
def test_layers_are_called_after_the_modules_that_hold_the_parameters(options: dict[str, Any], names: list[str]) -> None:
    with gradnb.watch(Deep(), **options) as monitor:
        assert [layer.name for layer in monitor.history.layers] == names


def test_wrappers_do_not_show_in_the_names_and_labels_do() -> None:
    wrapped = {"agent": nn.DataParallel(mlp()), "qwen": torch.compile(mlp(), backend="eager")}
    with gradnb.watch(wrapped) as monitor:
        names = [layer.name for layer in monitor.history.layers]
        assert names == ["agent.0", "agent.2", "agent.4", "qwen.0", "qwen.2", "qwen.4"]
        assert [layer.model for layer in monitor.history.layers] == ["agent"] * 3 + ["qwen"] * 3
    with gradnb.watch([mlp(), mlp(), nn.Linear(1, 1)]) as monitor:
        assert list(dict.fromkeys(layer.model for layer in monitor.history.layers)) == ["Sequential", "Sequential#2", "Linear"]


@pytest.mark.parametrize("when", ["before backward", "after backward", "after step"])
def test_a_number_belongs_to_its_step_wherever_it_is_logged(when: str) -> None:
    model = mlp()
    x, y = batch()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    losses = []
    with gradnb.watch(model) as monitor:
        for _ in range(5):
            optimizer.zero_grad()
            loss = (model(x) - y).pow(2).mean()
            losses.append(loss.item())
            if when == "before backward":
                monitor.log(loss=loss)
            loss.backward()
            if when == "after backward":
                monitor.log(loss=loss)
            optimizer.step()
            if when == "after step":
                monitor.log(loss=loss)
    assert monitor.history.series["loss"] == list(zip(range(1, 6), losses))


def test_what_can_be_logged_and_what_cannot() -> None:
    import numpy

    with gradnb.watch(mlp()) as monitor:
        monitor.log(a=1, b=torch.tensor([2.0]), c=numpy.float32(3), d=True, e=None)
        assert {name: points[0][1] for name, points in monitor.history.series.items()} == {"a": 1.0, "b": 2.0, "c": 3.0, "d": 1.0}
        with pytest.raises(UsageError, match=r"loss is a tensor of shape \(3,\); one number is expected: loss.mean\(\)"):
            monitor.log(loss=torch.ones(3))
        with pytest.raises(UsageError, match="loss is of type str"):
            monitor.log(loss="low")


def test_gates_are_counted() -> None:
    with gradnb.watch(mlp()) as monitor:
        for index in range(10):
            monitor.gate("memory", fired=index % 5 == 0)
            monitor.gate("never", fired=torch.tensor(False))
    assert monitor.history.gates == {"memory": (2, 10), "never": (0, 10)}


def test_the_end_of_an_epoch_is_one_line_in_the_form_of_the_field_reports(capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    agent, qwen = nn.Linear(6, 6), nn.Linear(6, 1)
    x, y = batch()
    optimizer = torch.optim.SGD([*agent.parameters(), *qwen.parameters()], lr=0.1)
    monitor = gradnb.watch({"agent": agent, "qwen": qwen})
    norms, losses = [], []
    for epoch in range(2):
        for _ in range(3):
            optimizer.zero_grad()
            loss = (qwen(x) + 0 * agent(x).detach().sum() - y).pow(2).mean()
            loss.backward()
            norms.append(float(torch.cat([p.grad.flatten() for p in qwen.parameters()]).norm()))
            losses.append(loss.item())
            optimizer.step()
            monitor.log(loss=loss, reward=0.0456, mask_ratio=0.2345)
            monitor.gate("memory", fired=epoch == 1)
        monitor.epoch()
    monitor.stop()
    first, second = capsys.readouterr().out.splitlines()
    means = [f"Qwen_grad: {sum(norms[at : at + 3]) / 3:.2e} | Loss: {sum(losses[at : at + 3]) / 3:.4f}" for at in (0, 3)]
    assert first == f"[Epoch 0] Agent_grad: 0.00e+00 | {means[0]} | Reward: +0.0456 | Mask_ratio: 0.2345 | memory: 0/3"
    assert second.startswith(f"[Epoch 1] Agent_grad: 0.00e+00 | {means[1]} | Reward: +0.0456 | Mask_ratio: 0.2345 | memory: 3/3")


def test_small_numbers_are_never_rounded_to_zero(capsys: pytest.CaptureFixture[str]) -> None:
    model = nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-9)
    with gradnb.watch(model) as monitor:
        (model(torch.randn(8, 4)).mean() * 1e-12).backward()
        optimizer.step()
        monitor.log(loss=3.21e-7)
        monitor.epoch(7)
    line = capsys.readouterr().out
    assert line.startswith("[Epoch 7] grad: ") and "e-12" in line and "Loss: 3.21e-07" in line
    assert "e-12" in repr(monitor)


def test_a_rule_of_ones_own_is_one_line() -> None:
    model = mlp()
    monitor = gradnb.watch(model)
    monitor.rule("hot", when="loss > 0.0001", text="the loss is above 0.0001", severity="info")
    monitor.rule("late", when=lambda view: view.step >= 3 and f"step {view.step} is late")
    monitor.rule("broken", when=lambda view: 1 / 0)
    train(model, monitor, steps=12)
    monitor.stop()
    flags = {flag.rule: flag for flag in monitor.flags}
    assert flags["hot"].text == "the loss is above 0.0001" and flags["hot"].severity == "info"
    assert flags["late"].first == 3 and flags["late"].active
    assert [text for _, kind, text in monitor.history.events if kind == "note"] == [
        "the rule broken failed and is switched off: ZeroDivisionError: division by zero"
    ]
    with pytest.raises(UsageError, match="severity"):
        monitor.rule("hot", when="loss > 1", severity="deadly")


def test_a_flag_is_raised_once_and_cleared_when_its_sign_has_ended() -> None:
    model = mlp()
    monitor = gradnb.watch(model)
    monitor.rule("early", when=lambda view: view.step <= 10)
    train(model, monitor, steps=60)
    monitor.stop()
    (flag,) = [flag for flag in monitor.flags if flag.rule == "early"]
    assert (flag.first, flag.last, flag.active, flag.cleared) == (1, 10, False, 40)


def test_a_flag_that_comes_back_soon_is_the_same_one_and_counts_its_times() -> None:
    model = mlp()
    monitor = gradnb.watch(model, updates=False)
    monitor.rule("swing", when=lambda view: (view.step // 50) % 2 == 0)
    train(model, monitor, steps=245)
    monitor.stop()
    (flag,) = [flag for flag in monitor.flags if flag.rule == "swing"]
    assert (flag.first, flag.active, flag.times) == (1, True, 3) and "there 3 times" in str(flag)


def test_a_view_answers_only_with_what_was_measured() -> None:
    model = mlp()
    asked: list[View] = []
    with gradnb.watch(model) as monitor:
        monitor.rule("look", when=lambda view: asked.append(view))
        train(model, monitor, steps=12)
        view = asked[0]
        assert view.last_steps("update", 2) == [3, 10] and len(view.last("norm", 100)) == 12
        assert view.layer(0, "norm", 3) == [value for _, value in monitor.history.of("0")[-3:]]
        assert view.value("reward") is None and view.series("reward", 5) == [] and view.gate("none") == (0, 0)
        assert view.models == [""] and view.step == view.count == 12


def test_tables(tmp_path: Path) -> None:
    model = mlp()
    with gradnb.watch(model) as monitor:
        train(model, monitor, steps=3, accuracy=float("nan"))
    monitor.to_csv(tmp_path / "layers.csv")
    with open(tmp_path / "layers.csv", newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert len(rows) == 9 and rows[0]["layer"] == "0" and float(rows[0]["norm"]) == monitor.history.of("0")[0][1]
    monitor.to_csv(tmp_path / "series.csv", "series")
    assert "loss" in (tmp_path / "series.csv").read_text()
    data = json.loads(monitor.to_json(tmp_path / "all.json"), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert data == json.loads((tmp_path / "all.json").read_text())
    assert data["series"]["accuracy"][0] == [1, "nan"] and data["steps"] == [1, 2, 3] and len(data["columns"]["norm"]) == 3
    with pytest.raises(UsageError, match="there is no table 'norms'; there are: layers, series, flags"):
        monitor.to_csv(tmp_path / "norms.csv", "norms")
    assert not (tmp_path / "norms.csv").exists()


def test_what_is_not_installed_is_said_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("pandas", "wandb", "tensorboard", "torch.utils.tensorboard"):
        monkeypatch.setitem(sys.modules, name, None)
    with gradnb.watch(mlp()) as monitor:
        for door, name in ((monitor.to_dataframe, "pandas"), (monitor.to_wandb, "wandb"), (monitor.to_tensorboard, "tensorboard")):
            with pytest.raises(UsageError, match=f"needs {name}, which is not installed: pip install {name}"):
                door()
        with pytest.raises(UsageError, match="takes a SummaryWriter, not something of type str"):
            monitor.to_tensorboard("runs")


class Writer:
    """The documented face of SummaryWriter and of a wandb run: what arrives, by name."""

    def __init__(self) -> None:
        self.scalars: list[tuple[str, float, int]] = []
        self.logged: list[dict[str, Any]] = []
        self.axes: list[Any] = []

    def add_scalar(self, name: str, value: float, step: int) -> None:
        self.scalars.append((name, value, step))

    def log(self, values: dict[str, Any]) -> None:
        self.logged.append(values)

    def define_metric(self, name: str, step_metric: str | None = None) -> None:
        self.axes.append((name, step_metric))


def test_boards_get_what_was_and_what_comes_each_number_once() -> None:
    model = mlp()
    board, run = Writer(), Writer()
    monitor = gradnb.watch(model)
    train(model, monitor, steps=3)
    assert monitor.to_tensorboard(board) is board and monitor.to_wandb(run) is run
    train(model, monitor, steps=3)
    monitor.log(last=1.0)
    monitor.stop()
    of_layer = [(value, step) for name, value, step in board.scalars if name == "gradients/0"]
    assert of_layer == [(value, step) for step, value in monitor.history.of("0")]
    for name in ("loss", "global_norm", "lr"):
        told = [(step, value) for told_name, value, step in board.scalars if told_name == name]
        assert told == monitor.history.series[name], name
    assert len(board.scalars) == len(set(board.scalars))
    assert [values["gradnb/step"] for values in run.logged] == sorted(values["gradnb/step"] for values in run.logged)
    assert ("gradnb/*", "gradnb/step") in run.axes
    assert [values["gradnb/gradients/0"] for values in run.logged if "gradnb/gradients/0" in values] == [value for value, _ in of_layer]


def test_a_panel_is_updated_at_most_four_times_a_second_and_its_fault_stops_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    class Panel:
        def __init__(self) -> None:
            self.updates = 0

        def of(self, monitor: Any) -> None: ...

        def clear(self) -> None: ...

        def update(self, history: Any, flags: Any) -> None:
            self.updates += 1
            if self.updates > 2:
                raise ValueError("no screen")

    panel, model = Panel(), mlp()
    monitor = gradnb.watch(model)
    monitor.attach(panel)
    train(model, monitor, steps=50)
    assert 1 <= panel.updates <= 3
    panel.updates = 2
    monitor.stop()
    assert monitor.history.step == 50 and "the display failed and is switched off: ValueError: no screen" in capsys.readouterr().err
