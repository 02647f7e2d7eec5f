"""``monitor.plot()``: the history as a matplotlib Figure, to style and save. Imported only when asked for: matplotlib is slow to load."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from textwrap import wrap
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..errors import UsageError
from ..report import words
from ..report.pen import BLUE, GREY, VERMILLION
from ..report.plot import NotebookFigure
from ..report.plot import _plain as plain
from . import columns, flow, text
from .curves import banded, layers
from .flags import Flag
from .frame import ordered
from .history import History
from .lines import label, logged
from .marks import MARKED, empty, mark, over, steps_axis

KINDS = ("all", "norms", "heat", "updates", "flow")


def figure(history: History, flags: Sequence[Flag], kind: str = "all") -> Figure:
    """A Figure of this kind.

    Raises
    ------
    UsageError
        Where there is no such kind.
    """
    if kind not in KINDS:
        raise UsageError(f"there is no plot {kind!r}; there are: {', '.join(map(repr, KINDS))}.")
    shown = ordered(flags)
    kinds: dict[str, list[tuple[float, Callable[[Axes, History, list[Flag]], None]]]] = {
        "norms": [(4.2, norms)],
        "heat": [(_tall(history), heat)],
        "updates": [(4.2, updates)],
        "flow": [(4.6, flow.bars)],
        "all": [(2.4, series), (3.4, norms), (_tall(history), heat), (3.4, updates)],
    }
    draw = kinds[kind]
    heights = [height for height, _ in draw]
    listed = [plain(text.flag_line(flag)) for flag in shown[:MARKED]]
    below = [
        piece for number, said in enumerate(listed, 1) for piece in wrap(f"{number}  {said}", 125, subsequent_indent="    ", max_lines=2)
    ]
    below += [f"+ {words.count(len(shown) - MARKED, 'flag')}"] if len(shown) > MARKED else []
    foot = 0.14 * len(below) + 0.16 if below else 0.0
    made = NotebookFigure(figsize=(9.5, sum(heights) + 0.5 + foot), layout="constrained")
    made.get_layout_engine().set(rect=(0, foot / made.get_figheight(), 1, 1 - foot / made.get_figheight()))  # type: ignore[union-attr, call-arg]
    grid = made.subplots(len(draw), 1, squeeze=False, height_ratios=heights)
    for (_, part), axes in zip(draw, grid[:, 0]):
        if history.count:
            part(axes, history, shown)
        else:
            empty(axes, "no optimizer step was seen yet")
    made.suptitle(plain(text.verdict(history, flags)), fontsize=10.5, x=0.01, ha="left")
    if below:
        made.text(0.012, 0.06 / made.get_figheight(), "\n".join(below), fontsize=8, va="bottom", family="monospace", linespacing=1.25)
    return made


def norms(axes: Axes, history: History, flags: list[Flag]) -> None:
    """The gradient norm of each layer, on a logarithmic axis; of older steps that were merged, the largest."""
    layers(axes, history, "norm", "gradient norm (L2)")
    mark(axes, flags)


def updates(axes: Axes, history: History, flags: list[Flag]) -> None:
    """|dW| / |W| of each layer at the steps where it was measured; 1e-3 is the usual rule of thumb for where it should be."""
    if next(iter(history.spans("update")), None) is None:
        return empty(axes, "no update ratio was measured: watch(..., updates=10)")
    axes.axhspan(1e-4, 1e-2, color=BLUE, alpha=0.06, lw=0)
    axes.axhline(1e-3, color=GREY, lw=0.8, ls=":")
    axes.annotate(
        "1e-3, the usual", (0.995, 1e-3), xycoords=("axes fraction", "data"), fontsize=7.5, ha="right", va="bottom", color="#666666"
    )
    layers(axes, history, "update", "update ratio |dW| / |W|", marker=".")
    mark(axes, flags)


def heat(axes: Axes, history: History, flags: list[Flag]) -> None:
    """Layers by steps, the colour is the gradient norm; zero is grey and named so, what is not finite has a cross."""
    from matplotlib.colors import LogNorm

    axis = steps_axis(history)
    values = columns.grid(history, "norm", axis)
    missing = values < 0
    edges = axis.first - 0.5 + np.arange(axis.count + 1) * (axis.length / axis.count)
    seen = values[np.isfinite(values) & (values > 0)]
    low, high = (float(seen.min()), float(seen.max())) if seen.size else (0.1, 1.0)
    low = max(low, high * 1e-8) if high > low else high / 10
    rows = np.arange(len(values) + 1) - 0.5
    shown = np.ma.masked_where(~(np.isfinite(values) & (values > 0)), np.clip(values, low, high))
    drawn = axes.pcolormesh(edges, rows, shown, norm=LogNorm(low, high), cmap="viridis", rasterized=True)
    for where, colour in ((values == 0, GREY), (~np.isfinite(values) & ~missing, VERMILLION)):
        if where.any():
            axes.pcolormesh(edges, rows, np.ma.masked_where(~where, np.ones_like(values)), cmap=_one(colour), rasterized=True)
    _told_rows(axes, values, missing, (edges[1:] + edges[:-1]) / 2)
    names = [layer.name for layer in history.layers]
    every = max(1, -(-len(names) // 36))
    axes.set_yticks(range(0, len(names), every), [plain(label(name, 34)) for name in names[::every]], family="monospace", fontsize=7.5)
    axes.set_ylim(len(names) - 0.5, -0.5)
    over(axes, history)
    bar = axes.figure.colorbar(drawn, ax=axes, pad=0.01, aspect=30)
    bar.set_label("gradient norm (L2)")
    mark(axes, flags, "white")


def _told_rows(axes: Axes, values: Any, missing: Any, middles: Any) -> None:
    """A word on a layer that is zero, a cross on the first step of one that is not finite."""
    for index, row in enumerate(values):
        known = row[~missing[index]]
        if known.size and (known == 0).mean() > 0.5 and len(values) <= 60:
            axes.text(middles[-1], index, "zero ", ha="right", va="center", fontsize=7.5, color="black")
        bad = ~np.isfinite(row) & ~missing[index]
        if bad.any():
            axes.plot(middles[bad.argmax()], index, marker="x", color="white", markersize=5, markeredgewidth=1.5, clip_on=False)


def series(axes: Axes, history: History, flags: list[Flag]) -> None:
    """The loss (or the first of the user's series) on the left, the global norm on the right."""
    own = logged(history)
    handles = []
    if own:
        drawn = columns.series(history, own[0], steps_axis(history))
        axes.set_yscale("log" if drawn.log else "linear")
        handles += banded(axes, history, drawn, plain(label(own[0], 40)), VERMILLION, "-")
        axes.set_ylabel(plain(label(own[0], 24)))
        right = axes.twinx()
    else:
        right = axes
    right.set_yscale("log")
    for name, said, style in (("global_norm", "global gradient norm", "--" if own else "-"), ("clipped_norm", "after clipping", ":")):
        if history.tail(name):
            handles += banded(right, history, columns.series(history, name, steps_axis(history), True), said, BLUE, style)
    right.set_ylabel("gradient norm")
    if handles:
        axes.legend(handles=handles, fontsize=8, loc="upper right", framealpha=0.6)
    over(axes, history)
    axes.spines["top"].set_visible(False)
    right.spines["top"].set_visible(False)
    mark(axes, flags)


def _one(colour: str) -> Any:
    from matplotlib.colors import ListedColormap

    return ListedColormap([colour])


def _tall(history: History) -> float:
    return 1.2 + min(6.0, max(1.0, 0.17 * len(history.layers)))
