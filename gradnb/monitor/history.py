"""What the monitor remembers: plain numbers per layer and step, in bounded memory. It knows no torch, no rule and no display."""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from .kept import Kept

COLUMNS = ("norm", "weight", "update", "zeros", "bad", "missing")
"""norm: L2 norm of the layer's gradient, unscaled, before clipping (0.0 where an optimizer was about to step and there was none);
weight: L2 norm of its parameters; update: |dW| / |W| of the optimizer's step; zeros: share of exact zeros in the gradient, 0 to 1;
bad: count of elements that are NaN or infinite; missing: count of its parameters that had no gradient at all."""

WHOLE, BLOCKS, EVENTS = 256, 64, 1000
_IMPLIED = ("bad", "missing")
_NONE = -1.0  # no column is ever negative, and an array of doubles is a tenth of a list of floats

Row = dict[str, Sequence[float | None]]


@dataclass
class Layer:
    """A layer: the module that holds the parameters, or its ancestor where ``depth`` cuts."""

    name: str
    """With the sub-model's label in front, as in "agent.encoder.fc1"."""
    model: str
    """The sub-model's label; "" when one model is watched."""
    parameters: int
    """How many numbers it trains."""
    shapes: list[tuple[int, ...]]
    """One shape a parameter."""
    tensors: int = 1
    """How many parameters it has."""
    held: bool = False
    """Whether an optimizer that was given or seen holds a parameter of it."""


@dataclass(slots=True)
class _Cells:
    """One kept step; or a block of older ones, of which each layer's smallest and largest values stay."""

    first: int
    last: int
    low: dict[str, array]
    high: dict[str, array]
    count: int = 1


@dataclass
class History:
    """Per layer and step, and what the user logged. The last 256 steps are whole; older ones are blocks of two rows, each layer's
    smallest values at the block's first step and each layer's largest (NaN counts as largest) at its last."""

    layers: list[Layer] = field(default_factory=list)
    gates: dict[str, tuple[int, int]] = field(default_factory=dict)
    """How often a gate fired, and how often it was asked."""
    events: list[tuple[int, str, str]] = field(default_factory=list)
    """(step, kind, text); kind is "skipped", "nan", "clip", "epoch", "unfrozen", "frozen" (an
    optimizer holds a sub-model, text is its label, that trains nothing), "foreign" (no given optimizer holds what is watched), "ranks",
    "note" or "stopped"."""
    count: int = 0
    """How many steps were recorded in all."""

    def __post_init__(self) -> None:
        self._cells: Kept[_Cells] = Kept(WHOLE, BLOCKS, _merge_cells)
        self._series: dict[str, Kept[_Span]] = defaultdict(lambda: Kept(2 * WHOLE, BLOCKS, _merge_spans))

    # reading

    @property
    def step(self) -> int:
        """The number of the newest recorded step, 0 before the first."""
        newest = self._cells.newest
        return newest.last if newest is not None else 0

    @property
    def steps(self) -> list[int]:
        """The numbers of the kept steps, one for each row of ``column()``."""
        return [step for step, _ in self._rows()]

    @property
    def series(self) -> dict[str, list[tuple[int, float]]]:
        """ "loss" and all else that was logged; "global_norm", "clipped_norm", "lr", "scale", "gate:<name>" and so on."""
        return {name: list(self._points(kept)) for name, kept in self._series.items()}

    def column(self, name: str) -> list[list[float | None]]:
        """One list a kept step, one value a layer; None where it was not measured."""
        return [self._values(_cells_of(cells, _known(name))) for _, cells in self._rows()]

    def of(self, layer: str, column: str = "norm") -> list[tuple[int, float]]:
        """(step, value) of one layer by its name, where measured."""
        index = next((i for i, one in enumerate(self.layers) if one.name == layer), None)
        if index is None:
            raise KeyError(f"no layer is called {layer!r}; there are: {', '.join(one.name for one in self.layers)}")
        found = ((step, _at(_cells_of(cells, _known(column)), index)) for step, cells in self._rows())
        return [(step, value) for step, value in found if value is not None]

    def at(self, step: int, column: str) -> list[float | None]:
        """The row of one kept step, one value a layer."""
        _known(column)
        for cells in self._cells.backwards():
            if cells.first <= step <= cells.last:
                return self._values(_cells_of(cells.high if step == cells.last else cells.low, column))
        return self._values(None)

    def newest(self, column: str, n: int = 1) -> list[tuple[int, list[float | None]]]:
        """The newest n rows in which something was measured in this column, as (step, values), the newest last."""
        _known(column)
        rows: list[tuple[int, list[float | None]]] = []
        for cells in self._cells.backwards():
            for step, side in ((cells.last, cells.high), (cells.first, cells.low))[: 1 if cells.count == 1 else 2]:
                if (found := _cells_of(side, column)) is not None:
                    rows.append((step, self._values(found)))
                    if len(rows) == n:
                        return rows[::-1]
        return rows[::-1]

    def tail(self, name: str, n: int = 1) -> list[tuple[int, float]]:
        """The newest n points of a series, the newest last."""
        kept = self._series.get(name)
        if kept is None:
            return []
        points: list[tuple[int, float]] = []
        for span in kept.backwards():
            points.extend(reversed(span.points))
            if len(points) >= n:
                break
        return points[:n][::-1]

    def since(self, name: str, step: int) -> list[tuple[int, float]]:
        """The points of a series behind a step, the oldest first."""
        points: list[tuple[int, float]] = []
        for span in self._series[name].backwards() if name in self._series else ():
            if span.points[-1][0] <= step:
                break
            points += [point for point in reversed(span.points) if point[0] > step]
        return points[::-1]

    def spans(self, column: str) -> Iterator[tuple[int, int, array]]:
        """(first step, last step, largest value of each layer) of each kept step or block, oldest first; -1 where not measured.
        The arrays are the history's own: for displays, which must be quick and only read."""
        _known(column)
        return ((cells.first, cells.last, found) for cells in self._cells if (found := _cells_of(cells.high, column)) is not None)

    def points(self, name: str) -> tuple[list[tuple[int, float]], list[float]]:
        """All points of one series that are kept, oldest first, and how many each stands for: half of a block, where older ones merged."""
        kept = self._series.get(name)
        spans = [] if kept is None else list(kept)
        return [point for span in spans for point in span.points], [span.count / len(span.points) for span in spans for _ in span.points]

    @property
    def names(self) -> list[str]:
        """The names of the series."""
        return list(self._series)

    # writing: the monitor's alone

    def put(self, step: int, row: Row) -> None:
        """Add a step; one that is there already (a second optimizer's part of it) is filled up."""
        newest = self._cells.newest
        if newest is not None and newest.count == 1 and newest.last == step:
            for name in _IMPLIED:
                if name in row or name in newest.low:
                    newest.low[name] = _cells_of(newest.low, name) or array("d")
                    implied: list[float | None] = [None if value is None else 0.0 for value in row.get("norm", ())]
                    row = {**row, name: row.get(name, implied)}
            for name, values in row.items():
                mine = newest.low.setdefault(name, array("d"))
                mine.extend([_NONE] * (len(values) - len(mine)))
                for index, value in enumerate(values):
                    if value is not None:
                        mine[index] = value
            return
        cells = {name: array("d", [_NONE if value is None else value for value in values]) for name, values in row.items()}
        self.count += 1
        self._cells.add(_Cells(step, step, cells, cells))

    def log(self, step: int, name: str, value: float) -> None:
        """Add a point to a series."""
        self._series[name].add(_Span([(step, value)]))

    def amend(self, step: int, name: str, value: float) -> None:
        """Add a point to a series, in place of the one this step has already."""
        newest = self._series[name].newest
        if newest is not None and newest.points[-1][0] == step:
            newest.points[-1] = (step, value)
        else:
            self.log(step, name, value)

    def gate(self, step: int, name: str, fired: float) -> None:
        """Count one question to a gate; ``fired`` is 0 or 1."""
        so_far, asked = self.gates.get(name, (0, 0))
        self.gates[name] = (so_far + int(fired), asked + 1)
        self.log(step, f"gate:{name}", fired)

    def event(self, step: int, kind: str, text: str) -> None:
        """Note what happened; of very many, the first and the newest stay."""
        self.events.append((step, kind, text))
        if len(self.events) > EVENTS:
            del self.events[EVENTS // 4]

    def _rows(self) -> Iterator[tuple[int, dict[str, array]]]:
        for cells in self._cells:
            yield cells.first, cells.low
            if cells.count > 1:
                yield cells.last, cells.high

    def _points(self, kept: "Kept[_Span]") -> Iterator[tuple[int, float]]:
        for span in kept:
            yield from span.points

    def _values(self, cells: array | None) -> list[float | None]:
        count = len(self.layers)
        if cells is None:
            return [None] * count
        known = cells.tolist() if not cells.count(_NONE) else [None if value == _NONE else value for value in cells]
        return known if len(known) == count else known + [None] * (count - len(known))


@dataclass(slots=True)
class _Span:
    """A point of a series, or a block's smallest and largest in the order of their steps."""

    points: list[tuple[int, float]]
    count: int = 1


def _merge_spans(a: _Span, b: _Span) -> _Span:
    points = a.points + b.points
    low, high = min(points, key=_ascending), max(points, key=_ascending)
    return _Span(sorted({low, high}, key=lambda point: point[0]), a.count + b.count)


def _ascending(point: tuple[int, float]) -> tuple[bool, float]:
    return (True, 0.0) if point[1] != point[1] else (False, point[1])  # NaN above infinity: of extremes it is the one to keep


def _merge_cells(a: _Cells, b: _Cells) -> _Cells:
    def both(one: dict[str, array], other: dict[str, array], choose: Callable[[float, float], float]) -> dict[str, array]:
        merged = {}
        for name in {**one, **other}:
            x, y = _cells_of(one, name) or array("d"), _cells_of(other, name) or array("d")
            longer = x if len(x) > len(y) else y
            merged[name] = array("d", map(choose, x, y)) + longer[min(len(x), len(y)) :]
        return merged

    return _Cells(a.first, b.last, both(a.low, b.low, _lower), both(a.high, b.high, _higher), a.count + b.count)


def _lower(x: float, y: float) -> float:
    if x == _NONE or x != x:
        return x if y == _NONE else y
    return x if y == _NONE or not y < x else y


def _higher(x: float, y: float) -> float:
    return y if y > x or y != y else x  # not measured is -1, below all


def _cells_of(cells: dict[str, array], column: str) -> array | None:
    """A column of a row. "bad" and "missing" are 0 wherever there is a norm, and not stored unless they are more."""
    found = cells.get(column)
    if found is None and column in _IMPLIED and "norm" in cells:
        return array("d", [_NONE if value == _NONE else 0.0 for value in cells["norm"]])
    return found


def _at(cells: array | None, index: int) -> float | None:
    value: Any = cells[index] if cells is not None and index < len(cells) else _NONE
    return None if value == _NONE else value


def _known(column: str) -> str:
    if column not in COLUMNS:
        raise KeyError(f"no column is called {column!r}; there are: {', '.join(COLUMNS)}")
    return column
