"""Links, ports and rows of open boxes."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
from trees import check_order, drawn, finish, things, wild

from gradnb.graph.draw import plain
from gradnb.graph.draw.order import ENTRIES, LIMIT, order
from gradnb.graph.draw.size import COLUMN, closed
from gradnb.graph.model import CHILD, IN, OUT, Box, Edge, Graph, Node, Tree, code


@pytest.fixture(params=["fast-sugiyama", "plain"])
def layout(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """With the library's wheel and without it."""
    if request.param == "plain":
        monkeypatch.setitem(sys.modules, "fast_sugiyama", None)
    return request.param


@pytest.mark.parametrize("seed", range(12))
def test_all_things_stand_in_rows_and_all_links_go_down(seed: int, layout: str) -> None:
    _, tree = wild(seed)
    check_order(tree)


def test_edges_between_two_boxes_become_one_link_of_the_worst_kind() -> None:
    graph, tree = drawn([("a", ["a1", "a2"]), ("b", ["b1", "b2"])], "a1>b1 a1>b2:data a2>b2:lost! a1>a2")
    graph.edges[0].norm, graph.edges[2].norm = 3.0, 4.0
    order(graph, tree)
    (link,) = tree.boxes[0].links
    assert (link.kind, link.cut, link.count, link.norm) == ("lost", True, 3, 5.0)
    assert (link.source, link.target) == (code(CHILD, 1), code(CHILD, 4))


def test_an_exit_has_the_kind_of_the_line_that_goes_on_outside() -> None:
    _, tree = drawn([("a", ["a1", "a2"]), ("b", ["b1", "b2"]), "c"], "a1>b1 a1>b2:lost a2>c:data a1>a2")
    assert tree.boxes[1].exits == ["lost", "data"]
    inside = {(link.source // 4, link.target): link.kind for link in tree.boxes[1].links if link.target % 4 == OUT}
    assert inside == {(2, code(OUT, 0)): "lost", (3, code(OUT, 1)): "data"}


def test_more_than_six_feeders_share_the_last_entry() -> None:
    names = [f"w{i}" for i in range(9)]
    _, tree = drawn([*names, ("block", ["a", "b"])], " ".join(f"{name}>a" for name in names) + " a>b")
    block = tree.boxes[10]
    assert block.entries == [code(CHILD, i) for i in range(1, 7)] and ENTRIES == 6
    assert sum(link.count for link in block.links if link.source == code(IN, 5)) == 4
    check_order(tree)


def test_an_edge_to_a_node_that_is_left_out_is_no_link() -> None:
    graph, tree = drawn(["a", "b", "c"], "a>b b>c")
    tree.of_node[1] = -1
    tree.boxes[0].children.remove(2)
    order(graph, tree)
    assert tree.boxes[0].links == []


def test_a_row_that_is_too_wide_is_broken(layout: str) -> None:
    names = [f"w_of_a_long_name_{i}" for i in range(30)]
    graph, tree = drawn([*names, "stack"], " ".join(f"{name}>stack" for name in names))
    check_order(tree)
    for row in tree.boxes[0].rows:
        children = things([row], CHILD)
        assert sum(closed(graph, tree.boxes[child])[0] + COLUMN for child in children) - COLUMN <= LIMIT
    narrow = max(len(things([row], CHILD)) for row in tree.boxes[0].rows)
    order(graph, tree, 300)
    assert max(len(things([row], CHILD)) for row in tree.boxes[0].rows) < narrow


def test_things_that_have_nothing_to_do_with_each_other_stand_side_by_side_while_there_is_room() -> None:
    names = [f"w{i}" for i in range(14)]
    _, tree = drawn(["a", "b", "c", *names], "a>b b>c")
    rows = tree.boxes[0].rows
    assert len(rows) == 3 and rows[0][0] == code(CHILD, 1)  # the chain first, the others fill its rows
    assert sorted(things(rows, CHILD)) == tree.boxes[0].children


def test_what_several_rows_use_passes_each_row_once() -> None:
    cells = [f"cell{i}" for i in range(8)]
    arrows = [f"{a}>{b}" for a, b in zip(cells, cells[1:])] + [f"w>{cell}" for cell in cells]
    _, tree = drawn(["w", *cells], " ".join(arrows))
    assert [len(row) for row in tree.boxes[0].rows] == [1, *[2] * 7, 1]
    check_order(tree)


def test_a_parameter_stands_just_above_its_use(layout: str) -> None:
    _, tree = drawn(["a", "b", "c", "w", "d"], "a>b b>c c>d w>d")
    assert sorted(things([tree.boxes[0].rows[2]], CHILD)) == [3, 4]


def test_calls_stand_in_the_order_of_the_data_from_left_to_right(layout: str) -> None:
    _, tree = drawn(["x", "call1", "call2", "call3", "sum"], "x>call1 x>call2 x>call3 call1>sum call2>sum call3>sum")
    assert tree.boxes[0].rows[1] == [code(CHILD, 2), code(CHILD, 3), code(CHILD, 4)]


def test_entries_are_mirrored_to_meet_their_lines() -> None:
    nest = ["x", "y", ("block", ["a", "b", "c"]), "loss"]
    for arrows in ("x>a y>b a>c b>c c>loss", "y>a x>b a>c b>c c>loss"):
        _, tree = drawn(nest, arrows)
        block = tree.boxes[3]
        above = next(row for row in tree.boxes[0].rows if code(CHILD, 1) in row)
        assert [block.entries[entry] for entry in things([block.rows[0]], IN)] == above


def test_equal_boxes_look_equal() -> None:
    nest = [(f"h{i}", [f"a{i}", f"b{i}", f"c{i}"]) for i in range(12)]
    arrows = " ".join(f"a{i}>b{i} a{i}>c{i} b{i}>c{i}" + (f" c{i - 1}>a{i}" if i else "") for i in range(12))
    _, tree = drawn(nest, arrows)
    blocks = [box for box in tree.boxes if box.kind == "module"][1:-1]
    shapes = {str([[thing - 4 * box.children[0] if thing % 4 == CHILD else thing for thing in row] for row in box.rows]) for box in blocks}
    assert len(shapes) == 1


def test_boxes_that_claim_a_cycle_are_still_drawn() -> None:
    graph, tree = drawn(["a", "b", "c"], "a>b b>c")
    graph.edges.append(Edge(2, 0))
    order(graph, tree)
    assert sorted(things(tree.boxes[0].rows, CHILD)) == [1, 2, 3]


def test_few_lines_cross_with_the_library_and_without() -> None:
    """Both find the drawing without a crossing that this ladder has."""
    for positions in (plain.positions, _library):
        edges = [(0, 1), (0, 2), (0, 3), (3, 4), (2, 5), (1, 6), (4, 7), (5, 7), (6, 7)]
        place = positions(edges)
        for a, b in edges:
            for c, d in edges:
                if place[a][0] == place[c][0]:
                    assert (place[a][1] - place[c][1]) * (place[b][1] - place[d][1]) >= 0


def _library(edges: list[tuple[int, int]]) -> dict[int, tuple[int, float]]:
    from gradnb.graph.draw.layers import _layout

    return _layout()(edges)


def test_the_same_graph_gives_the_same_rows_whatever_the_hash_seed() -> None:
    program = "from trees import wild; print([[b.rows for b in wild(s)[1].boxes] for s in range(4)])"
    told = set()
    for seed in ("0", "1", "4242"):
        environment = {"PYTHONHASHSEED": seed, "PYTHONPATH": f"{Path(__file__).parent}:{Path(__file__).parents[2]}", "PATH": ""}
        told.add(subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True).stdout)
    assert len(told) == 1


def test_thousands_of_nodes_are_ordered_in_a_moment() -> None:
    graph, tree = Graph(), Tree([Box("whole", "graph")])
    for group in range(20):
        tree.boxes.append(Box("lines", f"lines {group}", 0))
        tree.boxes[0].children.append(len(tree.boxes) - 1)
    for block in range(400):
        parent = 1 + block // 20
        tree.boxes.append(Box("module", f"h.{block}", parent, detail="Block"))
        tree.boxes[parent].children.append(me := len(tree.boxes) - 1)
        for k in range(21):
            number = len(graph.nodes)
            graph.nodes.append(Node("operation", f"op{k}"))
            tree.boxes[me].children.append(len(tree.boxes))
            tree.of_node.append(len(tree.boxes))
            tree.boxes.append(Box("node", f"op{k}", me, number))
            graph.edges += [Edge(number - back, number, "flows") for back in (1, 3 + block % 7) if number >= back]
    started = time.perf_counter()
    finish(graph, tree)
    assert len(graph.nodes) == 8400
    assert time.perf_counter() - started < 3.0  # 0.3 s on a quiet machine
    check_order(tree)
