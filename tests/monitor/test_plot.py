"""The matplotlib figures of a monitor."""

from __future__ import annotations

import math
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import nn

import gradnb
from gradnb.errors import UsageError
from gradnb.monitor import History, Layer
from gradnb.monitor.flags import Flag
from gradnb.monitor.plot import KINDS, figure


def history(layers: int = 4, steps: int = 60) -> History:
    """Norms a power of ten apart; the last layer gets only zeros, and the one before it is NaN from step 41 on."""
    made = History([Layer(f"fc{i}", "", 100, [(10, 10)], held=True) for i in range(layers)])
    for step in range(1, steps + 1):
        norms = [10.0**-i for i in range(layers)]
        norms[-1] = 0.0
        norms[-2] = math.nan if step > 40 else norms[-2]
        row: dict[str, Any] = {"norm": norms}
        if step % 10 == 0:
            row["update"] = [norm * 1e-3 for norm in norms]
        made.put(step, row)
        made.log(step, "global_norm", 1.0)
        made.log(step, "loss", 1.0 / step)
    return made


FLAGS = [
    Flag("nan", "nan", "error", ["fc2"], 41, 60, {}, "", "", "the gradient of `fc2` is NaN", "", ""),
    Flag("plateau", "plateau", "info", [], 20, 30, {}, "", "", "the loss stays", "", "", active=False, cleared=33),
]


def said(axes: Any) -> list[str]:
    return [text.get_text() for text in axes.texts]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_drawn_with_flags_and_without_any_step(kind: str) -> None:
    figure(history(), FLAGS, kind).draw_without_rendering()
    empty = figure(History([Layer("fc0", "", 1, [(1,)])]), [], kind)
    assert "no optimizer step was seen yet" in said(empty.axes[0])


def test_an_unknown_kind_is_refused_with_those_there_are() -> None:
    model = nn.Linear(2, 1)
    with gradnb.watch(model, show=False) as monitor, pytest.raises(UsageError, match="no plot 'bars'; there are: 'all', 'norms'"):
        monitor.plot("bars")


def test_norms_are_a_line_a_layer_on_a_logarithmic_axis_and_the_rest_is_told() -> None:
    axes = figure(history(), [], "norms").axes[0]
    assert axes.get_yscale() == "log"
    lines = {str(line.get_label()): line for line in axes.lines}
    assert {"fc0", "fc1", "fc2"} <= set(lines) and "fc3" not in lines
    assert list(lines["fc1"].get_ydata()) == [0.1] * 60
    assert "fc2: NaN or Inf from step 41\nfc3: only zeros" in said(axes)


def test_flags_are_marked_at_their_step_and_listed_below() -> None:
    made = figure(history(), FLAGS, "norms")
    axes = made.axes[0]
    assert {"✗ 1", "i 2"} <= set(said(axes))
    dashed = [float(line.get_xdata()[0]) for line in axes.lines if len(set(line.get_xdata())) == 1 and len(line.get_xdata()) == 2]
    assert sorted(dashed) == [20.0, 41.0]
    listed = "\n".join(text.get_text() for text in made.texts)
    assert "1  error[nan] since step 41: the gradient of `fc2` is NaN" in listed
    assert "2  info[plateau] from step 20, ended by step 33: the loss stays" in listed


def test_the_first_bad_step_is_told_as_exactly_as_the_history_knows_it() -> None:
    exact = history(4, 200)
    assert "fc2: NaN or Inf from step 41\nfc3: only zeros" in said(figure(exact, [], "norms").axes[0])
    merged = next(text for text in said(figure(history(4, 2000), [], "norms").axes[0]) if "fc2" in text)
    first, last = (int(word) for word in merged.splitlines()[0].split() if word.isdigit())
    assert first <= 41 <= last


def test_update_ratios_stand_at_the_steps_where_they_were_measured() -> None:
    axes = figure(history(), [], "updates").axes[0]
    line = next(line for line in axes.lines if line.get_label() == "fc1")
    assert list(line.get_xdata()) == [10, 20, 30, 40, 50, 60]
    assert list(line.get_ydata()) == [1e-4] * 6
    bare = History([Layer("fc0", "", 1, [(1,)])])
    bare.put(1, {"norm": [1.0]})
    assert "no update ratio was measured: watch(..., updates=10)" in said(figure(bare, [], "updates").axes[0])


def test_the_heat_map_names_each_layer_and_says_zero_in_words() -> None:
    axes = figure(history(), [], "heat").axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["fc0", "fc1", "fc2", "fc3"]
    assert "zero " in said(axes)
    crosses = [line for line in axes.lines if line.get_marker() == "x"]
    assert [round(float(line.get_xdata()[0])) for line in crosses] == [41]


def test_flow_has_a_bar_a_layer_in_the_order_of_the_model() -> None:
    made = History([Layer(name, "", size, [(size,)]) for name, size in (("first", 100), ("middle", 400), ("last", 1))])
    for step in range(1, 11):
        made.put(step, {"norm": [1.0, 20.0 if step == 10 else 2.0, 0.0]})
    axes = figure(made, [Flag("no-gradient", "x", "error", ["last"], 1, 10, {}, "", "", "", "", "")], "flow").axes[0]
    assert axes.get_yscale() == "log"
    assert [label.get_text() for label in axes.get_xticklabels()] == ["first", "middle", "✗ last"]
    largest, mean = axes.containers
    assert [bar.get_height() for bar in largest][:2] == pytest.approx([0.1, 1.0])
    assert [bar.get_height() for bar in mean][:2] == pytest.approx([0.1, 0.19])
    assert "zero" in said(axes)


@pytest.mark.parametrize("kind", ["all", "flow"])
def test_many_layers_and_long_runs_stay_drawable(kind: str) -> None:
    made = figure(history(150, 700), FLAGS, kind)
    assert made.get_figheight() < 25
    made.draw_without_rendering()


def test_the_monitor_gives_a_figure_of_its_own_training() -> None:
    model = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with gradnb.watch(model, show=False) as monitor:
        for _ in range(5):
            optimizer.zero_grad()
            model(torch.ones(1, 2)).square().sum().backward()
            optimizer.step()
    made = monitor.plot()
    assert len([axes for axes in made.axes if axes.get_xlabel() == "optimizer step"]) == 4
    assert made.get_suptitle() == "monitor at step 5: no flag"
    assert made._repr_png_().startswith(b"\x89PNG")  # type: ignore[attr-defined]


def test_names_with_a_dollar_sign_are_no_formula() -> None:
    made = history()
    made.layers[0].name = "$x_1$ and $"
    for kind in ("all", "flow"):
        figure(made, FLAGS, kind).draw_without_rendering()


def test_matplotlib_loads_only_when_asked_for_and_pyplot_never() -> None:
    code = """
import sys, torch, gradnb
model = torch.nn.Linear(2, 1)
monitor = gradnb.watch(model, show=True)
repr(monitor); monitor._repr_html_()
assert "matplotlib" not in sys.modules
monitor.plot()
assert "matplotlib.pyplot" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)
