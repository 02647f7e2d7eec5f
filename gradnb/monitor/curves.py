"""Lines over the steps: one a layer, or one in its band for a series."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes

from ..report import words
from ..report.pen import GREY, VERMILLION
from ..report.plot import _plain as plain
from . import columns
from .history import History
from .lines import label
from .marks import dot, over, steps_axis

NAMED = 10  # lines that a legend can tell apart
# Okabe-Ito, and line styles with them, so that colour is never alone.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
_STYLES = ("-", "--", "-.", ":")


def layers(axes: Axes, history: History, column: str, what: str, marker: str = "") -> None:
    steps, rows = _measured(history, column)
    count = len(history.layers)
    axes.set_yscale("log")
    ramp = colormaps["viridis"]
    drawn, odd = 0, []
    for index, layer in enumerate(history.layers):
        known = ~(rows[:, index] < 0)
        x, values = steps[known], rows[known, index]
        if not len(values):
            continue
        if not (np.isfinite(values) & (values > 0)).any():
            odd.append((layer.name, "only zeros" if (values == 0).all() else "never finite"))
            continue
        look: dict[str, Any] = (
            {"color": _COLOURS[index % 7], "ls": _STYLES[index // 7 % 4]} if count <= NAMED else {"color": ramp(index / max(1, count - 1))}
        )
        fine = np.where(np.isfinite(values) & (values > 0), values, np.nan)
        axes.plot(x, fine, lw=1.3, marker=marker or dot(x), ms=4, label=plain(label(layer.name, 40)), **look)
        drawn += 1
        if not np.isfinite(values).all():
            at, when = _first_bad(history, column, index)
            axes.plot([at], [0.97], marker="x", ms=7, mew=2, color=VERMILLION, transform=axes.get_xaxis_transform(), clip_on=False)
            odd.append((layer.name, f"NaN or Inf {when}"))
    if not drawn:
        axes.set_ylim(0.1, 1.0)
    if drawn and count <= NAMED:
        axes.legend(fontsize=7.5, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, prop={"family": "monospace", "size": 7.5})
    elif drawn:
        _order(axes, history, ramp)
    said = [f"{plain(label(name, 30))}: {why}" for name, why in odd[:4]] + (
        [f"+ {words.count(len(odd) - 4, 'layer')}"] if len(odd) > 4 else []
    )
    if said:
        axes.text(
            0.01,
            0.03,
            "\n".join(said),
            transform=axes.transAxes,
            fontsize=7.5,
            va="bottom",
            bbox={"fc": "white", "ec": GREY, "alpha": 0.85, "lw": 0.5},
        )
    axes.set_ylabel(what)
    over(axes, history)
    axes.grid(axis="y", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)


def _measured(history: History, column: str) -> tuple[Any, Any]:
    """(steps, one row each with a value a layer, -1 where not measured); where steps were merged, all in stretches of equal length."""
    spans = list(history.spans(column))
    rows = np.full((len(spans), len(history.layers)), -1.0)
    for target, (_, _, row) in zip(rows, spans):
        target[: len(row)] = row
    steps = np.array([(first + last) / 2 for first, last, _ in spans])
    if all(first == last for first, last, _ in spans):
        return steps, rows
    axis = steps_axis(history)
    starts = np.flatnonzero(np.diff(((steps - axis.first + 0.5) / axis.length * axis.count).astype(int), prepend=-1))
    counts = np.diff(np.append(starts, len(steps)))
    return np.add.reduceat(steps, starts) / counts, np.maximum.reduceat(rows, starts, axis=0)


def _first_bad(history: History, column: str, index: int) -> tuple[float, str]:
    """Where a layer is not finite for the first time: as exactly as the history knows it."""
    for first, last, row in history.spans(column):
        if index < len(row) and not np.isfinite(row[index]):
            return (first + last) / 2, f"from step {first}" if first == last else f"between steps {first} and {last}"
    raise LookupError(f"layer {index} is finite at each step")


def _order(axes: Axes, history: History, ramp: Any) -> None:
    """Too many lines for a legend: their colour says how deep the layer is."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    last = len(history.layers) - 1
    bar = axes.figure.colorbar(ScalarMappable(Normalize(0, last), ramp), ax=axes, pad=0.01, aspect=30, ticks=[0, last])
    bar.ax.set_yticklabels([plain(label(history.layers[0].name, 22)), plain(label(history.layers[last].name, 22))], fontsize=7)
    bar.ax.invert_yaxis()


def banded(axes: Axes, history: History, drawn: columns.Series, said: str, colour: str, style: str) -> Any:
    """A line through the middle of what each place covers, in a band from its smallest to its largest."""
    axis = steps_axis(history)
    x = axis.first - 0.5 + drawn.place * axis.length
    low, high, middle = ((10.0**part if drawn.log else part) for part in (drawn.low, drawn.high, drawn.middle))
    if drawn.wide:
        axes.fill_between(x, low, high, color=colour, alpha=0.18, lw=0)
    if drawn.bad is not None:
        axes.plot(
            [axis.first - 0.5 + drawn.bad * axis.length], [0.97], "x", ms=7, mew=2, color=colour, transform=axes.get_xaxis_transform()
        )
    return axes.plot(x, middle, color=colour, lw=1.3, ls=style, marker=dot(x), ms=4, label=said)
