"""What the plots of a monitor share: the axis of steps, the places of the flags, the words of an empty one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes

from ..report.pen import VERMILLION
from . import columns
from .drawing import COLOURS, SIGNS
from .flags import Flag
from .history import History

MARKED = 9  # flags that have a place in a plot


def mark(axes: Axes, flags: list[Flag], colour: str | None = None) -> None:
    """A line where a flag rose, with its sign and its number in the list below."""
    across = axes.get_xaxis_transform()
    low, high = axes.get_xlim()
    taken: list[float] = []
    for number, flag in sorted(enumerate(flags[:MARKED], 1), key=lambda pair: pair[1].first):
        own = COLOURS.get(flag.severity, VERMILLION)
        axes.axvline(flag.first, color=own if colour is None else colour, lw=1.1, ls=(0, (3, 3)), alpha=1 if flag.active else 0.5)
        place = max([float(flag.first), *(other + (high - low) * 0.05 for other in taken)])
        taken.append(place)
        ink = "black" if flag.severity == "warning" else "white"
        box = {"boxstyle": "round,pad=0.2", "fc": own, "ec": "none", "alpha": 1 if flag.active else 0.6}
        axes.text(
            place,
            1.0,
            f"{SIGNS.get(flag.severity, '!')} {number}",
            transform=across,
            fontsize=7,
            color=ink,
            ha="center",
            va="center",
            bbox=box,
        )
    axes.set_xlim(low, high)


def empty(axes: Axes, why: str) -> None:
    """A plot of nothing says why."""
    axes.set_axis_off()
    axes.text(0.5, 0.5, why, transform=axes.transAxes, ha="center", va="center", fontsize=10)


def over(axes: Axes, history: History) -> None:
    """The steps from left to right, the same in each plot."""
    from matplotlib.ticker import MaxNLocator

    first = next(first for first, _, _ in history.spans("norm"))
    axes.set_xlim(first - 0.5, history.step + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(9, integer=True))
    axes.set_xlabel("optimizer step")


def steps_axis(history: History) -> columns.Axis:
    axis = columns.axis(history)
    assert axis is not None, "something was recorded"
    return axis


def dot(points: Sequence[Any]) -> str:
    return "o" if len(points) < 4 else ""  # a line of so few is hard to see
