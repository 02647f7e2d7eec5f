"""Which row each thing of one open box stands in, and its place in the row: a layered drawing of a small graph.

Ranks and orders come from fast-sugiyama; where its wheel is missing, longest paths and barycentres stand in (``plain.py``).
Vertices are numbers: the children 0 … n-1 in the order of the data, then the entries, the exits, and the bends that are made here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

from ..model import BEND as BENDS
from ..model import CHILD, IN, OUT, code
from . import plain
from .size import BEND, COLUMN, LANE

Edges = list[tuple[int, int]]
Positions = dict[int, tuple[int, float]]  # vertex -> its rank, counted from the top of its component, and its x
Layout = Callable[[Edges], Positions]  # edges are given from above to below


def layers(widths: Sequence[float], links: Sequence[tuple[int, int, str]], entries: int, exits: int, limit: float) -> list[list[int]]:
    """Rows of codes, from top to bottom and left to right.

    ``links`` are (source, target, kind) with codes; a child's index is its position in ``widths``. Entries stand alone in the first
    row, exits in the last. A row of children is at most ``limit`` px wide, unless one child alone is wider. Links of one kind from
    one source share their bends, like branches of one trunk, and so do links of one kind to one target that are the only ones of
    their sources; the bends bear the index of the longest.
    """
    children = len(widths)
    number = {CHILD: 0, IN: children, OUT: children + entries}
    ends = [(number[a % 4] + a // 4, number[b % 4] + b // 4) for a, b, _ in links]
    trunks: dict[tuple[int, str], list[int]] = defaultdict(list)
    for i, (source, target) in enumerate(ends):
        if target >= children or source >= children or source < target:  # children come in the order of the data
            trunks[source, links[i][2]].append(i)
    edges = [ends[i] for trunk in trunks.values() for i in trunk]
    layout = _layout()
    component = _components(children + entries + exits, edges)
    position = _late(children, layout(edges), [[ends[i] for i in trunk] for trunk in trunks.values()]) if edges else {}
    row, turn = _rows(widths, edges, position, component, limit)
    first = 1 if entries else 0
    last = first + max(row, default=-1) + 1
    row = [first + at for at in row] + [0] * entries + [last] * exits
    codes = [code(CHILD, i) for i in range(children)] + [code(IN, i) for i in range(entries)] + [code(OUT, i) for i in range(exits)]
    tight: dict[tuple[int, int], None] = {}  # the same edges, with a bend in each row that they pass
    for trunk in _merged(trunks, ends):
        longest = max(trunk, key=lambda i: row[ends[i][1]] - row[ends[i][0]])
        source, target = ends[longest]
        bend = {r: len(row) + i for i, r in enumerate(range(row[source] + 1, row[target]))}  # row -> the bend in it
        row += bend
        codes += [code(BENDS, longest)] * len(bend)
        component += [component[source]] * len(bend)
        for i in trunk:
            a, b = ends[i]
            way = [a, *(bend[r] for r in range(row[a] + 1, row[b])), b]
            tight.update(dict.fromkeys(zip(way, way[1:])))
    rows: list[list[int]] = [[] for _ in range(last + (1 if exits else 0))]
    for vertex, at in enumerate(row):
        rows[at].append(vertex)
    if any(len(things) > 1 for things in rows):
        x = {vertex: x for vertex, (_, x) in layout(list(tight)).items()} if tight else {}
        _face(x, rows, component, children)
        rows = [sorted(things, key=lambda v: (turn[component[v]], x.get(v, 0.0), v)) for things in rows]
    return [[codes[vertex] for vertex in things] for things in rows]


def _merged(trunks: dict[tuple[int, str], list[int]], ends: Edges) -> list[list[int]]:
    """The trunks by source, where those of one link are put together by target."""
    merged: dict[tuple[int, int, str], list[int]] = defaultdict(list)
    for (source, kind), trunk in trunks.items():
        key = (0, source, kind) if len(trunk) > 1 else (1, ends[trunk[0]][1], kind)
        merged[key] += trunk
    return list(merged.values())


def _late(children: int, position: Positions, trunks: list[Edges]) -> Positions:
    """Ranks where each child stands just above what it feeds, if that makes no more long ways than it saves."""
    rank = {vertex: at for vertex, (at, _) in position.items()}
    into: dict[int, list[Edges]] = defaultdict(list)
    out: dict[int, list[Edges]] = defaultdict(list)
    for trunk in trunks:
        out[trunk[0][0]].append(trunk)
        for _, target in trunk:
            into[target].append(trunk)
    for child in range(children - 1, -1, -1):
        if not out[child]:
            continue
        lowest = min(rank[target] for trunk in out[child] for _, target in trunk) - 1
        longer = [t for t in into[child] if max((rank[target] for _, target in t if target != child), default=0) < lowest]
        if len(longer) <= len(out[child]):
            rank[child] = max(rank[child], lowest)
    return {vertex: (rank[vertex], x) for vertex, (_, x) in position.items()}


def _face(x: dict[int, float], rows: list[list[int]], component: list[int], children: int) -> None:
    """Mirror the components that stand against the order of the data, which reads from left to right."""
    wrong: dict[int, int] = defaultdict(int)
    for things in rows:
        for i, a in enumerate(things):
            for b in things[i + 1 :]:
                if b < children and component[a] == component[b]:
                    wrong[component[a]] += 1 if x.get(a, 0.0) > x.get(b, 0.0) else -1
    for vertex in x:
        if wrong[component[vertex]] > 0:
            x[vertex] = -x[vertex]


def _layout() -> Layout:
    try:
        from fast_sugiyama import from_edges
    except ImportError:  # no wheel for this platform
        return plain.positions

    def positions(edges: Edges) -> Positions:
        found: Positions = {}
        for places, _, height, _ in from_edges(edges, vertex_spacing=1, ranking_type="minimize", dummy_vertices=True, check_layout=False):
            found.update((int(vertex), (round(height - y), float(x))) for vertex, (x, y) in places)  # its y grows upwards
        return found  # bends of its own have numbers that nobody asks for

    return positions


def _components(vertices: int, edges: Edges) -> list[int]:
    """For each vertex the smallest one that it is connected with."""
    parent = list(range(vertices))

    def root(vertex: int) -> int:
        while parent[vertex] != vertex:
            parent[vertex] = vertex = parent[parent[vertex]]
        return vertex

    for a, b in edges:
        a, b = root(a), root(b)
        parent[max(a, b)] = min(a, b)
    return [root(vertex) for vertex in range(vertices)]


def _rows(
    widths: Sequence[float], edges: Edges, position: Positions, component: list[int], limit: float
) -> tuple[list[int], dict[int, int]]:
    """The row of each child, and for each component its turn from left to right: the large ones first."""
    members: dict[int, list[int]] = defaultdict(list)
    for child in range(len(widths)):
        members[component[child]].append(child)
    blocks = {name: _broken(children, widths, edges, position, limit) for name, children in members.items()}
    width = {name: max(_width(chunk, widths) for chunk in block) for name, block in blocks.items()}
    row, used = [0] * len(widths), [0.0]
    by_area = sorted(blocks, key=lambda name: (-width[name] * len(blocks[name]), name))
    for name in by_area:
        block = blocks[name]
        start = 0
        while any(used[start : start + len(block)]) and max(used[start : start + len(block)]) + width[name] > limit:
            start += 1
        used += [0.0] * (start + len(block) - len(used))
        for i, chunk in enumerate(block, start):
            used[i] += width[name] + COLUMN
            for child in chunk:
                row[child] = i
    return row, {name: turn for turn, name in enumerate(by_area)} | {c: len(by_area) for c in component if c not in blocks}


def _broken(children: list[int], widths: Sequence[float], edges: Edges, position: Positions, limit: float) -> list[list[int]]:
    """The rows of one component; a row that is too wide is dealt out to several, each child to the first that has room."""
    ranks: dict[int, list[int]] = defaultdict(list)
    for child in children:
        ranks[position.get(child, (0, 0.0))[0]].append(child)
    out: dict[int, list[int]] = defaultdict(list)
    for source, target in edges:
        out[source].append(target)
    block: list[list[int]] = []
    for _, things in sorted(ranks.items()):
        chunks: list[list[int]] = []
        room: list[float] = []
        for child in sorted(things, key=lambda c: (position.get(c, (0, 0.0))[1], c)):
            need = widths[child] + COLUMN
            at = next((i for i, left in enumerate(room) if need <= left), len(room))
            if at == len(room):
                above = [other for chunk in chunks for other in chunk]  # their links pass here
                passing = sum(len(out[c]) > 1 for c in above) + len({out[c][0] for c in above if len(out[c]) == 1})
                room.append(limit + COLUMN - min(passing * (BEND + LANE), limit / 2))
                chunks.append([])
            chunks[at].append(child)
            room[at] -= need
        block += chunks
    return block


def _width(children: list[int], widths: Sequence[float]) -> float:
    return sum(widths[child] for child in children) + COLUMN * (len(children) - 1)
