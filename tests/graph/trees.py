"""Trees made by hand for the drawing: nested names become boxes, arrows become edges; and what must hold for any drawing."""

from __future__ import annotations

import random
from collections.abc import Iterable

from gradnb.graph.draw.order import order, sharing
from gradnb.graph.model import BEND, CHILD, IN, OUT, Box, Edge, Graph, Node, Tree, code, worst

Nest = list["str | tuple[str, Nest]"]


def drawn(nest: Nest, arrows: str, **given: object) -> tuple[Graph, Tree]:
    """``drawn(["w", ("block", ["a", "b"])], "w>a a>b:lost!")``: kinds after a colon, ``!`` for the cut; ``given`` sets fields of nodes."""
    graph, tree = Graph(title="step 1"), Tree([Box("whole", "graph", open=True)])
    number: dict[str, int] = {}
    _add(graph, tree, number, nest, 0)
    for arrow in arrows.split():
        ends, _, kind = arrow.partition(":")
        source, target = (number[name] for name in ends.split(">"))
        graph.edges.append(Edge(source, target, kind.rstrip("!") or "flows", kind.endswith("!")))
    for name, fields in given.items():
        for field, value in fields.items():  # type: ignore[attr-defined]
            setattr(graph.nodes[number[name]], field, value)
    finish(graph, tree)
    return graph, tree


def _add(graph: Graph, tree: Tree, number: dict[str, int], nest: Nest, parent: int) -> None:
    for item in nest:
        tree.boxes[parent].children.append(len(tree.boxes))
        if isinstance(item, str):
            number[item] = len(graph.nodes)
            tree.of_node.append(len(tree.boxes))
            tree.boxes.append(Box("node", item, parent, len(graph.nodes)))
            kind = "parameter" if item.startswith("w") else "loss" if item == "loss" else "operation"
            graph.nodes.append(Node(kind, item, state="flows", trainable=True if kind == "parameter" else None, order=len(graph.nodes)))
        else:
            tree.boxes.append(Box("module", item[0], parent, detail="Block", open=True))
            _add(graph, tree, number, item[1], len(tree.boxes) - 1)


def finish(graph: Graph, tree: Tree) -> None:
    """States, counts and marks of the boxes from those of the nodes; then the order."""
    for i in range(len(tree.boxes) - 1, -1, -1):
        box = tree.boxes[i]
        if box.kind == "node":
            node = graph.nodes[box.node]
            box.state, box.norm = node.state, node.norm
            box.operations, box.parameters = int(node.kind == "operation"), int(node.kind == "parameter")
            box.frozen, box.marks = int(node.trainable is False), [box.node] if node.mark else []
            continue
        inside = [tree.boxes[child] for child in box.children]
        box.state = worst([child.state for child in inside])
        for field in ("operations", "parameters", "frozen"):
            setattr(box, field, sum(getattr(child, field) for child in inside))
        box.marks = sorted(node for child in inside for node in child.marks)
    order(graph, tree)


def wild(seed: int, nodes: int = 40) -> tuple[Graph, Tree]:
    """A tree of some levels with edges forward in time between any two nodes; the same for the same seed."""
    pick = random.Random(seed)
    graph, tree = Graph(), Tree([Box("whole", "graph", open=True)])
    around = [0]
    for i in range(nodes):
        turn = pick.random()
        if turn < 0.2 and len(around) < 4:
            tree.boxes[around[-1]].children.append(len(tree.boxes))
            tree.boxes.append(Box("module", f"block{i}", around[-1], detail="Block", open=pick.random() < 0.7))
            around.append(len(tree.boxes) - 1)
        elif turn < 0.35 and len(around) > 1:
            around.pop()
        tree.boxes[around[-1]].children.append(len(tree.boxes))
        tree.of_node.append(len(tree.boxes))
        tree.boxes.append(Box("node", "n" * pick.randint(1, 30) + str(i), around[-1], i, detail="2×3" if pick.random() < 0.5 else ""))
        fed = i and pick.random() < 0.8
        graph.nodes.append(Node("operation" if fed else "parameter", tree.boxes[-1].label, state="flows"))
        for source in {max(0, i - pick.choice((1, 1, 1, 2, 3, 9, 25))) for _ in range(pick.choice((1, 1, 2, 3)))} if fed else ():
            graph.edges.append(Edge(source, i, pick.choice(("flows", "flows", "data", "lost", "starved"))))
    finish(graph, tree)
    return graph, tree


def things(rows: Iterable[Iterable[int]], kind: int) -> list[int]:
    return [thing // 4 for row in rows for thing in row if thing % 4 == kind]


def check_order(tree: Tree) -> None:
    """What holds for the rows of every box: all is there once, all links go down, and whoever passes a row has a bend in it."""
    for box in tree.boxes:
        if not box.children:
            assert not box.rows
            continue
        assert sorted(things(box.rows, CHILD)) == sorted(box.children)
        assert sorted(things(box.rows, IN)) == list(range(len(box.entries)))
        assert sorted(things(box.rows, OUT)) == list(range(len(box.exits)))
        for kind, row in ((IN, 0), (OUT, -1)):
            if things(box.rows, kind):
                assert {thing % 4 for thing in box.rows[row]} == {kind}, "ports stand alone in the first and in the last row"
        at = {thing: r for r, row in enumerate(box.rows) for thing in row if thing % 4 != BEND}
        bends = {(r, thing // 4) for r, row in enumerate(box.rows) for thing in row if thing % 4 == BEND}
        shared = sharing(box.links)
        for link in box.links:
            assert at[link.source] < at[link.target]
            together = {i for i, other in enumerate(box.links) if shared(other) == shared(link)}
            for r in range(at[link.source] + 1, at[link.target]):
                assert sum((r, i) in bends for i in together) == 1, "a link passes each row by one bend"
        _check_ports(tree, box)


def _check_ports(tree: Tree, box: Box) -> None:
    """Each line that reaches an open box goes on inside, with a port of its own kind."""
    for link in box.links:
        if link.source % 4 == CHILD and (inner := tree.boxes[link.source // 4]).children:
            out = code(OUT, inner.exits.index(link.kind))
            assert any(within.target == out for within in inner.links)
        if link.target % 4 == CHILD and (inner := tree.boxes[link.target // 4]).children:
            entry = inner.entries.index(link.source) if link.source in inner.entries else len(inner.entries) - 1
            assert any(within.source == code(IN, entry) for within in inner.links)
