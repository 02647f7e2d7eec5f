"""The gradient-flow bars: each layer's gradient from the first layer to the last, as it is and at its largest."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes

from ..report.pen import BLUE, GREY, VERMILLION
from .drawing import SIGNS
from .flags import Flag
from .history import History
from .lines import label

NEWEST = 100
_WIDE = 60  # layers of which each has its name


def bars(axes: Axes, history: History, flags: list[Flag]) -> None:
    """Per parameter, so that layers of all sizes compare: norm / sqrt(parameters), the root mean square of the gradient."""
    rows = history.newest("norm", NEWEST)
    values = np.array([[np.nan if value is None else value for value in row] for _, row in rows], dtype=float).reshape(len(rows), -1)
    values = values / np.sqrt([max(1, layer.parameters) for layer in history.layers])
    finite = np.where(np.isfinite(values), values, np.nan)
    known: Any = np.isfinite(finite).any(axis=0)
    mean = np.array([np.nanmean(finite[:, i]) if known[i] else np.nan for i in range(values.shape[1])])
    high = np.fmax.reduce(finite, axis=0)
    place = np.arange(values.shape[1])
    above = mean[mean > 0]
    floor = 10 ** (np.floor(np.log10(above.min())) - 0.5) if above.size else 0.1
    axes.set_yscale("log")
    axes.bar(place, np.where(high > 0, high, np.nan), bottom=0, width=0.8, color=BLUE, alpha=0.3, label="largest")
    axes.bar(place, np.where(mean > 0, mean, np.nan), bottom=0, width=0.8, color=BLUE, label="mean")
    axes.set_ylim(floor, max(float(np.nanmax(high)) * 3 if known.any() and np.nanmax(high) > 0 else 1.0, floor * 10))
    flagged = {name: flag for flag in reversed(flags) if flag.active for name in flag.layers}
    across = axes.get_xaxis_transform()
    for index in range(len(history.layers)):
        newest = values[-1, index] if len(values) else np.nan
        bad = bool(len(rows)) and rows[-1][1][index] is not None and not np.isfinite(newest)
        if bad or (known[index] and not high[index] > 0):
            axes.plot([index], [0.04], marker="x", ms=7, mew=2, color=VERMILLION, transform=across)
            axes.text(index, 0.08, "NaN or Inf" if bad else "zero", rotation=90, fontsize=7.5, ha="center", va="bottom", transform=across)
        elif not known[index]:
            axes.text(index, 0.03, "not measured", rotation=90, fontsize=7.5, ha="center", va="bottom", color=GREY, transform=across)
    every = max(1, -(-len(history.layers) // _WIDE))
    names = []
    for layer in history.layers[::every]:
        sign = f"{SIGNS.get(flagged[layer.name].severity, '!')} " if layer.name in flagged else ""
        names.append(sign + label(layer.name, 30).replace("$", r"\$"))
    axes.set_xticks(place[::every], names, rotation=90, family="monospace", fontsize=7.5)
    for tick, layer in zip(axes.get_xticklabels(), history.layers[::every]):
        tick.set_fontweight("bold" if layer.name in flagged else "normal")
    axes.set_xlim(-0.7, len(history.layers) - 0.3)
    axes.set_ylabel("gradient per parameter (root mean square)")
    said = f"steps {rows[0][0]:,} to {rows[-1][0]:,}" if rows else ""
    axes.legend(fontsize=8, loc="lower right", bbox_to_anchor=(1, 1), ncols=2, title=said, title_fontsize=8, frameon=False)
    axes.grid(axis="y", alpha=0.3)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
