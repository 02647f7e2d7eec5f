"""What stands where in each box once it is open: links between its children, ports on its border, rows from top to bottom.

A link stands for all edges between two things of one box. An edge that leaves a box goes to one of its exits, one that comes in
starts at one of its entries; so each box can be laid out alone, whatever else is open.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from ..model import BEND, CHILD, IN, OUT, Graph, Link, Tree, code
from .layers import layers
from .size import BEND as LINE
from .size import COLUMN, LANE, closed

LIMIT = 720.0  # px: the widest row, so that a picture stays readable in a notebook
PADDING = 28.0  # px that each open box around takes from it …
LEAST = 360.0  # … down to this
ENTRIES = 6  # a box has at most so many; what feeds it besides shares the last one

_KINDS = ("lost", "flows", "starved", "data")


def order(graph: Graph, tree: Tree, limit: float = LIMIT, *, seen: bool = False) -> None:
    """Fill ``links``, ``entries``, ``exits`` and ``rows`` of every box that has children, from the edges and ``children``.

    Rows are at most ``limit`` px wide, with each child as large as it is drawn at first (``Box.open``); the same graph gives the
    same rows on every run. ``seen`` leaves out the boxes that are not drawn open: enough to lay out what is seen now.
    """
    path = _paths(tree, seen)
    top_down = sorted(path, key=lambda name: len(path[name]))
    containers = [name for name in top_down if tree.boxes[name].children and (not seen or not name or tree.boxes[name].open)]
    for name in containers:
        box = tree.boxes[name]
        box.links, box.entries, box.exits, box.rows = [], [], [], []
    _link(graph, tree, path, containers)
    _arrange(graph, tree, path, containers, limit)
    known = set(containers)
    for name in containers:
        _turn(tree, name, known)


def _paths(tree: Tree, seen: bool) -> dict[int, tuple[int, ...]]:
    """For each box that hangs on the whole picture (or is seen in it) the boxes around it, outermost first, and itself."""
    path: dict[int, tuple[int, ...]] = {0: (0,)} if tree.boxes else {}
    waiting = list(path)
    for name in waiting:  # grows while it is walked
        if seen and name and not tree.boxes[name].open:
            continue
        for child in tree.boxes[name].children:
            path[child] = (*path[name], child)
            waiting.append(child)
    return path


def _way(tree: Tree, path: dict[int, tuple[int, ...]], box: int) -> tuple[int, ...]:
    """The path of a box, or of the innermost around it that has one."""
    while box >= 0 and box not in path:
        box = tree.boxes[box].parent
    return path.get(box, ())


def _link(graph: Graph, tree: Tree, path: dict[int, tuple[int, ...]], containers: list[int]) -> None:
    """Each edge becomes part of one link in the innermost box that holds both ends, and of one in each box that it leaves or enters."""
    inside: dict[int, dict[tuple[int, int], list[int]]] = {name: {} for name in containers}
    paths = [_way(tree, path, box) for box in tree.of_node]
    for number, edge in enumerate(graph.edges):
        source, target = paths[edge.source], paths[edge.target]
        if not source or not target or source == target:
            continue  # an end is left out (the tree says how much), or both stand in one box
        depth = 1
        while source[depth] == target[depth]:
            depth += 1
        ends = (code(CHILD, source[depth]), code(CHILD, target[depth]))
        inside[source[depth - 1]].setdefault(ends, []).append(number)
    for name in containers:
        depth = len(path[name])
        box = tree.boxes[name]
        for (start, end), edges in inside[name].items():
            link = _joined(graph, start, end, edges)
            box.links.append(link)
            if start % 4 == CHILD and start // 4 in inside:
                child = tree.boxes[start // 4]
                out = code(OUT, _position(child.exits, link.kind))
                for number in edges:
                    ends = (code(CHILD, paths[graph.edges[number].source][depth + 1]), out)
                    inside[start // 4].setdefault(ends, []).append(number)
            if end % 4 == CHILD and end // 4 in inside:
                child = tree.boxes[end // 4]
                came = code(IN, _position(child.entries, start, ENTRIES))
                for number in edges:
                    ends = (came, code(CHILD, paths[graph.edges[number].target][depth + 1]))
                    inside[end // 4].setdefault(ends, []).append(number)


def _position(known: list, thing: object, most: int = 99) -> int:  # type: ignore[type-arg]
    """Where the thing stands in the list; it is put there, and the last one stands for all that find no room."""
    if thing not in known:
        if len(known) == most:
            return most - 1
        known.append(thing)
    return known.index(thing)


def _joined(graph: Graph, source: int, target: int, edges: list[int]) -> Link:
    parts = [graph.edges[number] for number in edges]
    kind = min((edge.kind for edge in parts), key=_KINDS.index)
    norms = [edge.norm for edge in parts if edge.norm is not None]
    norm = sum(value * value for value in norms) ** 0.5 if norms else None
    return Link(source, target, kind, any(edge.cut for edge in parts), len(parts), norm)


def _arrange(graph: Graph, tree: Tree, path: dict[int, tuple[int, ...]], containers: list[int], limit: float) -> None:
    """Rows of each box, the innermost first: a box has to know how wide its open children are. Equal boxes are arranged once."""
    wide: dict[int, float] = {}
    known: dict[object, list[list[int]]] = {}
    for name in reversed(containers):
        box = tree.boxes[name]
        for child in box.children:
            if child not in wide or not tree.boxes[child].open:
                wide[child] = closed(graph, tree.boxes[child])[0]
        place = {child: i for i, child in enumerate(box.children)}
        links = tuple((_local(link.source, place), _local(link.target, place), link.kind) for link in box.links)
        widths = tuple(wide[child] for child in box.children)
        room = max(limit - PADDING * (len(path[name]) - 1), LEAST)
        key = (widths, links, len(box.entries), len(box.exits), room)
        if key not in known:
            known[key] = layers(widths, links, len(box.entries), len(box.exits), room) if links else _in_turn(widths, room)
        box.rows = [[code(CHILD, box.children[c // 4]) if c % 4 == CHILD else c for c in row] for row in known[key]]
        across = [sum(wide[c // 4] + COLUMN if c % 4 == CHILD else LINE + LANE for c in row) for row in box.rows]
        wide[name] = max([closed(graph, box)[0], *(w + PADDING - LANE for w in across)])


def _in_turn(widths: tuple[float, ...], room: float) -> list[list[int]]:
    """Things without a link between them, row by row as they come."""
    rows: list[list[int]] = []
    used = room
    for i, width in enumerate(widths):
        if used + width + COLUMN > room:
            rows.append([])
            used = 0.0
        rows[-1].append(code(CHILD, i))
        used += width + COLUMN
    return rows


def _local(thing: int, place: dict[int, int]) -> int:
    return code(CHILD, place[thing // 4]) if thing % 4 == CHILD else thing


def sharing(links: list[Link]) -> Callable[[Link], tuple[int, int, str]]:
    """Which links share bends: those of one kind from a source that has several, and those to a target whose sources have one each."""
    several = Counter((link.source, link.kind) for link in links)
    return lambda link: (0, link.source, link.kind) if several[link.source, link.kind] > 1 else (1, link.target, link.kind)


def _turn(tree: Tree, name: int, containers: set[int]) -> None:
    """Mirror the rows of the boxes in it whose entries and exits then meet their lines with fewer crossings."""
    box = tree.boxes[name]
    place = {thing: (r, i) for r, row in enumerate(box.rows) for i, thing in enumerate(row)}
    shared = sharing(box.links)
    bends: dict[tuple[int, int, str], dict[int, int]] = {}  # of which links -> row -> where they pass
    for r, row in enumerate(box.rows):
        for i, thing in enumerate(row):
            if thing % 4 == BEND:
                bends.setdefault(shared(box.links[thing // 4]), {})[r] = i
    meets: dict[int, dict[int, list[int]]] = {}  # child -> its port -> where the lines to it stand in the next row
    for link in box.links:
        (top, left), (bottom, right) = place[link.source], place[link.target]
        bent = bends.get(shared(link), {})
        if link.target % 4 == CHILD and link.target // 4 in containers:
            inner = tree.boxes[link.target // 4]
            entry = inner.entries.index(link.source) if link.source in inner.entries else ENTRIES - 1
            at = left if top == bottom - 1 else bent.get(bottom - 1, left)
            meets.setdefault(link.target // 4, {}).setdefault(code(IN, entry), []).append(at)
        if link.source % 4 == CHILD and link.source // 4 in containers:
            inner = tree.boxes[link.source // 4]
            at = right if top == bottom - 1 else bent.get(top + 1, right)
            meets.setdefault(link.source // 4, {}).setdefault(code(OUT, inner.exits.index(link.kind)), []).append(at)
    for child, ports in meets.items():
        inner = tree.boxes[child]
        wrong = 0
        for row in (inner.rows[0], inner.rows[-1]):
            across = [sum(ports[port]) / len(ports[port]) for port in row if port in ports]
            wrong += sum((a > b) - (a < b) for i, a in enumerate(across) for b in across[i + 1 :])
        if wrong > 0:
            inner.rows = [row[::-1] for row in inner.rows]
