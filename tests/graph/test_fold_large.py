"""Thousands of nodes: never too many children in one box, every chunk says how much is in it, and it is quick."""

from __future__ import annotations

import random
import time

import pytest
from sketch import Sketch, box, check_tree, labels, shown

from gradnb.graph.fold.tree import fold
from gradnb.graph.model import Graph

MANY = 8500


def flat(lines: int, parameters: int = 0, seed: int = 0) -> Graph:
    """Operations that do not repeat, on so many lines."""
    chance = random.Random(seed)
    s = Sketch(w="ParameterList")
    x = s.input("x")
    for i in range(MANY):
        sources = [s.parameter("w", str(i), norm=1.0)] if i < parameters else []
        x = s.op(chance.choice(("matmul", "conv2d", "softmax", "cat", "einsum")), x, *sources, line=10 + i * lines // MANY)
    s.loss(x)
    return s.graph


@pytest.mark.parametrize(("lines", "parameters"), [(1, 0), (300, 0), (MANY, 0), (1, 2000)])
def test_flat_code_is_cut_into_chunks_at_every_depth(lines: int, parameters: int) -> None:
    graph = flat(lines, parameters)
    tree = fold(graph)
    check_tree(graph, tree)
    assert len(shown(tree)) <= 60
    for one in tree.boxes[1:]:
        if one.kind == "lines" and one.operations > 1:
            assert one.detail.endswith(f"+ {one.operations:,} operations")


def test_chunks_are_named_by_their_lines() -> None:
    tree = fold(flat(300))
    assert labels(tree)[1] == "lines 10–27" and labels(tree)[-1] == "loss"
    assert labels(tree, box(tree, "lines 10–27"))[:2] == ["line 10", "line 11"]


def test_the_way_to_a_mark_is_open_through_the_chunks() -> None:
    graph = flat(300)
    s = Sketch()
    s.graph = graph
    place = next(i for i, node in enumerate(graph.nodes) if node.order > 4000)
    s.mark(place)
    tree = fold(graph)
    check_tree(graph, tree)
    assert tree.of_node[place] >= 0
    above = tree.boxes[tree.of_node[place]].parent
    while above > 0:
        assert tree.boxes[above].open
        above = tree.boxes[above].parent


def test_the_same_operation_again_and_again_is_one_box() -> None:
    s = Sketch()
    x = s.input("x")
    for _ in range(MANY):
        x = s.op("sin", x)
    s.loss(x)
    tree = fold(s.graph)
    check_tree(s.graph, tree)
    assert labels(tree) == ["x", f"sin × {MANY}", "loss"]
    assert box(tree, f"sin × {MANY}").detail == "+ 8,500 operations"


def test_thousands_of_parameters_of_one_operation_are_together() -> None:
    s = Sketch(w="ParameterList")
    s.loss(s.op("stack", *[s.parameter("w", str(i), norm=1.0) for i in range(2000)]))
    tree = fold(s.graph)
    check_tree(s.graph, tree)
    together = next(b for b in tree.boxes if b.kind == "parameters")
    assert together.parameters == 2000 and together.label.endswith("2,000 parameters") and together.norm == pytest.approx(2000**0.5)


def test_many_inputs_are_together() -> None:
    s = Sketch()
    s.loss(s.op("stack", *[s.input(f"x{i}") for i in range(100)]))
    tree = fold(s.graph)
    check_tree(s.graph, tree)
    assert box(tree, "100 inputs").detail == "x0, x1, x2, …"


def test_many_operations_parameters_and_shared_modules_in_one_container_stay_few_boxes() -> None:
    s = Sketch(**{f"m{i}": "Shared" for i in range(50)})
    x, y = s.input("x"), s.input("y")
    weights = [[s.parameter(f"m{i}", f"w{j}") for j in range(5)] for i in range(50)]
    extra = [s.parameter("", f"p{i}") for i in range(12)]
    inputs = [s.input(f"i{i}") for i in range(12)]
    for turn in range(2):
        for i, own in enumerate(weights):
            x = s.op("linear", x, *own, module=f"m{i}", line=10 + 100 * turn + i)
        x = s.op("stack", x, *extra, *inputs, line=5 + 1000 * turn)
    s.loss(s.op("add", x, y, line=2000))
    check_tree(s.graph, fold(s.graph))


def test_thousands_of_different_modules_fold() -> None:
    s = Sketch(m="Net")
    x = s.input("x")
    for i in range(3000):
        s.graph.classes[f"m.l{i}"] = f"Kind{i % 997 % 13}"
        x = s.op("linear", x, module=f"m.l{i}", line=5)
    s.loss(x)
    check_tree(s.graph, fold(s.graph))


def test_the_fold_of_a_large_graph_is_quick_and_grows_with_its_size_only() -> None:
    """Ten times the nodes take less than thirty times as long: the time of this process, so that others do not count."""

    def seconds(nodes: int) -> float:
        s = Sketch()
        chance = random.Random(1)
        x = s.input("x")
        for i in range(nodes):
            x = s.op(chance.choice(("matmul", "mul", "add", "relu")), x, line=1 + i // 30)
        s.loss(x)
        best = float("inf")
        for _ in range(3):
            start = time.process_time()
            fold(s.graph)
            best = min(best, time.process_time() - start)
        return best

    small, large = seconds(MANY // 10), seconds(MANY)
    assert large < 30 * small
    assert large < 3.0
