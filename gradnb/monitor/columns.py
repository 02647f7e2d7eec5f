"""The history on the columns of a picture: at most so many, however many steps there are; each shows the largest value it covers."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

from .history import WHOLE, History

COLUMNS, POINTS = 128, 96  # of the heat map, and of a line at most
_FEW = 4  # rows of a column that are compared all at once: reduceat is ten times slower


@dataclass(frozen=True, slots=True)
class Axis:
    """The steps from left to right, from 0 to 1."""

    first: int
    last: int
    count: int = COLUMNS

    @property
    def length(self) -> int:
        return self.last - self.first + 1

    def place(self, step: float) -> float:
        """Where the middle of a step stands, 0 to 1."""
        return min(1.0, max(0.0, (step - self.first + 0.5) / self.length))


@dataclass(frozen=True, slots=True)
class Look:
    """The gradient norms as one frame shows them."""

    axis: Axis
    values: Any
    """float64, one row a layer and one column a stretch of steps; -1 where not measured, NaN or infinity where not finite."""
    newest: list[float]
    """The newest number of each layer that was measured, -1 where none was."""


def look(history: History) -> Look | None:
    """The norms of all that was recorded; None before the first step."""
    on = axis(history)
    if on is None:
        return None
    values = grid(history, "norm", on)
    known = ~(values < 0)
    last = values.shape[1] - 1 - np.argmax(known[:, ::-1], axis=1)
    return Look(on, values, values[np.arange(len(values)), last].tolist())


def narrower(values: Any, most: int) -> Any:
    """The same in fewer columns."""
    count = values.shape[1]
    return values if count <= most else np.maximum.reduceat(values, np.arange(most) * count // most, axis=1)


def axis(history: History, most: int = COLUMNS) -> Axis | None:
    """From the first recorded step to the newest; None before the first."""
    first = next((first for first, _, _ in history.spans("norm")), None)
    if first is None:
        return None
    return Axis(first, history.step, min(most, history.step - first + 1))


def grid(history: History, column: str, on: Axis) -> Any:
    """A column of the history as a matrix on these columns, as in Look.values. A step between two recorded ones shows the one before it."""
    layers = len(history.layers)
    spans = list(history.spans(column))
    if not spans:
        return np.full((layers, on.count), -1.0)
    firsts, lasts, rows = zip(*spans)
    if all(len(row) == layers for row in rows):
        matrix = np.frombuffer(b"".join(rows)).reshape(len(rows), layers)
    else:  # layers that were taken up later
        matrix = np.full((len(rows), layers), -1.0)
        for target, row in zip(matrix, rows):
            target[: len(row)] = row
    edges = on.first + np.arange(on.count + 1) * (on.length / on.count)
    begin = np.searchsorted(lasts, edges[:-1], "left")
    end = np.searchsorted(firsts, edges[1:], "left") - 1
    unmeasured = end < 0  # this column of the history begins later than the axis
    end = np.maximum(end, 0)
    begin = np.minimum(begin, end)
    long = end - begin >= _FEW
    values = matrix[begin]
    for ahead in range(1, _FEW):
        values = np.maximum(values, matrix[np.minimum(begin + ahead, end)])
        if ahead >= int((end - begin).max()):
            break
    for place in np.flatnonzero(long).tolist():  # the whole newest steps, in a few columns of a long run
        values[place] = matrix[begin[place] : end[place] + 1].max(axis=0)
    values[unmeasured] = -1.0
    return values.T


@dataclass(frozen=True, slots=True)
class Series:
    """A line: at each place (0 to 1) the smallest, the largest and the middle of what it covers, as logarithms where ``log``."""

    place: Any
    low: Any
    high: Any
    middle: Any
    known: Any
    """Whether anything there is finite (and above zero, where ``log``)."""
    log: bool
    wide: bool
    """Whether low and high differ."""
    bad: float | None
    """The first place that holds a NaN or an infinity."""


def series(history: History, name: str, on: Axis, log: bool = False) -> Series:
    """A series on this axis. ``log`` for a logarithmic one; it is chosen, too, where positive values span two decades."""
    points, weights = history.points(name)
    found = np.fromiter(chain.from_iterable(points), dtype=float, count=2 * len(points)).reshape(-1, 2)
    place = np.minimum(np.maximum((found[:, 0] - on.first + 0.5) / on.length, 0.0), 1.0)
    values = found[:, 1]
    fine: Any = np.isfinite(values)
    bad = None if fine.all() else float(place[fine.argmin()])
    some = values[fine]
    if some.size and (log or (some.min() > 0 and some.max() > 100 * some.min())) and some.max() > 0:
        log = True
        fine &= values > 0
        values = np.log10(np.where(fine, values, 1.0))
    else:
        log = False
    values = np.where(fine, values, np.nan)
    if len(points) <= POINTS and max(weights, default=1.0) == 1.0:
        return Series(place, values, values, values, fine, log, False, bad)
    # Where steps were merged, single ones are put together in as many as a block holds: one look from end to end.
    many = np.array(weights)
    long = max(2 * float(many.max()) if many.max() > 1 or len(points) > 2 * WHOLE else 1.0, float(many.sum()) / POINTS)
    starts = np.flatnonzero(np.diff(((np.cumsum(many) - many / 2) / long).astype(int), prepend=-1))
    counts = np.add.reduceat(fine.astype(float), starts)
    with np.errstate(invalid="ignore", divide="ignore"):
        middle = np.add.reduceat(np.where(fine, values, 0.0), starts) / counts
    where = np.add.reduceat(place, starts) / np.diff(np.append(starts, len(place)))
    low, high = np.fmin.reduceat(values, starts), np.fmax.reduceat(values, starts)
    return Series(where, low, high, middle, counts > 0, log, True, bad)
