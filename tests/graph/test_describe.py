"""The picture in words: what a screen reader says and a terminal shows."""

from __future__ import annotations

import pytest
import torch
from sketch import Sketch
from test_fold import tower
from torch import nn

import gradnb
from gradnb.graph.describe import sentence, text
from gradnb.graph.fold.tree import fold
from gradnb.graph.model import Graph


def test_one_sentence_says_how_much_there_is_and_where_the_gradient_is_lost() -> None:
    s = tower(2, marked=1)
    said = sentence(s.graph, fold(s.graph))
    assert said == "Graph of step 1: 8 modules, 9 operations, 5 parameters. The gradient is lost at detach, line 12."


def test_the_sentence_counts_frozen_parameters_and_names_other_marks_by_their_word() -> None:
    s = Sketch(net="Linear")
    x = s.op("log", s.op("linear", s.input("x"), s.parameter("net", state="frozen"), module="net"), line=3)
    s.mark(x, "NaN", "line 3: log(…)")
    s.loss(x)
    assert sentence(s.graph, fold(s.graph)) == "Graph of step 1: 1 module, 2 operations, 1 parameter (1 frozen). Marked (NaN): log, line 3."


def test_the_sentence_says_what_is_left_out() -> None:
    s = tower(12)
    assert sentence(s.graph, fold(s.graph, focus="h.3")).endswith(
        " 29 operations, 19 parameters, 1 input and 1 loss away from h.3 are not shown."
    )


def test_many_lost_places_are_counted() -> None:
    s = Sketch()
    for i in range(5):
        s.mark(s.op("detach", s.input(f"x{i}")), text=f"line {i}: .detach()")
    assert "The gradient is lost at detach, line 0; detach, line 1; detach, line 2; and 2 more places." in sentence(s.graph, fold(s.graph))


def test_the_outline_shows_the_visible_boxes_with_states_shapes_and_the_marked_line() -> None:
    s = tower(6, marked=1)
    lines = text(s.graph, fold(s.graph, budget=10)).splitlines()
    assert lines[1:] == [
        "  x · 4×8",
        "  net · Net",
        "    h.0 · Block · + 3 operations  ← x  [no gradient]",
        "    h.1 · Block",
        "      ln · LayerNorm · weight 8×8  ← h.0  [no gradient]",
        "      fc · Linear · weight 8×8  [no gradient]",
        "      ✗ detach · 4×8  [lost (line 12: .detach())]",
        "      add · 4×8  ← h.0, detach  [no gradient]",
        "    h.2 … h.5 · Block × 4 · + 12 operations  [gradient norm 2.83]",
        "    head · Linear · weight 8×8  [gradient norm 1]",
        "  cross_entropy · 4×8",
        "  loss · 0.5",
    ]


def test_a_closed_box_tells_of_the_mark_inside() -> None:
    s = tower(3, marked=1)
    line = next(x for x in text(s.graph, fold(s.graph, depth=0)).splitlines() if "net" in x)
    assert line.startswith("  ✗ net") and "lost (line 12: .detach())" in line


def test_an_empty_graph_has_words_too() -> None:
    assert text(Graph(), fold(Graph())) == "Graph: 0 operations, 0 parameters."


def test_a_large_graph_stays_short() -> None:
    s = tower(700, marked=350)
    assert len(text(s.graph, fold(s.graph)).splitlines()) < 45


def test_a_recorded_step_reads_from_the_input_to_the_loss_with_the_cut_between() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = nn.Sequential(nn.Linear(8, 16), nn.ReLU())
            self.head = nn.Linear(16, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            h = self.encoder(x)
            return self.head(h.detach())

    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    x, y = torch.randn(4, 8), torch.randint(3, (4,))
    with gradnb.check() as report:
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    graph = report.graph.graphs[0]
    lines = [line.split("  ←")[0].strip() for line in text(graph, fold(graph)).splitlines()]
    order = [next(i for i, line in enumerate(lines[1:]) if start in line) for start in ("x · 4×8", "encoder", "✗ detach", "head", "loss")]
    assert order == sorted(order)
    assert "The gradient is lost at detach" in lines[0]
    assert any(line.startswith("0 · Linear · weight 16×8, bias 16") and "no gradient" in line for line in text_lines(graph))


def text_lines(graph: Graph) -> list[str]:
    return [line.strip() for line in text(graph, fold(graph)).splitlines()]


@pytest.mark.parametrize("blocks", [1, 40])
def test_every_line_is_of_readable_length(blocks: int) -> None:
    s = tower(blocks)
    assert all(len(line) < 140 for line in text(s.graph, fold(s.graph)).splitlines())


def test_a_name_that_holds_an_escape_or_a_line_break_does_not_reach_the_terminal() -> None:
    s = Sketch(net="Linear")
    x = s.op("linear", s.input("x\nfake: all is well"), module="net", name="a\x1b[31mred")
    s.mark(x, "lost", "line 3: \x1b[2Jdetach")
    s.loss(x)
    tree = fold(s.graph)
    said = text(s.graph, tree) + sentence(s.graph, tree)
    assert "\x1b" not in said and "\nfake" not in said and "x fake: all is well" in said
