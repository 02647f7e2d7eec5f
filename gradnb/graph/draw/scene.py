"""A picture as rectangles and lines, and the arithmetic that keeps things in a row apart."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Placed:
    """A box and its rectangle; an open one comes before what is in it."""

    box: int
    x: float
    y: float
    w: float
    h: float
    depth: int  # 0 for the whole picture
    open: bool


@dataclass(slots=True)
class Line:
    """A link of an open box and its way."""

    box: int  # the open box, …
    link: int  # … and the position in its ``links``
    points: list[tuple[float, float]]
    kind: str
    cut: bool
    count: int
    norm: float | None


@dataclass(slots=True)
class Scene:
    w: float = 0.0
    h: float = 0.0
    boxes: list[Placed] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)


def spread(wishes: list[float], distances: list[float], weights: list[float]) -> list[float]:
    """The positions nearest to the wishes (weighted squares) that are at least ``distances`` apart, in the given order.

    Pool-adjacent-violators: neighbours that are too close are joined to one block, which stands at the mean of its wishes.
    """
    shift, shifts = 0.0, [0.0]
    for distance in distances:
        shift += distance
        shifts.append(shift)
    blocks: list[tuple[float, float, int]] = []  # mean, weight, how many
    for wish, weight, shift in zip(wishes, weights, shifts):
        mean, number = wish - shift, 1
        while blocks and blocks[-1][0] > mean:
            before, heavy, many = blocks.pop()
            mean = (before * heavy + mean * weight) / (heavy + weight)
            weight += heavy
            number += many
        blocks.append((mean, weight, number))
    flat = [mean for mean, _, number in blocks for _ in range(number)]
    return [mean + shift for mean, shift in zip(flat, shifts)]
