"""The live panel: one output a cell, seldom enough, readable in every state; and one line in a terminal."""

from __future__ import annotations

import base64
import io
import math
import re
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from notebook_shell import Notebook
from torch import nn

import gradnb
from gradnb.errors import UsageError
from gradnb.monitor import History, Layer
from gradnb.monitor.flags import Flag
from gradnb.monitor.frame import bundle
from gradnb.monitor.panel import NotebookPanel, TerminalPanel

SET_UP = """
import torch
from torch import nn
import gradnb
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
def train(steps, fail=None, at=None):
    for step in range(steps):
        if step == at:
            raise fail
        loss = model(torch.randn(8, 4)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        monitor.log(loss=loss)
"""


@pytest.fixture
def notebook() -> Iterator[Notebook]:
    made = Notebook()
    assert made.run(SET_UP) is None
    yield made
    made.run("monitor.stop()")
    made.close()


def history(layers: int = 3, steps: int = 50, **rows: Any) -> History:
    """Layers called "fc0", "fc1", ...; ``row(step, layer)`` gives the norm."""
    row = rows.get("row", lambda step, layer: 10.0 ** -(layer + step / steps))
    made = History([Layer(f"fc{i}", "", 100, [(10, 10)], held=True) for i in range(layers)])
    for step in range(1, steps + 1):
        values = [row(step, layer) for layer in range(layers)]
        made.put(step, {"norm": values})
        made.log(step, "global_norm", math.sqrt(sum(value * value for value in values)))
        made.log(step, "loss", 1.0 / step)
    return made


def flag(**given: Any) -> Flag:
    base: dict[str, Any] = {"rule": "vanishing", "key": "vanishing:", "severity": "warning", "layers": ["fc1"], "first": 20, "last": 50}
    words = {
        "numbers": {},
        "threshold": "",
        "source": "",
        "text": "`fc1` gets next to nothing",
        "reason": "It stands still.",
        "advice": "ReLU.",
    }
    return Flag(**{**base, **words, **given})


def svg(page: str) -> ElementTree.Element:
    """The picture, parsed: it is well-formed XML."""
    return ElementTree.fromstring(page[page.index("<svg") : page.index("</svg>") + 6])


def words(element: ElementTree.Element) -> list[str]:
    return [node.text or "" for node in element.iter("{http://www.w3.org/2000/svg}text")]


class Clock:
    """Time that passes only when the test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


# in a notebook


def test_a_watched_training_shows_one_output_below_the_cell_that_trains(notebook: Notebook) -> None:
    assert notebook.run("monitor = gradnb.watch(model)") is None
    assert not notebook.shown.outputs, "before the first step there is nothing to show"
    assert notebook.run("train(30)") is None
    assert len(notebook.texts) == 1
    assert notebook.texts[0].startswith("monitor at step 30: no flag\nloss ")
    assert "<svg" in notebook.pages[0] and "<script" not in notebook.pages[0]


def test_each_cell_that_trains_has_an_output_of_its_own_and_the_older_one_stands(notebook: Notebook) -> None:
    notebook.run("monitor = gradnb.watch(model)\ntrain(10)")
    first = notebook.texts[0]
    notebook.run("train(5)")
    notebook.run("1 + 1")
    assert len(notebook.texts) == 2
    assert notebook.texts[0] == first and "at step 10:" in first
    assert "at step 15:" in notebook.texts[1]


def test_stopping_in_another_cell_makes_no_new_output(notebook: Notebook) -> None:
    notebook.run("monitor = gradnb.watch(model)\ntrain(10)")
    notebook.run("monitor.stop()")
    assert len(notebook.texts) == 1
    assert notebook.texts[0].startswith("monitor, stopped at step 10:")


def test_an_interrupt_and_an_error_are_named_with_the_last_step(notebook: Notebook) -> None:
    notebook.run("monitor = gradnb.watch(model)")
    assert isinstance(notebook.run("train(20, KeyboardInterrupt(), at=12)"), KeyboardInterrupt)
    assert notebook.texts[0].startswith("monitor, interrupted at step 12:")
    assert isinstance(notebook.run("train(20, ValueError('no'), at=3)"), ValueError)
    assert notebook.texts[1].startswith("monitor, ended by ValueError at step 15:")
    notebook.run("monitor.stop()")
    assert "ended by ValueError" in notebook.texts[1], "why it ended says more than that it was stopped"


def test_an_interrupt_inside_a_with_block_is_named_too(notebook: Notebook) -> None:
    notebook.run("with gradnb.watch(model) as monitor:\n    train(20, KeyboardInterrupt(), at=7)")
    assert [text.partition(":")[0] for text in notebook.texts] == ["monitor, interrupted at step 7"]


def test_outputs_that_the_users_loop_clears_leave_the_last_frame(notebook: Notebook) -> None:
    notebook.run("from IPython.display import clear_output, display\nmonitor = gradnb.watch(model)")
    notebook.run("for epoch in range(5):\n    train(10)\n    clear_output(wait=True)\n    display(epoch)")
    assert notebook.texts[0] == "4"
    assert [text.partition(":")[0] for text in notebook.texts[1:]] == ["monitor at step 50"]
    notebook.run("monitor.stop()")
    assert not notebook.shown.hooks


def test_show_false_shows_nothing_and_a_wrong_show_is_refused(notebook: Notebook) -> None:
    notebook.run("monitor = gradnb.watch(model, show=False)\ntrain(10)")
    assert not notebook.shown.outputs
    with pytest.raises(UsageError, match="show='yes': give True, False"):
        gradnb.watch(nn.Linear(2, 2), show="yes")  # type: ignore[arg-type]


def test_nothing_stays_registered_in_the_shell_after_the_monitor_has_stopped(notebook: Notebook) -> None:
    before = {name: len(hooks) for name, hooks in notebook.shell.events.callbacks.items()}
    notebook.run("monitor = gradnb.watch(model)\ntrain(3)")
    assert len(notebook.shell.events.callbacks["post_run_cell"]) == before["post_run_cell"] + 1
    notebook.run("monitor.stop()")
    assert {name: len(hooks) for name, hooks in notebook.shell.events.callbacks.items()} == before


def test_a_display_that_fails_is_one_line_and_the_training_goes_on(notebook: Notebook, capsys: pytest.CaptureFixture[str]) -> None:
    def broken(**_: Any) -> None:
        raise OSError("the front end is gone")

    notebook.shown.publish = broken  # type: ignore[method-assign, assignment]
    assert notebook.run("monitor = gradnb.watch(model)\ntrain(30)") is None
    assert notebook.shell.user_ns["monitor"].history.step == 30
    said = [line for line in capsys.readouterr().err.splitlines() if "gradnb" in line]
    assert len(said) <= 2 and "the front end is gone" in said[0]


def test_training_is_the_same_bit_for_bit_with_the_panel(notebook: Notebook) -> None:
    def result(watch: str) -> list[Any]:
        notebook.run("monitor = gradnb.watch(nn.Linear(1, 1), show=False)")
        notebook.run(SET_UP + watch + "\ntrain(40)\nlast = [p.detach().clone() for p in model.parameters()] + [torch.rand(1)]")
        found: list[Any] = notebook.shell.user_ns["last"]
        return found

    assert all(torch.equal(a, b) for a, b in zip(result(""), result("monitor = gradnb.watch(model)")))


# how often


def test_there_are_at_most_four_frames_a_second(notebook: Notebook) -> None:
    clock = Clock()
    panel = NotebookPanel(notebook.shell, clock)
    made = history(steps=1)
    for step in range(2, 1002):  # ten seconds of a hundred steps each
        clock.now += 0.01
        made.put(step, {"norm": [1.0, 1.0, 1.0]})
        panel.update(made, [])
    assert 38 <= notebook.shown.sent <= 41
    assert len(notebook.shown.outputs) == 1


def test_a_frame_that_takes_long_is_drawn_less_often(notebook: Notebook) -> None:
    clock = Clock()
    panel = NotebookPanel(notebook.shell, clock)
    slow = notebook.shown.publish

    def publish(**data: Any) -> None:
        clock.now += 0.1
        slow(**data)

    notebook.shown.publish = publish  # type: ignore[method-assign, assignment]
    made = history(steps=1)
    for step in range(2, 3002):
        clock.now += 0.01
        made.put(step, {"norm": [1.0, 1.0, 1.0]})
        panel.update(made, [])
    assert 2 <= notebook.shown.sent <= 5, "a tenth of a second for each ten"


def test_a_frame_is_cheap() -> None:
    made = history(100, 256, row=lambda step, layer: 1.0 + math.sin(step * layer))
    best = min(_seconds(made) for _ in range(30))
    assert best < 0.02, "1 to 2 ms here; a matplotlib frame takes 170"


def _seconds(made: History) -> float:
    begin = time.perf_counter()
    bundle(made, [flag()], live=True)
    return time.perf_counter() - begin


# what a frame says


def test_the_picture_names_layers_and_newest_norms_and_never_rounds_to_zero() -> None:
    data = bundle(history(3, 50), [])
    said = words(svg(data["text/html"]))
    assert {"fc0", "fc1", "fc2", "global norm", "loss", "optimizer step", "50"} <= set(said)
    assert {"1.00e-01", "1.00e-02", "1.00e-03"} <= set(said)
    assert "1.00e-03" in data["text/plain"] and "fc2" in data["text/plain"]
    tiny = bundle(history(1, 20, row=lambda step, layer: 3e-30), [])
    assert "3.00e-30" in tiny["text/plain"] and "3.00e-30" in words(svg(tiny["text/html"]))


def test_a_flag_stands_at_its_step_with_sign_number_and_words() -> None:
    page = bundle(history(3, 50), [flag(), flag(rule="nan", key="nan", severity="error", layers=["fc2"], first=40)])["text/html"]
    said = words(svg(page))
    assert "✗ 1" in said and "! 2" in said, "the worst comes first"
    assert "✗ fc2" in said and "! fc1" in said
    places = [float(x) for x in re.findall(r'd="M([\d.]+) [\d.]+V', page)]
    assert places == sorted(places) and len(places) == 2, "step 20 stands left of step 40"
    text = re.sub(r"<[^>]+>", "", page)
    assert "since step 20: fc1 gets next to nothing" in text and "Why: It stands still." in text and "Try: ReLU." in text


def test_ended_flags_of_one_kind_are_one_line_and_counted() -> None:
    ended = [flag(active=False, first=i, last=i, cleared=i + 1) for i in range(2, 40)]
    data = bundle(history(3, 50), ended)
    assert data["text/plain"].startswith("monitor at step 50: no flag, 38 ended\n")
    assert data["text/html"].count("gradnb-flag gradnb-warning") == 1
    assert "from step 39, ended by step 40" in data["text/html"]


def test_zero_and_nan_look_and_read_like_nothing_else() -> None:
    made = history(3, 50, row=lambda step, layer: (1.0, 0.0, math.nan if step > 30 else 1.0)[layer])
    data = bundle(made, [])
    said = words(svg(data["text/html"]))
    assert {"zero", "NaN or Inf", "nan", "0.00e+00"} <= set(said)
    rows = {line.split()[0]: line for line in data["text/plain"].splitlines() if line.startswith("fc")}
    assert "0000" in rows["fc1"] and rows["fc2"].count("✗") >= 10 and "✗" not in rows["fc0"]


def test_the_heat_map_has_one_colour_for_each_layer_and_stretch_of_steps() -> None:
    made = history(2, 40, row=lambda step, layer: 0.0 if layer else 10.0 ** (step // 10))
    pixels = _pixels(svg(bundle(made, [])["text/html"]))
    top, bottom = pixels[: len(pixels) // 2], pixels[len(pixels) // 2 :]
    assert len({pixel for pixel in top[0]}) == 5, "five powers of ten"
    assert list(top[0]) == sorted(top[0]), "and each larger one has a higher colour"
    assert {pixel for row in bottom for pixel in row} == {0, 1}, "a layer of zeros has the colour of zero only, as a thin line"


def _pixels(picture: ElementTree.Element) -> list[bytes]:
    import zlib

    images = [node.get("href") or "" for node in picture.iter("{http://www.w3.org/2000/svg}image")]
    data = max((base64.b64decode(href.partition(",")[2]) for href in images if href.startswith("data:image/png")), key=len)
    width = int.from_bytes(data[16:20], "big")
    body = zlib.decompress(data[data.index(b"IDAT") + 4 : data.index(b"IEND") - 8])
    return [body[i + 1 : i + width + 1] for i in range(0, len(body), width + 1)]


def test_a_peak_of_one_step_in_ten_thousand_is_still_seen() -> None:
    made = history(1, 10_000, row=lambda step, layer: 1e6 if step == 4321 else 1.0)
    row = next(line for line in bundle(made, [])["text/plain"].splitlines() if line.startswith("fc0"))
    assert "█" in row and row.count("█") <= 3


@pytest.mark.parametrize("layers", [1, 30, 100, 700])
def test_any_number_of_layers_and_steps_stays_under_100_kb(layers: int) -> None:
    made = history(layers, 600, row=lambda step, layer: 1.0 + math.sin(step * (layer + 1)))
    flags = [flag(rule=f"rule-{i}", key=str(i), text="`fc1` says a lot " * 30, first=i + 1) for i in range(40)]
    data = bundle(made, flags)
    assert len(data["text/html"].encode()) + len(data["text/plain"].encode()) < 100_000
    height = float(svg(data["text/html"]).get("height") or 0)
    assert height < 760
    if layers > 40:
        assert f"+ {layers - 40} layers" in data["text/plain"]


def test_hostile_names_and_texts_are_shown_as_text() -> None:
    made = history(2, 30)
    made.layers[0].name = '<img src=x onerror="alert(1)">&\x1b[31m'
    made.log(30, "<script>", 1.0)
    page = bundle(made, [flag(text="<script>alert(1)</script>", layers=[made.layers[0].name])])["text/html"]
    svg(page)
    assert "<script" not in page and "<img src=x" not in page and "\x1b" not in page


def test_the_picture_has_a_role_and_a_label_and_an_image_for_who_strips_svg() -> None:
    page = bundle(history(), [flag()])["text/html"]
    picture = svg(page)
    assert picture.get("role") == "img"
    assert picture.get("aria-label") == "Gradient norms of 3 layers up to step 50, 1 flag: vanishing"
    still = re.search(r'<img class="gradnb-still" alt="([^"]+)"[^>]+src="data:image/svg\+xml;base64,([^"]+)"', page)
    assert still and still.group(1) == "monitor at step 50: 1 flag (1 warning)"
    assert "currentColor" not in base64.b64decode(still.group(2)).decode()


def test_layers_and_series_that_begin_late_are_drawn() -> None:
    made = history(2, 20)
    made.layers.append(Layer("late", "", 5, [(5,)]))
    for step in range(21, 40):
        made.put(step, {"norm": [1.0, 1.0, 0.5]})
        made.log(step, "accuracy", -math.inf if step == 30 else 0.5)
    data = bundle(made, [])
    assert {"late", "accuracy"} <= set(words(svg(data["text/html"])))
    row = next(line for line in data["text/plain"].splitlines() if line.startswith("late"))
    assert row.startswith("late  " + " " * 15), "not measured is not zero"


def test_the_monitor_itself_is_shown_as_html() -> None:
    model = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with gradnb.watch(model, show=False) as monitor:
        assert "no optimizer step was seen yet" in monitor._repr_html_()
        model(torch.ones(1, 2)).sum().backward()
        optimizer.step()
    assert "monitor, stopped at step 1: no flag" in monitor._repr_html_()


# in a terminal


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_has_one_line_that_rewrites_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    clock, stream = Clock(), Terminal()
    panel = TerminalPanel(stream, clock)
    made = history(3, 10)
    for _ in range(100):
        clock.now += 0.1
        panel.update(made, [flag(text="long " * 50)])
    made.event(10, "stopped", "")
    panel.update(made, [flag(text="long " * 50)])
    frames = stream.getvalue().split("\r\x1b[K")[1:]
    assert 30 <= len(frames) <= 42
    assert all("\n" not in frame and len(frame) < 100 for frame in frames[:-1])
    assert re.match(r"gradnb: step 10  loss 0\.1000  \|g\| \d\.\d\de[-+]\d\d  [▁-█]+  warning\[vanishing\] since step 20$", frames[0])
    assert frames[-1].startswith("gradnb: step 10 stopped") and frames[-1].endswith("\n")


def test_where_nothing_can_be_rewritten_only_the_last_line_is_written() -> None:
    stream = io.StringIO()
    panel = TerminalPanel(stream)
    made = history(3, 10)
    panel.update(made, [])
    assert not stream.getvalue()
    made.event(10, "stopped", "")
    panel.update(made, [])
    assert stream.getvalue().count("\n") == 1 and "no flag" in stream.getvalue()


def test_the_line_makes_room_for_the_end_of_an_epoch(capsys: pytest.CaptureFixture[str]) -> None:
    stream = Terminal()
    model = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    monitor = gradnb.watch(model, show=False)
    monitor.attach(TerminalPanel(stream))
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    monitor.epoch()
    before = stream.getvalue()
    monitor.epoch()
    assert before.endswith("no flag") and stream.getvalue().startswith(before + "\r\x1b[K")
    assert capsys.readouterr().out.startswith("[Epoch 0]")
    monitor.stop()
