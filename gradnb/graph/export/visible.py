"""What of a folded graph is seen: the closed boxes and nodes, the open boxes around them, and the edges between them."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..model import Graph, Tree

_FIRST = ("lost", "flows", "starved", "data")  # what several edges that are drawn as one show


@dataclass(slots=True)
class Seen:
    """All edges between two visible boxes, drawn as one."""

    source: int  # box
    target: int
    kind: str
    cut: bool
    count: int
    norm: float | None  # of the gradients that came back along them, together


def shown(tree: Tree) -> dict[int, int]:
    """Box -> the visible box that it is drawn in: the outermost closed one around it, or itself."""
    found: dict[int, int] = {}
    todo = [(0, -1)]
    while todo:
        at, closed = todo.pop()
        box = tree.boxes[at]
        if closed < 0 and at and (not box.open or not box.children):
            closed = at
        found[at] = closed if closed >= 0 else at
        todo.extend((child, closed) for child in box.children)
    return found


def edges(graph: Graph, tree: Tree) -> list[Seen]:
    """In the order of the graph's edges. Edges of nodes that are left out, and those inside a closed box, are not seen."""
    at = shown(tree)
    found: dict[tuple[int, int], Seen] = {}
    for edge in graph.edges:
        ends = [at.get(tree.of_node[node], -1) if tree.of_node[node] >= 0 else -1 for node in (edge.source, edge.target)]
        if -1 in ends or ends[0] == ends[1]:
            continue
        seen = found.get((ends[0], ends[1]))
        if seen is None:
            found[ends[0], ends[1]] = Seen(ends[0], ends[1], edge.kind, edge.cut, 1, edge.norm)
            continue
        seen.kind = min(seen.kind, edge.kind, key=_FIRST.index)
        seen.cut, seen.count = seen.cut or edge.cut, seen.count + 1
        seen.norm = _together(seen.norm, edge.norm)
    return list(found.values())


def _together(one: float | None, other: float | None) -> float | None:
    if one is None or other is None:
        return one if other is None else other
    return math.hypot(one, other)
