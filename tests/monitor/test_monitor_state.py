"""A monitor's state for a checkpoint: what was seen before the cut and after it is one history."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader
from witness import batch, mlp, norm, same

import gradnb
from gradnb.errors import UsageError


class Training:
    """A model whose every step depends on nothing but its number, so that it can be cut anywhere."""

    def __init__(self, **options: Any):
        self.model = mlp()
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.05)
        self.options = {"updates": 2} | options
        self.monitor = gradnb.watch(self.model, **self.options)
        self.done = 0

    def steps(self, count: int) -> Training:
        for _ in range(count):
            self.done += 1
            x, y = batch(self.done)
            self.optimizer.zero_grad()
            loss = (self.model(x) - y).pow(2).mean()
            loss.backward()
            self.optimizer.step()
            self.monitor.log(loss=loss if self.done != 3 else float("nan"), reward=-1.0)
            self.monitor.gate("memory", fired=self.done % 3 == 0)
        return self

    def cut(self) -> Training:
        """Goes on under another monitor, which knows only what a file can hold."""
        text = json.dumps(self.monitor.state_dict())
        self.monitor.stop()
        self.monitor = gradnb.watch(self.model, **self.options)
        self.monitor.load_state_dict(json.loads(text))
        return self


def told(training: Training) -> dict[str, Any]:
    found = json.loads(training.monitor.to_json())
    return {name: value for name, value in found.items() if name != "events"}


@pytest.mark.parametrize("at", [1, 14, 500])
def test_a_training_that_was_cut_has_the_history_of_one_that_was_not(at: int) -> None:
    assert told(Training().steps(at).cut().steps(700 - at)) == told(Training().steps(700))


def test_it_can_be_cut_again_and_again_and_still_counts_each_tenth_step() -> None:
    cut = Training(every=10)
    for _ in range(6):
        cut.cut().steps(17)
    assert cut.monitor.history.steps == list(range(1, 103, 10))
    assert told(cut) == told(Training(every=10).steps(102))


def test_a_cut_between_backward_and_step_loses_no_step_number() -> None:
    training = Training().steps(4)
    x, y = batch()
    (training.model(x) - y).pow(2).mean().backward()
    training.cut().optimizer.step()
    assert training.monitor.history.step == 5
    assert training.steps(3).monitor.history.step == 8


def test_a_flag_that_was_active_stays_the_same_flag() -> None:
    training = Training().steps(220)
    (before,) = [flag for flag in training.monitor.flags if flag.rule == "reward-negative"]
    assert before.active
    training.cut().steps(50)
    (after,) = [flag for flag in training.monitor.flags if flag.rule == "reward-negative"]
    assert after.active and after.last == 270
    assert (after.first, after.times, after.reason, after.advice) == (before.first, 1, before.reason, before.advice)


def test_the_means_of_an_epoch_are_those_of_all_its_steps(capsys: pytest.CaptureFixture[str]) -> None:
    lines = []
    for training in (Training().steps(5), Training().steps(5).cut()):
        training.steps(5).monitor.epoch()
        lines.append(capsys.readouterr().out)
    assert lines[0] == lines[1] and lines[0].startswith("[Epoch 0] grad: ")


def test_the_plot_shows_the_steps_before_the_cut_and_after_it() -> None:
    figure = Training().steps(40).cut().steps(40).monitor.plot(kind="norms")
    drawn = [line.get_xdata() for axes in figure.axes for line in axes.lines]
    assert any(len(x) == 80 and min(x) == 1 and max(x) == 80 for x in drawn)


def test_a_checkpointer_that_tracks_it_goes_on_with_its_history(tmp_path: Path) -> None:
    for last in (12, 20):
        training = Training()
        checkpointer = gradnb.Checkpointer(tmp_path, every=5)
        checkpointer.track(model=training.model, optimizer=training.optimizer, monitor=training.monitor)
        for _ in checkpointer.loop(DataLoader(range(5)), epochs=4):
            training.done = training.monitor.history.step
            training.steps(1)
            if training.done == last:
                break
    assert told(training) == told(Training().steps(20))
    assert [event[:2] for event in training.monitor.history.events] == [(10, "resumed")]


def test_a_monitor_that_was_stopped_goes_on_as_one_that_runs() -> None:
    training = Training().steps(5)
    training.monitor.stop()
    events = training.cut().steps(1).monitor.history.events
    assert [(step, kind) for step, kind, _ in events] == [(5, "resumed")]


def test_layers_are_matched_by_name_and_those_that_differ_are_named_in_one_line() -> None:
    first = gradnb.watch({"agent": nn.Linear(2, 2), "critic": nn.Linear(2, 2)})
    first.history.put(1, {"norm": [1.0, 2.0]})
    state = json.loads(json.dumps(first.state_dict()))
    first.stop()
    other = gradnb.watch({"judge": nn.Linear(2, 2), "critic": nn.Linear(2, 2)})
    other.load_state_dict(state)
    assert other.history.of("critic") == [(1, 2.0)]
    assert other.history.of("judge") == []
    notes = [text for _, kind, text in other.history.events if kind == "note"]
    assert notes == ["other layers than in the saved history. without a past: judge; no longer watched: agent"]
    assert notes[0] in other.summary()


def test_two_optimizers_are_known_again_and_count_once() -> None:
    torch.manual_seed(0)
    pair = nn.ModuleDict({"maker": nn.Linear(2, 2), "judge": nn.Linear(2, 2)})
    optimizers = [torch.optim.SGD(one.parameters(), lr=0.1) for one in pair.values()]
    expected: list[float] = []

    def steps(count: int) -> None:
        for _ in range(count):
            pair["judge"](pair["maker"](torch.ones(1, 2))).pow(2).sum().backward()
            expected.append(norm(pair["judge"].parameters()))
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad()

    first = gradnb.watch(pair, updates=True)
    steps(4)
    state = first.state_dict()
    first.stop()
    second = gradnb.watch(pair, updates=True)
    second.load_state_dict(state)
    steps(4)
    assert second.history.steps == [1, 2, 3, 4, 5, 6, 7, 8]
    same(second, "judge", expected, "weight")


def test_numbers_that_are_not_finite_come_back() -> None:
    model = nn.Linear(2, 2)
    monitor = gradnb.watch(model)
    monitor.history.put(1, {"norm": [math.nan]})
    monitor.history.put(2, {"norm": [math.inf]})
    monitor.log(loss=math.nan)
    state = json.loads(json.dumps(monitor.state_dict()))
    monitor.load_state_dict(state)
    (_, first), (_, second) = monitor.history.of("Linear")
    assert math.isnan(first) and second == math.inf
    assert math.isnan(monitor.history.series["loss"][0][1])


def test_the_state_stays_small_however_many_layers_steps_and_series_there_are() -> None:
    monitor = gradnb.watch(nn.Sequential(*[nn.Linear(1, 1) for _ in range(1000)]))
    values = [1.0 / (1 + index) for index in range(1000)]
    for step in range(1, 700):
        monitor.history.put(step, {"norm": [value * step for value in values], "weight": values, "update": values})
        for name in range(60):
            monitor.log(**{f"series {name}": float(step)})
    for _ in range(1200):
        monitor.history.event(699, "note", "something was said about a layer " * 3)
    text = json.dumps(monitor.state_dict())
    assert len(text) < 2_200_000
    largest = max(value for _, value in monitor.history.of("0"))
    monitor.load_state_dict(json.loads(text))
    assert max(value for _, value in monitor.history.of("0")) == largest == 699.0
    assert monitor.history.steps[0] == 1 and monitor.history.step == 699 and monitor.history.count == 699
    assert monitor.history.series["series 7"][-1][1] == 699.0


@pytest.mark.parametrize(
    ("state", "said"),
    [
        (None, "given: a NoneType without a schema"),
        ({"weight": 1}, "given: a dict without a schema"),
        ({"schema": 99}, "given: schema 99, of another version of gradnb"),
        ({"schema": 1}, "damaged, nothing was taken over (KeyError: 'history')"),
    ],
)
def test_what_is_no_state_is_refused_with_a_sentence(state: Any, said: str) -> None:
    training = Training().steps(2)
    with pytest.raises(UsageError) as error:
        training.monitor.load_state_dict(state)
    assert said in str(error.value)
    assert training.steps(2).monitor.history.step == 4


def test_a_state_that_is_damaged_inside_changes_nothing() -> None:
    training = Training().steps(5)
    state = training.monitor.state_dict()
    state["history"]["rows"][2]["low"]["norm"] = "####"
    training.steps(5)
    before = told(training)
    with pytest.raises(UsageError, match="damaged, nothing was taken over"):
        training.monitor.load_state_dict(state)
    assert told(training) == before


def test_a_layer_that_was_unfrozen_before_the_state_is_loaded_has_its_past() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    first = gradnb.watch(model)
    first.history.put(1, {"norm": [1.0, 2.0]})
    state = first.state_dict()
    first.stop()
    model[1].requires_grad_(False)
    second = gradnb.watch(model)
    model[1].requires_grad_(True)
    second.load_state_dict(state)
    assert second.history.of("1") == [(1, 2.0)]
    assert not [text for _, kind, text in second.history.events if kind == "note"]
