"""``monitor.plot()``: the history as a matplotlib Figure, to style and save. Imported only when asked for: matplotlib is slow to load."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from textwrap import wrap
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..errors import UsageError
from ..report import words
from ..report.pen import BLUE, GREY, VERMILLION
from ..report.plot import NotebookFigure
from ..report.plot import _plain as plain
from . import columns, flow, text
from .drawing import COLOURS, SIGNS, label, logged
from .flags import Flag
from .frame import ordered
from .history import History

KINDS = ("all", "norms", "heat", "updates", "flow")
NAMED = 10  # lines that a legend can tell apart
_MARKED = 9  # flags that have a place in a plot
# Okabe-Ito, and line styles with them, so that colour is never alone.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
_STYLES = ("-", "--", "-.", ":")


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
    listed = [plain(text.flag_line(flag)) for flag in shown[:_MARKED]]
    below = [
        piece for number, said in enumerate(listed, 1) for piece in wrap(f"{number}  {said}", 125, subsequent_indent="    ", max_lines=2)
    ]
    below += [f"+ {words.count(len(shown) - _MARKED, 'flag')}"] if len(shown) > _MARKED else []
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
    _layer_lines(axes, history, "norm", "gradient norm (L2)")
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
    _layer_lines(axes, history, "update", "update ratio |dW| / |W|", marker=".")
    mark(axes, flags)


def heat(axes: Axes, history: History, flags: list[Flag]) -> None:
    """Layers by steps, the colour is the gradient norm; zero is grey and named so, what is not finite has a cross."""
    from matplotlib.colors import LogNorm

    axis = _axis(history)
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
    _over(axes, history)
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
        points = history.points(own[0])
        handles += axes.plot(*_xy(points), color=VERMILLION, lw=1.3, marker=_dot(points), ms=4, label=plain(label(own[0], 40)))
        axes.set_ylabel(plain(label(own[0], 24)))
        right = axes.twinx()
    else:
        right = axes
    right.set_yscale("log")
    for name, said, style in (("global_norm", "global gradient norm", "--" if own else "-"), ("clipped_norm", "after clipping", ":")):
        points = [(step, value if value > 0 else np.nan) for step, value in history.points(name)]
        if any(np.isfinite(value) for _, value in points):
            handles += right.plot(*_xy(points), color=BLUE, lw=1.2, ls=style, marker=_dot(points), ms=4, label=said)
    right.set_ylabel("gradient norm")
    if handles:
        axes.legend(handles=handles, fontsize=8, loc="upper right", framealpha=0.6)
    _over(axes, history)
    axes.spines["top"].set_visible(False)
    right.spines["top"].set_visible(False)
    mark(axes, flags)


def mark(axes: Axes, flags: list[Flag], colour: str | None = None) -> None:
    """A line where a flag rose, with its sign and its number in the list below."""
    across = axes.get_xaxis_transform()
    low, high = axes.get_xlim()
    taken: list[float] = []
    for number, flag in sorted(enumerate(flags[:_MARKED], 1), key=lambda pair: pair[1].first):
        own = COLOURS.get(flag.severity, VERMILLION)
        axes.axvline(flag.first, color=own if colour is None else colour, lw=1.1, ls=(0, (3, 3)), alpha=1 if flag.active else 0.5)
        place = max([float(flag.first), *(other + (high - low) * 0.032 for other in taken)])
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


def _layer_lines(axes: Axes, history: History, column: str, what: str, marker: str = "") -> None:
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
        axes.plot(x, fine, lw=1.3, marker=marker or _dot(x), ms=4, label=plain(label(layer.name, 40)), **look)
        drawn += 1
        bad = ~np.isfinite(values)
        if bad.any():
            at = round(float(x[bad.argmax()]))
            axes.plot([at], [0.97], marker="x", ms=7, mew=2, color=VERMILLION, transform=axes.get_xaxis_transform(), clip_on=False)
            odd.append((layer.name, f"NaN or Inf from step {at}"))
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
    _over(axes, history)
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
    axis = _axis(history)
    starts = np.flatnonzero(np.diff(((steps - axis.first + 0.5) / axis.length * axis.count).astype(int), prepend=-1))
    counts = np.diff(np.append(starts, len(steps)))
    return np.add.reduceat(steps, starts) / counts, np.maximum.reduceat(rows, starts, axis=0)


def _axis(history: History) -> columns.Axis:
    axis = columns.axis(history)
    assert axis is not None, "something was recorded"
    return axis


def _order(axes: Axes, history: History, ramp: Any) -> None:
    """Too many lines for a legend: their colour says how deep the layer is."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    last = len(history.layers) - 1
    bar = axes.figure.colorbar(ScalarMappable(Normalize(0, last), ramp), ax=axes, pad=0.01, aspect=30, ticks=[0, last])
    bar.ax.set_yticklabels([plain(label(history.layers[0].name, 22)), plain(label(history.layers[last].name, 22))], fontsize=7)
    bar.ax.invert_yaxis()


def _one(colour: str) -> Any:
    from matplotlib.colors import ListedColormap

    return ListedColormap([colour])


def _over(axes: Axes, history: History) -> None:
    """The steps from left to right, the same in each plot."""
    from matplotlib.ticker import MaxNLocator

    first = next(first for first, _, _ in history.spans("norm"))
    axes.set_xlim(first - 0.5, history.step + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(9, integer=True))
    axes.set_xlabel("optimizer step")


def _dot(points: Sequence[Any]) -> str:
    return "o" if len(points) < 4 else ""  # a line of so few is hard to see


def _xy(points: Sequence[tuple[int, float]]) -> tuple[list[int], list[float]]:
    return [step for step, _ in points], [value for _, value in points]


def _tall(history: History) -> float:
    return 1.2 + min(6.0, max(1.0, 0.17 * len(history.layers)))
