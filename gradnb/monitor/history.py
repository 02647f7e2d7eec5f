"""What the monitor remembers: plain numbers per layer and step, in bounded memory. It knows no torch, no rule and no display."""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .blocks import IMPLIED, NONE, Cells, Span, cells_of, merge_cells, merge_spans
from .kept import Kept

COLUMNS = ("norm", "weight", "update", "zeros", "bad", "missing")
"""norm: L2 norm of the layer's gradient, unscaled, before clipping (0.0 where an optimizer was about to step and there was none);
weight: L2 norm of its parameters; update: ``|dW| / |W|`` of the optimizer's step; zeros: share of exact zeros in the gradient, 0 to 1;
bad: count of elements that are NaN or infinite; missing: count of its parameters that had no gradient at all."""

WHOLE, BLOCKS, EVENTS = 256, 64, 1000
_MADE = ("global_norm", "clipped_norm", "scale", "lr")
_PREFIXES = ("gate:", "lr.", "dead:", "saturated:")

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


@dataclass
class History:
    """Per layer and step, and what the user logged. The last 256 steps are whole; older ones are blocks of two rows, each layer's
    smallest values at the block's first step and each layer's largest (NaN counts as largest) at its last."""

    layers: list[Layer] = field(default_factory=list)
    """What is watched, in the order of the values in a row."""
    gates: dict[str, tuple[int, int]] = field(default_factory=dict)
    """How often a gate fired, and how often it was asked."""
    events: list[tuple[int, str, str]] = field(default_factory=list)
    """(step, kind, text); kind is "skipped", "nan", "clip", "epoch", "unfrozen", "frozen" (an
    optimizer holds a sub-model, text is its label, that trains nothing), "foreign" (no given optimizer holds what is watched), "ranks",
    "resumed", "note" or "stopped"."""
    count: int = 0
    """How many steps were recorded in all."""

    def __post_init__(self) -> None:
        self._empty()

    def _empty(self) -> None:
        self._cells: Kept[Cells] = Kept(WHOLE, BLOCKS, merge_cells)
        self._series: dict[str, Kept[Span]] = defaultdict(lambda: Kept(2 * WHOLE, BLOCKS, merge_spans))

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
        """One list a kept step, one value a layer; None where it was not measured. ``name`` is one of COLUMNS, which says the units.

        KeyError for another name.
        """
        return [self._values(cells_of(cells, _known(name))) for _, cells in self._rows()]

    def of(self, layer: str, column: str = "norm") -> list[tuple[int, float]]:
        """The points (step, value) of one layer, where measured, the oldest first: ``monitor.history.of("agent.0", "norm")``.

        ``layer`` is its name, ``column`` one of COLUMNS, which says the units. KeyError for other names.
        """
        index = next((i for i, one in enumerate(self.layers) if one.name == layer), None)
        if index is None:
            raise KeyError(f"no layer is called {layer!r}; there are: {', '.join(one.name for one in self.layers)}")
        found = ((step, _at(cells_of(cells, _known(column)), index)) for step, cells in self._rows())
        return [(step, value) for step, value in found if value is not None]

    def at(self, step: int, column: str) -> list[float | None]:
        """The row of one kept ``step``, one value a layer, of a ``column`` of COLUMNS; all None where the step is not kept."""
        _known(column)
        for cells in self._cells.backwards():
            if cells.first <= step <= cells.last:
                return self._values(cells_of(cells.high if step == cells.last else cells.low, column))
        return self._values(None)

    def newest(self, column: str, n: int = 1) -> list[tuple[int, list[float | None]]]:
        """The newest ``n`` rows in which something was measured in this ``column``, as (step, values), the newest last."""
        _known(column)
        rows: list[tuple[int, list[float | None]]] = []
        for cells in self._cells.backwards():
            for step, side in ((cells.last, cells.high), (cells.first, cells.low))[: 1 if cells.count == 1 else 2]:
                if (found := cells_of(side, column)) is not None:
                    rows.append((step, self._values(found)))
                    if len(rows) == n:
                        return rows[::-1]
        return rows[::-1]

    def tail(self, name: str, n: int = 1) -> list[tuple[int, float]]:
        """The newest ``n`` points (step, value) of the series ``name``, the newest last; [] where there is none."""
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
        """The points (step, value) of the series ``name`` behind ``step`` (a step itself is left out), the oldest first."""
        points: list[tuple[int, float]] = []
        for span in self._series[name].backwards() if name in self._series else ():
            if span.points[-1][0] <= step:
                break
            points += [point for point in reversed(span.points) if point[0] > step]
        return points[::-1]

    def spans(self, column: str) -> Iterator[tuple[int, int, array]]:
        """(first step, last step, largest value of each layer in ``column``) of each kept step or block, oldest first; -1: not measured.
        The arrays are the history's own: for displays, which must be quick and only read."""
        _known(column)
        return ((cells.first, cells.last, found) for cells in self._cells if (found := cells_of(cells.high, column)) is not None)

    def points(self, name: str) -> tuple[list[tuple[int, float]], list[float]]:
        """All kept points (step, value) of a series ``name``, oldest first, and how many each stands for: half a block where merged."""
        kept = self._series.get(name)
        spans = [] if kept is None else list(kept)
        return [point for span in spans for point in span.points], [span.count / len(span.points) for span in spans for _ in span.points]

    @property
    def names(self) -> list[str]:
        """The names of the series."""
        return list(self._series)

    @property
    def logged(self) -> list[str]:
        """The names of the user's own series."""
        return [name for name in self._series if name not in _MADE and not name.startswith(_PREFIXES)]

    # writing: the monitor's alone

    def put(self, step: int, row: Row) -> None:
        """Add a step; one that is there already (a second optimizer's part of it) is filled up."""
        newest = self._cells.newest
        if newest is not None and newest.count == 1 and newest.last == step:
            for name in IMPLIED:
                if name in row or name in newest.low:
                    newest.low[name] = cells_of(newest.low, name) or array("d")
                    implied: list[float | None] = [None if value is None else 0.0 for value in row.get("norm", ())]
                    row = {**row, name: row.get(name, implied)}
            for name, values in row.items():
                mine = newest.low.setdefault(name, array("d"))
                mine.extend([NONE] * (len(values) - len(mine)))
                for index, value in enumerate(values):
                    if value is not None:
                        mine[index] = value
            return
        cells = {name: array("d", [NONE if value is None else value for value in values]) for name, values in row.items()}
        self.count += 1
        self._cells.add(Cells(step, step, cells, cells))

    def log(self, step: int, name: str, value: float) -> None:
        """Add a point to a series."""
        self._series[name].add(Span([(step, value)]))

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

    def kept(self) -> tuple[list[Cells], dict[str, list[Span]]]:
        """All that is kept of the layers and of the series, the oldest first."""
        return list(self._cells), {name: list(spans) for name, spans in self._series.items()}

    def restore(self, count: int, cells: Sequence[Cells], series: Mapping[str, Sequence[Span]]) -> None:
        """In place of what is here, what another history kept; ``count`` is how many steps that one has recorded."""
        self._empty()
        self.count = count
        self._cells.restore(cells)
        for name, spans in series.items():
            self._series[name].restore(spans)

    def _rows(self) -> Iterator[tuple[int, dict[str, array]]]:
        for cells in self._cells:
            yield cells.first, cells.low
            if cells.count > 1:
                yield cells.last, cells.high

    def _points(self, kept: "Kept[Span]") -> Iterator[tuple[int, float]]:
        for span in kept:
            yield from span.points

    def _values(self, cells: array | None) -> list[float | None]:
        count = len(self.layers)
        if cells is None:
            return [None] * count
        known = cells.tolist() if not cells.count(NONE) else [None if value == NONE else value for value in cells]
        return known if len(known) == count else known + [None] * (count - len(known))


def _at(cells: array | None, index: int) -> float | None:
    value: Any = cells[index] if cells is not None and index < len(cells) else NONE
    return None if value == NONE else value


def _known(column: str) -> str:
    if column not in COLUMNS:
        raise KeyError(f"no column is called {column!r}; there are: {', '.join(COLUMNS)}")
    return column
