"""The static picture, read as text and as XML."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from base64 import b64decode
from pathlib import Path
from xml.etree import ElementTree

import handmade
import pytest
from trees import drawn, wild

from gradnb.graph.draw.order import order
from gradnb.graph.draw.svg import LEAST, draw, figure, standing_alone
from gradnb.graph.model import Graph, Mark, Tree
from gradnb.recorder.recording import Location
from gradnb.report.pen import BLUE, VERMILLION, standalone

SVG = "{http://www.w3.org/2000/svg}"


def parsed(picture: str) -> ElementTree.Element:
    return ElementTree.fromstring(picture)


def texts(picture: str) -> list[str]:
    return [element.text or "" for element in parsed(picture).iter(f"{SVG}text")]


def titles(picture: str) -> list[str]:
    return [element.text or "" for element in parsed(picture).iter(f"{SVG}title")]


def lost() -> tuple[Graph, Tree]:
    graph = handmade.graph()
    return graph, handmade.tree(graph)


def test_the_marked_node_has_its_word_its_line_and_a_cross() -> None:
    picture = draw(*lost())
    told = texts(picture)
    at = told.index("lost here")
    assert told[at : at + 4] == ["lost here", "detach", "32×16", "line 4: .detach()"]
    assert picture.count("<circle") == 2  # one on the line, one in the legend
    assert "the gradient is lost here" in told
    assert "detach is marked lost here, line 4: .detach()" in parsed(picture).attrib["aria-label"]


def test_lost_lines_are_dashed_and_the_cross_stands_at_their_end() -> None:
    picture = draw(*lost())
    group = next(g for g in parsed(picture).iter(f"{SVG}g") if g.get("stroke-dasharray") and g.get("fill") == "none")
    path = next(path for path in group.iter(f"{SVG}path") if (path[0].text or "").startswith("encoder → detach: cut here"))
    assert group.get("stroke") == VERMILLION
    x, y = _end(path)
    circle = next(parsed(picture).iter(f"{SVG}circle"))
    assert abs(float(circle.get("cx", 0)) - x) <= 1 and 0 < y - float(circle.get("cy", 0)) < 14


def _end(path: ElementTree.Element) -> tuple[float, float]:
    """The last point of a path that ends straight down."""
    numbers = re.findall(r"\d+", path.get("d", ""))
    assert re.search(r"V\d+$", path.get("d", ""))
    return float(numbers[-3] if "C" in path.get("d", "") else numbers[0]), float(numbers[-1])


def test_every_box_and_every_line_has_a_title_with_facts() -> None:
    graph, tree = lost()
    picture = draw(graph, tree, legend=False)
    root = parsed(picture)
    for path in root.iter(f"{SVG}path"):
        if len(path.get("d", "")) and path.get("fill") is None and path.get("stroke") is None:
            assert path.find(f"{SVG}title") is not None
    for text in root.iter(f"{SVG}text"):
        assert any(text in list(g) and g.find(f"{SVG}title") is not None for g in root.iter(f"{SVG}g"))
    linear = next(title for title in titles(picture) if title.startswith("linear, operation"))
    for fact in ("in encoder (Linear)", "32×16 float32", "requires grad", "grad_fn AddmmBackward0", "cell [3], line 4", "self.encoder(x)"):
        assert fact in linear
    assert any(title == "linear → out of encoder: cut here, the gradient is lost" for title in titles(picture))
    assert any(
        title.startswith("head, Linear\n1 operation and 1 parameter\na gradient arrives, norm 2.50e-01") for title in titles(picture)
    )


def test_states_are_told_without_colour() -> None:
    def shape(state: str, trainable: bool) -> tuple[str, list[str]]:
        graph, tree = drawn(["w", "a"], "w>a", w={"state": state, "trainable": trainable})
        root = parsed(draw(graph, tree, legend=False))
        group = next(
            g for g in root.iter(f"{SVG}g") if (title := g.find(f"{SVG}title")) is not None and (title.text or "").startswith("w,")
        )
        look = next(group.iter(f"{SVG}rect"))
        return " ".join(str(look.get(key)) for key in ("fill-opacity", "stroke-dasharray")) + str(look.get("fill") == "none"), [
            text.text or "" for text in group.iter(f"{SVG}text")
        ]

    shapes = {shape("flows", True)[0], shape("frozen", False)[0], shape("starved", True)[0]}
    assert len(shapes) == 3
    assert shape("frozen", False)[1] == ["w", "frozen"]
    assert shape("starved", True)[1] == ["w", "no gradient"]
    assert shape("zero", True)[1] == ["w", "zero gradient"]
    assert shape("flows", True)[1] == ["w"]


def test_folds_say_how_much_they_hold_and_show_that_there_is_more() -> None:
    graph, tree = drawn(["x", ("h", ["a", "b"]), "loss"], "x>a a>b b>loss")
    opened = draw(graph, tree)
    tree.boxes[2].open, tree.boxes[2].detail = False, "Block · + 2 operations"
    shut = draw(graph, tree)
    assert "Block · + 2 operations" in texts(shut) and "closed: more inside" in texts(shut)
    assert "closed: more inside" not in texts(opened) and "a" in texts(opened) and "a" not in texts(shut)
    tree.boxes[2].kind = "repeat"
    assert "equal blocks, one after the other" in texts(draw(graph, tree))


def test_the_legend_tells_only_what_occurs_and_the_foot_what_is_left_out() -> None:
    graph, tree = drawn(["w", "a", "loss"], "w>a a>loss")
    tree.left_out = ["+ 7 operations outside of encoder"]
    graph.notes = ["3 parameters of other models are left out"]
    told = texts(draw(graph, tree))
    assert told[-4:] == [
        "data goes down, its gradient comes back",
        "parameter that gets a gradient",
        "+ 7 operations outside of encoder",
        "3 parameters of other models are left out",
    ]
    assert texts(draw(graph, tree, legend=False)) == ["w", "a", "loss"]


def test_a_region_without_gradients_is_dotted() -> None:
    graph, tree = drawn(
        ["x", ("no_grad", ["a", "b"]), "loss"], "x>a:data a>b:data b>loss:data", a={"region": "no_grad"}, b={"region": "no_grad"}
    )
    dots = 'stroke-dasharray="0.1 4.5"'
    assert draw(graph, tree, legend=False).count(dots) == 1 and "gradients were switched off" in texts(draw(graph, tree))
    tree.boxes[2].open = False
    assert draw(graph, tree, legend=False).count(dots) == 1
    graph.nodes[1].region = ""
    assert dots not in draw(graph, tree)


def test_a_wider_line_is_a_larger_norm() -> None:
    graph, tree = drawn(["a", "b", "c"], "a>b b>c")
    graph.edges[0].norm, graph.edges[1].norm = 1e-3, 10.0
    order(graph, tree)
    picture = draw(graph, tree)
    widths = {path[0].text: path.get("stroke-width") for path in parsed(picture).iter(f"{SVG}path") if len(path)}
    assert widths == {"a → b: a gradient comes back, norm 1.00e-03": "1.2", "b → c: a gradient comes back, norm 1.00e+01": "4.0"}
    assert "width: gradient norm 1.00e-03 … 1.00e+01" in texts(picture)


def test_users_text_is_escaped_and_printable() -> None:
    nasty = "<script>alert('x')</script>&\x1b[31m\u202e\x00"
    place = Location(None, f"/home/{nasty}.py", 3, nasty, f"y = '{nasty}'", 3, 0, 1, nasty)
    graph, tree = drawn(
        ["a", "b"], "a>b:lost!", b={"mark": Mark("detach", nasty, nasty, "error", 0), "location": place, "name": nasty, "module": nasty}
    )
    graph.classes[nasty], graph.notes, graph.title = nasty, [nasty], nasty
    tree.boxes[1].label = tree.boxes[1].detail = tree.boxes[2].label = nasty
    tree.left_out = [nasty]
    for picture in (draw(graph, tree), figure(draw(graph, tree), nasty)):
        assert "<script" not in picture and "\x1b" not in picture and "\u202e" not in picture and "\x00" not in picture
    parsed(draw(graph, tree))


@pytest.mark.parametrize("seed", range(8))
def test_any_picture_is_sound_and_at_most_760_wide(seed: int) -> None:
    graph, tree = wild(seed, 70)
    root = parsed(draw(graph, tree))
    width, drawn_as = float(root.get("width", 0)), float(root.get("viewBox", "").split()[2])
    assert width <= 760 and width / drawn_as >= LEAST


def test_a_picture_of_one_node_and_an_empty_one() -> None:
    graph, tree = drawn(["loss"], "", loss={"value": 0.5})
    assert "value 0.5" in titles(draw(graph, tree))[0]
    assert parsed(draw(Graph(), Tree())).get("aria-label") == "Graph: nothing in it."
    assert "2 losses" in (
        parsed(draw(*drawn(["loss", "loss2"], "", loss={"kind": "loss"}, loss2={"kind": "loss"}))).get("aria-label") or ""
    )


def test_it_has_colours_of_its_own_where_it_stands_alone() -> None:
    picture = draw(*lost())
    assert "currentColor" in picture and "currentColor" not in standing_alone(picture)
    assert b64decode(standalone(picture).split(",", 1)[1]).decode("utf-8") == standing_alone(picture)
    assert BLUE in picture and "style=" not in picture and "<style" not in picture and "url(" not in picture


def test_a_notebook_that_strips_svg_shows_an_image_with_words() -> None:
    picture = draw(*lost())
    shown = figure(picture, 'the gradient is "lost" at line 4')
    assert picture in shown and 'alt="the gradient is &quot;lost&quot; at line 4"' in shown and "data:image/svg+xml;base64," in shown


def test_the_same_graph_gives_the_same_picture_whatever_the_hash_seed() -> None:
    program = (
        "from trees import wild; from gradnb.graph.draw.svg import draw; from hashlib import sha256;"
        "print([sha256(draw(*wild(s)).encode()).hexdigest() for s in range(3)])"
    )
    here = str([hashlib.sha256(draw(*wild(seed)).encode()).hexdigest() for seed in range(3)]) + "\n"
    for seed in ("0", "77"):
        environment = {"PYTHONHASHSEED": seed, "PYTHONPATH": f"{Path(__file__).parent}:{Path(__file__).parents[2]}", "PATH": ""}
        assert subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True).stdout == here


def test_a_real_step_with_a_detach() -> None:
    import torch

    import gradnb

    encoder, head = torch.nn.Linear(4, 3), torch.nn.Linear(3, 1)
    optimizer = torch.optim.SGD([*encoder.parameters(), *head.parameters()], 0.1)
    with gradnb.check() as report:
        hidden = encoder(torch.ones(2, 4)).tanh()
        loss = head(hidden.detach()).square().mean()  # here
        loss.backward()
        optimizer.step()
    line = next(i for i, text in enumerate(Path(__file__).read_text(encoding="utf-8").splitlines(), 1) if text.endswith("# here"))
    told = texts(report.graph.svg())
    assert "lost here" in told and f"test_svg.py, line {line}: .detach()" in told
    assert "Linear · weight 3×4, bias 3 · no gradient" in told and "Linear · weight 1×3, bias 1" in told


def test_a_transformer_of_twelve_equal_blocks_is_a_small_picture() -> None:
    names = [f"h.{i}" for i in range(12)]
    nest = ["x", *[(name, [f"{name}.{k}" for k in range(20)]) for name in names], "loss"]
    inner = [f"{name}.{k}>{name}.{k + 1}" for name in names for k in range(19)]
    outer = [f"{a}.19>{b}.0" for a, b in zip(names, names[1:])] + ["x>h.0.0", "h.11.19>loss"]
    graph, tree = drawn(nest, " ".join(inner + outer))
    for box in tree.boxes[1:]:
        box.open = box.label == "h.6"
    order(graph, tree)
    picture = draw(graph, tree)
    assert len(picture) < 25_000 and "h.6.19" in texts(picture) and "h.5.1" not in texts(picture)


def test_a_closed_box_says_what_is_marked_inside() -> None:
    graph, tree = lost()
    tree.boxes[2].marks, graph.nodes[6].mark = [6], Mark("nan", "NaN", "line 7: linear", "error", 0)
    told = texts(draw(graph, tree))
    at = told.index("NaN inside")
    assert told[at : at + 4] == ["NaN inside", "head", "Linear", "line 7: linear"]


def test_a_fold_shows_the_state_of_the_parameters_it_holds() -> None:
    def small_pill(state: str, trainable: bool) -> str:
        graph, tree = drawn([("h", ["w", "a"]), "loss"], "w>a a>loss", w={"state": state, "trainable": trainable})
        tree.boxes[1].open = False
        root = parsed(draw(graph, tree, legend=False))
        return next(str(r.attrib) for r in root.iter(f"{SVG}rect") if r.get("rx") == "4")

    pills = [small_pill("flows", True), small_pill("starved", True), small_pill("unused", True), small_pill("flows", False)]
    assert len(set(pills)) == 4 and "'fill': 'none'" in pills[3]
