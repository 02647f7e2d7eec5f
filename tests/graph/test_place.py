"""Positions: nothing overlaps, lines meet borders, and no line runs through a box."""

from __future__ import annotations

import random

import pytest
from trees import drawn, wild

from gradnb.graph.draw.order import order
from gradnb.graph.draw.place import APART, HEADER, PADDING, header, place
from gradnb.graph.draw.scene import Line, Placed, Scene, spread
from gradnb.graph.draw.size import WIDE, closed, fitted, lines, measure
from gradnb.graph.model import CHILD, IN, Graph, Tree

NEAR = 1e-6


def rectangles(scene: Scene) -> dict[int, Placed]:
    return {placed.box: placed for placed in scene.boxes}


def apart(a: Placed, b: Placed) -> bool:
    return a.x + a.w <= b.x + NEAR or b.x + b.w <= a.x + NEAR or a.y + a.h <= b.y + NEAR or b.y + b.h <= a.y + NEAR


def along(line: Line, steps: int = 12) -> list[tuple[float, float]]:
    """Points of the line as it is drawn: straight where x stays, else a cubic whose handles stand at half the height."""
    found = []
    for (x0, y0), (x1, y1) in zip(line.points, line.points[1:]):
        for i in range(steps + 1):
            t = i / steps
            found.append((x0 + (x1 - x0) * t * t * (3 - 2 * t), y0 + (y1 - y0) * (1.5 * t * (1 - t) + t * t * t)))
    return found


def check_scene(tree: Tree, scene: Scene) -> None:
    at = rectangles(scene)
    for a in scene.boxes:
        assert 0 <= a.x and a.x + a.w <= scene.w + NEAR and 0 <= a.y and a.y + a.h <= scene.h + NEAR
        if a.box:
            around = at[tree.boxes[a.box].parent]
            assert around.open and around.depth == a.depth - 1
            top = around.y + (HEADER if around.box else 0)
            assert around.x + PADDING <= a.x + NEAR and a.x + a.w <= around.x + around.w - PADDING + NEAR
            assert top <= a.y + NEAR and a.y + a.h <= around.y + around.h + NEAR
        for b in scene.boxes:
            if a.box < b.box and tree.boxes[a.box].parent == tree.boxes[b.box].parent:
                assert apart(a, b), f"{tree.boxes[a.box].label} overlaps {tree.boxes[b.box].label}"
    for line in scene.lines:
        _check_line(tree, at, line)


def _check_line(tree: Tree, at: dict[int, Placed], line: Line) -> None:
    link, around = tree.boxes[line.box].links[line.link], at[line.box]
    (x0, y0), (x1, y1) = line.points[0], line.points[-1]
    source, target = at.get(link.source // 4), at.get(link.target // 4)
    if link.source % 4 == CHILD:
        assert source is not None and abs(y0 - source.y - source.h) < NEAR and source.x <= x0 <= source.x + source.w
    else:
        assert min(abs(y0 - around.y - HEADER), abs(y0 - around.y)) < NEAR and around.x <= x0 <= around.x + around.w
    if link.target % 4 == CHILD:
        assert target is not None and abs(y1 - target.y) < NEAR and target.x <= x1 <= target.x + target.w
    else:
        assert abs(y1 - around.y - around.h) < NEAR and around.x <= x1 <= around.x + around.w
    siblings = [at[child] for child in tree.boxes[line.box].children]
    for x, y in along(line):
        for box in siblings:
            inside = box.x + NEAR < x < box.x + box.w - NEAR and box.y + NEAR < y < box.y + box.h - NEAR
            assert not inside, f"a line runs through {tree.boxes[box.box].label}"


@pytest.mark.parametrize("seed", range(16))
def test_nothing_overlaps_and_lines_go_from_border_to_border(seed: int) -> None:
    graph, tree = wild(seed, 60)
    check_scene(tree, place(graph, tree))


@pytest.mark.parametrize("seed", range(6))
def test_it_holds_for_any_set_of_open_boxes(seed: int) -> None:
    graph, tree = wild(seed)
    pick = random.Random(seed)
    folds = [i for i, box in enumerate(tree.boxes) if box.children]
    for chosen in (set(), set(folds), {i for i in folds if pick.random() < 0.5}):
        scene = place(graph, tree, chosen)
        check_scene(tree, scene)
        assert {p.box for p in scene.boxes if p.open} <= chosen | {0}


def test_what_is_in_a_closed_box_is_not_there() -> None:
    graph, tree = drawn(["x", ("outer", [("inner", ["a", "b"])]), "y"], "x>a a>b b>y")
    assert {placed.box for placed in place(graph, tree, {3}).boxes} == {0, 1, 2, 6}
    assert {placed.box for placed in place(graph, tree, {2}).boxes} == {0, 1, 2, 3, 6}
    assert len(place(graph, tree).boxes) == len(tree.boxes)


def test_lines_go_on_through_the_border_of_an_open_box() -> None:
    graph, tree = drawn(["x", "y", ("block", ["a", "b", "c"]), "loss"], "x>a y>b a>c b>c:data c>loss x>loss:data")
    scene = place(graph, tree)
    outside = [line for line in scene.lines if line.box == 0]
    inside = [line for line in scene.lines if line.box == 3]
    for line in outside:
        link = tree.boxes[0].links[line.link]
        if link.target // 4 == 3:
            assert line.points[-1][0] in [other.points[0][0] for other in inside]
        if link.source // 4 == 3:
            assert line.points[0] in [other.points[-1] for other in inside]


def test_a_line_that_comes_in_has_no_gap_below_the_border_and_leaves_the_name_of_the_box_readable() -> None:
    graph, tree = drawn(["x", "y", ("block", ["a", "b", "c"]), "loss"], "x>a y>b a>c b>c c>loss")
    block = next(placed for placed in place(graph, tree).boxes if placed.box == 3)
    begins = {line.points[0] for line in place(graph, tree).lines if line.box == 3 and tree.boxes[3].links[line.link].source % 4 == IN}
    text = block.x + header(graph, tree, 3) - PADDING
    assert len(begins) == 2
    assert all((y == block.y) == (x >= text + 4) and y in (block.y, block.y + HEADER) for x, y in begins)


def test_a_chain_is_straight_and_what_joins_it_stands_aside() -> None:
    graph, tree = drawn(["a", "b", "w1", "c", "w2", "d"], "a>b b>c c>d w1>c w2>d a>d")
    at = rectangles(place(graph, tree))
    centres = [at[box].x + at[box].w / 2 for box in (1, 2, 4)]
    assert max(centres) - min(centres) < 40
    assert not at[2].x < at[3].x + at[3].w / 2 < at[2].x + at[2].w


def test_many_lines_at_one_border_keep_apart() -> None:
    names = [f"w{i}" for i in range(6)]
    graph, tree = drawn([*names, "a_name_that_is_long_enough"], " ".join(f"{name}>a_name_that_is_long_enough" for name in names))
    ends = sorted(line.points[-1][0] for line in place(graph, tree).lines)
    assert all(b - a >= APART - NEAR for a, b in zip(ends, ends[1:]))


def test_a_box_with_forty_inputs_fits_in_a_notebook() -> None:
    names = [f"w_with_a_long_name{i}" for i in range(38)]
    for uses in (["stack"], ["stack", "cat"], ["stack", "cat", "mean"]):
        arrows = " ".join(f"{name}>{uses[i % len(uses)]}" for i, name in enumerate(names))
        graph, tree = drawn([*names, *uses], arrows)
        scene = place(graph, tree)
        assert scene.w <= 760
        check_scene(tree, scene)


def test_one_and_no_node() -> None:
    graph, tree = drawn(["loss"], "")
    scene = place(graph, tree)
    assert [(placed.box, placed.open) for placed in scene.boxes] == [(0, True), (1, False)] and not scene.lines
    assert (scene.w, scene.h) == (2 * PADDING + scene.boxes[1].w, 2 * PADDING + scene.boxes[1].h)
    assert place(Graph(), Tree()) == Scene()


def test_a_narrower_order_gives_a_narrower_picture() -> None:
    names = [f"w_with_a_long_name{i}" for i in range(12)]
    graph, tree = drawn([*names, "cat"], " ".join(f"{name}>cat" for name in names))
    wide = place(graph, tree).w
    order(graph, tree, 360)
    assert place(graph, tree).w < wide


def test_places_are_the_nearest_to_the_wishes() -> None:
    """No other row that keeps the distances costs less: tried against many of them."""
    pick = random.Random(1)
    for _ in range(40):
        count = pick.randint(1, 6)
        wishes = [pick.uniform(-50, 50) for _ in range(count)]
        weights = [pick.choice((0.1, 0.25, 1.0, 20.0)) for _ in range(count)]
        distances = [pick.uniform(5, 30) for _ in range(count - 1)]
        found = spread(wishes, distances, weights)
        assert all(b - a >= d - NEAR for a, b, d in zip(found, found[1:], distances))

        def cost(row: list[float], wishes: list[float] = wishes, weights: list[float] = weights) -> float:
            return sum(weight * (x - wish) ** 2 for x, wish, weight in zip(row, wishes, weights))

        for _ in range(60):
            other = [x + pick.gauss(0, 4) for x in found]
            if all(b - a >= d for a, b, d in zip(other, other[1:], distances)):
                assert cost(other) >= cost(found) - NEAR


def test_long_texts_are_elided_to_the_widest_box() -> None:
    graph, tree = drawn(["a" * 90, "b"], f"{'a' * 90}>b")
    tree.boxes[1].detail = "Conv2d · " + "32×" * 40
    label, detail = lines(graph, tree.boxes[1])
    assert "…" in label and "…" in detail and WIDE - 8 < closed(graph, tree.boxes[1])[0] <= WIDE
    assert measure(fitted("32×" * 40, 100)) <= 100 and fitted("short", 100) == "short"
