"""Where everything stands: the positions of a tree's boxes and lines for one set of open boxes, in pixels.

The explorer computes the same in JavaScript (``explore/static/layout.js``); a test compares the two. So this is plain arithmetic, step by
step, in one order. Sizes of closed boxes are those of ``size.py``. All x of step 2 to 5 are centres.

``place`` lays out box 0, which is always open; ``_Open`` lays out one open box, its open children first:

1. Widths: a closed child as ``closed`` says, an open one as its own layout says, a bend BEND, an entry or an exit PORT.
   The way of a link is its source, its bends, its target. Links of one kind share bends: those from a source that has several in
   this box, and those to one target whose sources have one each. A link's bends are those, in the rows strictly between its ends,
   that bear the index of a link that it shares with (or its own): ``order.sharing``. Each neighbouring pair (a, b) on a way is a
   *step*; the links of one kind that pass a pair share the step, which has the values that the first of them gives it. Each end of
   a step has an *offset* from the centre of its thing: 0, but at an open child the x of its exit of the link's kind (as source), of
   its entry for the link's source (as target; its last entry where none is for it), minus half its width. The *pull* of a step is
   STIFF (20) between two bends; else SIDE (0.25) where the link's source is a child that no link of this box leads to, where the
   way has bends, and for kind "data"; else 1.
2. Start: each row is packed with its gaps between neighbours (COLUMN, but LANE between two bends), and its middle is at 0.
3. SWEEPS (6) sweeps, in turn down (second row … last row, looking at the row above) and up (last but one … first, looking below).
   The wish of a thing is the mean, by pull, of (x of the other end + its offset - own offset) over its steps to that row; its
   weight is the largest of these pulls. Without such steps the wish is its present x with weight LOOSE (0.1). The row then gets the
   positions nearest to the wishes that keep the order and the distances (half widths + gap): ``spread``. At last each is brought
   within half the widest row's packed width less half this row's from its position of step 2: no row leaves that of the widest.
4. Width: PADDING + what the rows span + PADDING, at least ``header`` (box 0: no header, no least width). All x are shifted so that
   the rows' span is in the middle.
5. Height: rows follow one another, each as high as its highest child. The first row begins at HEADER where it holds entries, else
   at HEADER + TOP (box 0: PADDING). The gap below a row is ROW, but PORT_GAP below entries and above exits, plus
   min(REACH * (the longest horizontal way of its steps, with offsets), MORE). A child that feeds none stands at the top of its row,
   one that is fed by none (but feeds) at the bottom, others in the middle. Exits stand on the lower border; without exits the box
   ends PADDING below its last row.
6. Lines: a step ends at the x of the bend or port, or of the port of the open child (its offset), or somewhere on the border of the
   closed child: its wish is, where the two ends' spans (a closed child: its width less EDGE at both sides; else one point) overlap,
   the middle of the two centres, brought into the overlap; else the other end's centre, brought into its own span. Then, first for
   all lower borders, then for all upper ones: the ends at one closed child's border, ordered by wish (equal ones by their turn), are
   ``spread`` with the distance min(APART, span / (ends - 1)) and weight 1, and the n-th is brought between low + n * distance and
   high - (last - n) * distance. The points of a line: the lower border of its source (of an entry: the upper border of the box where
   x is at least ``header`` - PADDING + CLEAR, so that no line runs through the name, else the entry itself); for each step the end of
   the upper row and the begin of the lower row; the upper border of its target. Points with equal x are joined by a straight line,
   others by a curve.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from ..model import BEND as BENDS
from ..model import CHILD, IN, OUT, Graph, Tree, code
from .order import sharing
from .scene import Line, Placed, Scene, spread
from .size import BEND, COLUMN, LABEL, LANE, MARGIN, NARROW, PORT, ROW, WIDE, closed, lines, measure, opened

HEADER, TOP, PADDING = 24.0, 8.0, 14.0
PORT_GAP = 18.0
REACH, MORE = 0.05, 26.0
SWEEPS = 6
STIFF, LOOSE, SIDE = 20.0, 0.1, 0.25
EDGE, APART, CLEAR = 10.0, 14.0, 4.0


def place(graph: Graph, tree: Tree, open: set[int] | None = None) -> Scene:
    """Lay out the tree with these boxes open (default: those whose ``open`` is set). An open box in a closed one is not seen."""
    scene = Scene()
    if not tree.boxes:
        return scene
    chosen = {i for i, box in enumerate(tree.boxes) if box.open} if open is None else open
    layout = _Open(graph, tree, chosen, 0)
    scene.w, scene.h = layout.w, layout.h
    layout.put(scene, 0.0, 0.0, 0)
    return scene


def header(graph: Graph, tree: Tree, box: int) -> float:
    """The least width of an open box: its label and its detail on one line, at most WIDE."""
    label, *_ = lines(graph, tree.boxes[box])
    detail = opened(tree.boxes[box])
    wide = len(label) * LABEL + (8.0 + measure(detail) if detail else 0.0) + MARGIN
    return min(max(wide, NARROW), WIDE)


def _inside(value: float, low: float, high: float) -> float:
    return max(low, min(value, high))


Spot = tuple[int, int]  # a thing of an open box: its row and its position in the row


@dataclass(slots=True)
class _Step:
    """A piece of the way of a link, or of several from one source, from one row to the next."""

    a: Spot
    b: Spot
    offset_a: float  # where it touches its ends, from their centres
    offset_b: float
    pull: float
    x_a: float = 0.0  # where it begins and ends
    x_b: float = 0.0


class _Open:
    """The layout of one open box, with its own upper left corner at 0, 0."""

    def __init__(self, graph: Graph, tree: Tree, chosen: set[int], name: int) -> None:
        self.tree, self.name, self.box = tree, name, tree.boxes[name]
        self.inner = {c: _Open(graph, tree, chosen, c) for c in self.box.children if c in chosen and tree.boxes[c].children}
        self.closed = {c: closed(graph, tree.boxes[c]) for c in self.box.children}
        self.rows = self.box.rows
        self.spot: dict[int, Spot] = {thing: (r, i) for r, row in enumerate(self.rows) for i, thing in enumerate(row)}
        self.fed = {link.target for link in self.box.links}
        self.feeding = {link.source for link in self.box.links}
        self.wide = [[self._wide(thing) for thing in row] for row in self.rows]
        self.ways: list[list[_Step]] = []  # of each link
        self.steps = self._steps()
        self.x = self._across()
        least = header(graph, tree, name) if name else 0.0
        self.told = least - PADDING + CLEAR  # where the text of the header ends
        self.w = self._centred(least)
        self.y: list[float] = []
        self.high: list[float] = []
        self.h = self._down()

    def _wide(self, thing: int) -> float:
        if thing % 4 != CHILD:
            return BEND if thing % 4 == BENDS else PORT
        inner = self.inner.get(thing // 4)
        return inner.w if inner else self.closed[thing // 4][0]

    def _tall(self, thing: int) -> float:
        if thing % 4 != CHILD:
            return 0.0
        inner = self.inner.get(thing // 4)
        return inner.h if inner else self.closed[thing // 4][1]

    def _port(self, thing: int) -> float:
        """Where a port of this box stands, from the middle of the box."""
        row, i = self.spot[thing]
        return self.x[row][i] - self.w / 2

    def _steps(self) -> list[_Step]:
        """Step 1: the ways of all links, cut at the rows; links of one trunk share steps."""
        shared = sharing(self.box.links)
        trunk: dict[tuple[int, int, str], list[Spot]] = defaultdict(list)
        for r, row in enumerate(self.rows):
            for i, thing in enumerate(row):
                if thing % 4 == BENDS:
                    trunk[shared(self.box.links[thing // 4])].append((r, i))
        steps: dict[tuple[Spot, Spot, str], _Step] = {}
        for link in self.box.links:
            source, target = self.inner.get(link.source // 4), self.inner.get(link.target // 4)
            out = came = 0.0
            if source and link.source % 4 == CHILD:
                out = source._port(code(OUT, source.box.exits.index(link.kind)))
            if target and link.target % 4 == CHILD:
                entries = target.box.entries
                came = target._port(code(IN, entries.index(link.source) if link.source in entries else len(entries) - 1))
            start, end = self.spot[link.source], self.spot[link.target]
            bends = [spot for spot in trunk[shared(link)] if start[0] < spot[0] < end[0]]
            way = [start, *bends, end]
            leaf = link.source % 4 == CHILD and link.source not in self.fed
            pull = SIDE if leaf or len(way) > 2 or link.kind == "data" else 1.0
            for a, b in zip(way, way[1:]):
                if (a, b, link.kind) not in steps:
                    own = pull if a == start or b == end else STIFF
                    steps[a, b, link.kind] = _Step(a, b, out if a == start else 0.0, came if b == end else 0.0, own)
            self.ways.append([steps[a, b, link.kind] for a, b in zip(way, way[1:])])
        return list(steps.values())

    def _across(self) -> list[list[float]]:
        """Steps 2 and 3: the centres of all things, row by row."""
        gaps = [[LANE if a % 4 == b % 4 == BENDS else COLUMN for a, b in zip(row, row[1:])] for row in self.rows]
        apart = [[(a + b) / 2 + gap for a, b, gap in zip(row, row[1:], own)] for row, own in zip(self.wide, gaps)]
        packed = []
        for wide, distances, own in zip(self.wide, apart, gaps):
            at = -(sum(wide) + sum(own)) / 2 + wide[0] / 2
            packed.append([at])
            for distance in distances:
                at += distance
                packed[-1].append(at)
        half = max((wide[0] / 2 - row[0] for row, wide in zip(packed, self.wide)), default=0.0)
        x = [list(row) for row in packed]
        above: dict[Spot, list[_Step]] = defaultdict(list)
        below: dict[Spot, list[_Step]] = defaultdict(list)
        for step in self.steps:
            above[step.b].append(step)
            below[step.a].append(step)
        count = len(self.rows)
        for sweep in range(SWEEPS):
            down = sweep % 2 == 0
            for r in range(1, count) if down else range(count - 2, -1, -1):
                wishes, weights = [], []
                for i in range(len(self.rows[r])):
                    total = pull = most = 0.0
                    for step in above[r, i] if down else below[r, i]:
                        other, offset = (step.a, step.offset_a - step.offset_b) if down else (step.b, step.offset_b - step.offset_a)
                        total += (x[other[0]][other[1]] + offset) * step.pull
                        pull += step.pull
                        most = max(most, step.pull)
                    wishes.append(total / pull if pull else x[r][i])
                    weights.append(most if pull else LOOSE)
                room = half - (self.wide[r][0] / 2 - packed[r][0])  # how far this row may move to either side
                found = spread(wishes, apart[r], weights)
                x[r] = [_inside(at, start - room, start + room) for at, start in zip(found, packed[r])]
        return x

    def _centred(self, least: float) -> float:
        """Step 4: the width; all x move to their place in it."""
        left = min((x[0] - wide[0] / 2 for x, wide in zip(self.x, self.wide)), default=0.0)
        right = max((x[-1] + wide[-1] / 2 for x, wide in zip(self.x, self.wide)), default=0.0)
        w = max(right - left + 2 * PADDING, least)
        shift = (w - (right - left)) / 2 - left
        self.x = [[x + shift for x in row] for row in self.x]
        return w

    def _down(self) -> float:
        """Step 5: the top and the height of each row; gives the height of the box."""
        reach = [0.0] * len(self.rows)
        for step in self.steps:
            way = self.x[step.b[0]][step.b[1]] + step.offset_b - self.x[step.a[0]][step.a[1]] - step.offset_a
            reach[step.a[0]] = max(reach[step.a[0]], abs(way))
        entries = bool(self.box.entries)
        y = HEADER + (0.0 if entries else TOP) if self.name else PADDING
        for r, row in enumerate(self.rows):
            self.y.append(y)
            self.high.append(max(self._tall(thing) for thing in row))
            port = (r == 0 and entries) or (r == len(self.rows) - 2 and bool(self.box.exits))
            y += self.high[r]
            if r < len(self.rows) - 1:
                y += (PORT_GAP if port else ROW) + min(REACH * reach[r], MORE)
        return y if self.box.exits else y + PADDING

    def _top(self, spot: Spot) -> float:
        thing = self.rows[spot[0]][spot[1]]
        free = self.high[spot[0]] - self._tall(thing)
        if thing % 4 != CHILD or thing not in self.feeding:
            return self.y[spot[0]]
        return self.y[spot[0]] + (free if thing not in self.fed else free / 2)

    def _ends(self) -> None:
        """Step 6: the x of both ends of each step."""
        for step in self.steps:
            low_a, high_a = self._span(step.a, step.offset_a)
            low_b, high_b = self._span(step.b, step.offset_b)
            middle_a, middle_b = (low_a + high_a) / 2, (low_b + high_b) / 2
            low, high = max(low_a, low_b), min(high_a, high_b)
            if low <= high:
                step.x_a = step.x_b = _inside((middle_a + middle_b) / 2, low, high)
            else:
                step.x_a, step.x_b = _inside(middle_b, low_a, high_a), _inside(middle_a, low_b, high_b)
        above: dict[Spot, list[_Step]] = defaultdict(list)
        below: dict[Spot, list[_Step]] = defaultdict(list)
        for step in self.steps:
            below[step.a].append(step)
            above[step.b].append(step)
        for mine in below.values():
            found = self._apart([step.x_a for step in mine], self._span(mine[0].a, mine[0].offset_a))
            for step, x in zip(mine, found):
                step.x_a = x
        for mine in above.values():
            found = self._apart([step.x_b for step in mine], self._span(mine[0].b, mine[0].offset_b))
            for step, x in zip(mine, found):
                step.x_b = x

    def _apart(self, wishes: list[float], span: tuple[float, float]) -> list[float]:
        """Ends at one border of a closed child, kept apart and inside the span."""
        low, high = span
        if low == high or len(wishes) < 2:
            return wishes
        last = len(wishes) - 1
        turn = sorted(range(last + 1), key=lambda i: wishes[i])  # stable: of equal wishes the earlier step is further left
        distance = min(APART, (high - low) / last)
        found = spread([wishes[i] for i in turn], [distance] * last, [1.0] * (last + 1))
        for n, i in enumerate(turn):
            wishes[i] = _inside(found[n], low + n * distance, high - (last - n) * distance)
        return wishes

    def _span(self, spot: Spot, offset: float) -> tuple[float, float]:
        """Between which x a line may touch it."""
        thing, x = self.rows[spot[0]][spot[1]], self.x[spot[0]][spot[1]]
        if thing % 4 == CHILD and thing // 4 not in self.inner:
            half = self.wide[spot[0]][spot[1]] / 2 - EDGE
            return x - half, x + half
        return x + offset, x + offset

    def _begin(self, source: int, step: _Step) -> float:
        """The y at which a line begins: of one that comes in the upper border of the box, unless the header's text is in its way."""
        if source % 4 == IN and step.x_a >= self.told:
            return 0.0
        return self._top(step.a) + self._tall(source)

    def put(self, scene: Scene, x: float, y: float, depth: int) -> None:
        """The box at this place, what is in it, and its lines."""
        scene.boxes.append(Placed(self.name, x, y, self.w, self.h, depth, True))
        for r, row in enumerate(self.rows):
            for i, thing in enumerate(row):
                if thing % 4 != CHILD:
                    continue
                left, top = x + self.x[r][i] - self.wide[r][i] / 2, y + self._top((r, i))
                if thing // 4 in self.inner:
                    self.inner[thing // 4].put(scene, left, top, depth + 1)
                else:
                    scene.boxes.append(Placed(thing // 4, left, top, self.wide[r][i], self._tall(thing), depth + 1, False))
        self._ends()
        for number, (link, way) in enumerate(zip(self.box.links, self.ways)):
            points = [(x + way[0].x_a, y + self._begin(link.source, way[0]))]
            for step in way:
                points.append((x + step.x_a, y + self.y[step.a[0]] + self.high[step.a[0]]))
                points.append((x + step.x_b, y + self.y[step.b[0]]))
            points.append((x + way[-1].x_b, y + self._top(way[-1].b)))
            scene.lines.append(Line(self.name, number, points, link.kind, link.cut, link.count, link.norm))
