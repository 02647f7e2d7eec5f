"""A plain layered order of a small acyclic graph: rows by longest paths, places in a row by barycentres."""

from __future__ import annotations

from collections import defaultdict

SWEEPS = 8


def positions(edges: list[tuple[int, int]]) -> dict[int, tuple[int, float]]:
    """For each vertex its row, counted from the top of the graph, and its place in the row."""
    above: dict[int, list[int]] = defaultdict(list)
    below: dict[int, list[int]] = defaultdict(list)
    for source, target in edges:
        above[target].append(source)
        below[source].append(target)
    row = _ranks(edges, above, below)
    rows: list[list[int]] = [[] for _ in range(max(row.values()) + 1)]
    for vertex in sorted(row):
        rows[row[vertex]].append(vertex)
    best, fewest = _places(rows), _crossings(rows, below)
    for sweep in range(SWEEPS):
        if not fewest:
            break
        neighbours, way = (above, rows) if sweep % 2 == 0 else (below, rows[::-1])
        place = _places(rows)
        for things in way:
            wish = {v: sum(place[n] for n in neighbours[v]) / len(neighbours[v]) if neighbours[v] else place[v] for v in things}
            things.sort(key=wish.__getitem__)
            place |= {vertex: float(i) for i, vertex in enumerate(things)}
        if (crossings := _crossings(rows, below)) < fewest:
            best, fewest = place, crossings
    return {vertex: (row[vertex], best[vertex]) for vertex in row}


def _ranks(edges: list[tuple[int, int]], above: dict[int, list[int]], below: dict[int, list[int]]) -> dict[int, int]:
    """Longest path from the top; then what nothing leads to moves down to what it leads to."""
    waiting = {vertex: len(above[vertex]) for edge in edges for vertex in edge}
    ready = sorted(vertex for vertex, number in waiting.items() if not number)
    row: dict[int, int] = {}
    for vertex in ready:  # grows while it is walked
        row[vertex] = max((row[a] + 1 for a in above[vertex]), default=0)
        for b in below[vertex]:
            waiting[b] -= 1
            if not waiting[b]:
                ready.append(b)
    for vertex in row:
        if not above[vertex]:
            row[vertex] = min(row[b] for b in below[vertex]) - 1
    return row


def _places(rows: list[list[int]]) -> dict[int, float]:
    return {vertex: float(i) for things in rows for i, vertex in enumerate(things)}


def _crossings(rows: list[list[int]], below: dict[int, list[int]]) -> int:
    """Pairs of edges between neighbouring rows that cross; an edge over several rows counts as its ends stand."""
    place = _places(rows)
    total = 0
    for things in rows:
        ends: list[float] = []
        for vertex in things:
            mine = [place[b] for b in below[vertex]]
            total += sum(1 for b in mine for other in ends if other > b)
            ends += mine
    return total
