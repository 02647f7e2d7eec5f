"""What is kept of a step, of a point, and of a block of older ones: the smallest and the largest value."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

NONE = -1.0  # no column is ever negative, and an array of doubles is a tenth of a list of floats
IMPLIED = ("bad", "missing")


@dataclass(slots=True)
class Cells:
    """One kept step; or a block of older ones, of which each layer's smallest and largest values stay."""

    first: int
    last: int
    low: dict[str, array]
    high: dict[str, array]
    count: int = 1


@dataclass(slots=True)
class Span:
    """A point of a series, or a block's smallest and largest in the order of their steps."""

    points: list[tuple[int, float]]
    count: int = 1


def merge_spans(a: Span, b: Span) -> Span:
    points = a.points + b.points
    low, high = min(points, key=_ascending), max(points, key=_ascending)
    return Span(sorted({low, high}, key=lambda point: point[0]), a.count + b.count)


def _ascending(point: tuple[int, float]) -> tuple[bool, float]:
    return (True, 0.0) if point[1] != point[1] else (False, point[1])  # NaN above infinity: of extremes it is the one to keep


def merge_cells(a: Cells, b: Cells) -> Cells:
    return Cells(a.first, b.last, _both(a.low, b.low, _lower), _both(a.high, b.high, _higher), a.count + b.count)


def _both(one: dict[str, array], other: dict[str, array], choose: Callable[[Any, Any], Any]) -> dict[str, array]:
    merged = {}
    for name in {**one, **other}:
        x, y = cells_of(one, name) or array("d"), cells_of(other, name) or array("d")
        layers = max(len(x), len(y))
        merged[name] = array("d", choose(_numbers(x, layers), _numbers(y, layers)).tobytes())
    return merged


def _numbers(values: array, layers: int) -> Any:
    """A layer that was not there yet was not measured."""
    return np.frombuffer(values if len(values) == layers else values + array("d", [NONE]) * (layers - len(values)))


def _lower(x: Any, y: Any) -> Any:
    found = np.fmin(x, y)  # a number rather than NaN
    return np.where(found == NONE, np.maximum(x, y), found)


_higher = np.maximum  # NaN above all, and not measured, which is -1, below all


def cells_of(cells: dict[str, array], column: str) -> array | None:
    """A column of a row. "bad" and "missing" are 0 wherever there is a norm, and not stored unless they are more."""
    found = cells.get(column)
    if found is None and column in IMPLIED and "norm" in cells:
        return array("d", [NONE if value == NONE else 0.0 for value in cells["norm"]])
    return found
