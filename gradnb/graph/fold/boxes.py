"""From parts to the boxes of a Tree, with the totals of what is inside."""

from __future__ import annotations

import math

from ..model import Box, Graph, Tree, worst
from .parts import Part, Work, inside
from .words import Words


def boxes(work: Work) -> tuple[Tree, list[Part]]:
    """Number the parts, containers before what is in them, each container's content in the order of the data.

    Returns the tree, and the part that each box was made from.
    """
    tree = Tree(of_node=[-1] * len(work.graph.nodes))
    parts: list[Part] = []
    todo: list[tuple[Part, int]] = [(work.root, -1)]
    while todo:
        part, parent = todo.pop()
        number = len(parts)
        parts.append(part)
        tree.boxes.append(Box(part.kind, "", parent, part.node, operations=part.operations))
        if parent >= 0:
            tree.boxes[parent].children.append(number)
        if part.node >= 0:
            tree.of_node[part.node] = number
        todo.extend((child, number) for child in reversed(_in_order(work, part)))
    for number in range(len(parts) - 1, -1, -1):
        total(work.graph, tree, number)
    Words(work, tree, parts).write()
    return tree, parts


def _in_order(work: Work, part: Part) -> list[Part]:
    """The children, each source before the first that uses it; what nothing uses comes last."""
    if not part.sources:
        return part.children
    place = {id(child): i for i, child in enumerate(part.children)}
    before: list[list[Part]] = [[] for _ in range(len(part.children) + 1)]
    for source in part.sources:
        used = (_place_of(work.leaf[n], part, place) for one in inside(source) if one.node >= 0 for n in work.uses[one.node])
        before[min(used, default=len(part.children))].append(source)
    found = []
    for i, sources in enumerate(before):
        found += sources + part.children[i : i + 1]
    return found


def _place_of(use: Part, part: Part, place: dict[int, int]) -> int:
    """Which child of ``part`` a use is in."""
    while use.parent is not part:
        assert use.parent is not None
        use = use.parent
    return place[id(use)]


def total(graph: Graph, tree: Tree, number: int) -> None:
    """Sum up what is in a box; the boxes in it have theirs already."""
    box = tree.boxes[number]
    if box.node >= 0:
        node = graph.nodes[box.node]
        box.operations = int(node.kind == "operation")
        box.parameters = int(node.kind == "parameter")
        box.frozen = int(node.kind == "parameter" and (node.state == "frozen" or node.trainable is False))
        box.state, box.norm = node.state, node.norm
        box.learns = "" if node.kind != "parameter" else "frozen" if box.frozen else node.state
        box.marks = [box.node] if node.mark is not None else []
        return
    inner = [tree.boxes[child] for child in box.children]
    box.operations = sum(b.operations for b in inner)
    box.parameters = sum(b.parameters for b in inner)
    box.frozen = sum(b.frozen for b in inner)
    box.state = worst([b.state for b in inner])
    box.learns = worst([b.learns for b in inner if b.learns]) if box.parameters else ""
    box.marks = [mark for b in inner for mark in b.marks]
    norms = [b.norm for b in inner if b.norm is not None and b.parameters]
    box.norm = math.sqrt(sum(n * n for n in norms)) if norms else None
