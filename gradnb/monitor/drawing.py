"""The picture of a training that goes on: a heat map of layers and steps, lines below it on the same steps, flags where they rose."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from html import escape
from typing import Any

import numpy as np

from ..report import words
from ..report.pen import BLUE, GREY, VERMILLION, WIDTH
from ..report.pen import svg as _svg
from ..report.pen import text as _text
from . import columns, heat, lines
from .flags import Flag
from .history import History
from .lines import ORANGE, cross, label
from .summary import number

RIGHT = WIDTH - 82  # of the heat map and the lines; names stand before, newest numbers behind
MAP, ROW, NAMED = 392, 14, 13  # height of the map at most, of one layer at most, and what a name needs
MOST_ROWS = 196
_TOLD = 120  # rows that have their numbers under a pointer
COLOURS = {"error": VERMILLION, "warning": ORANGE, "info": BLUE}
SIGNS = {"error": "✗", "warning": "!", "info": "i"}
_MARKS = 9  # flags that have a place in the picture
_RAMP = heat.ramp()


def picture(history: History, flags: Sequence[Flag], look: columns.Look, live: bool = False) -> tuple[str, str]:
    """The svg, and the same without what only a pointer shows, which a live picture has no use for.

    ``flags`` are numbered in the picture in their order.
    """
    axis, values = look.axis, look.values
    layers = len(history.layers)
    rows = min(layers, MOST_ROWS)
    left = _room(history)
    step = min(float(ROW), MAP / rows)
    marks = [flag for flag in flags if flag.last >= axis.first][:_MARKS]
    top = 22 + (17 if marks else 0)
    bottom = top + rows * step
    scale = heat.scale(values)
    cells = heat.levels(values, scale)
    parts = [*_legend(left, cells, scale, layers)]
    parts.append(
        f'<image x="{left}" y="{top:g}" width="{RIGHT - left}" height="{rows * step:g}" preserveAspectRatio="none" '
        f'style="image-rendering:pixelated" href="{heat.image(heat.folded(cells, rows), step >= 5)}"/>'
    )
    parts += _names(left, history, flags, look, top, step, rows)
    base = bottom
    for name in lines.shown(history):
        base += lines.GAP
        parts += lines.chart(history, name, axis, left, RIGHT, base)
        base += lines.CHART
    parts += _steps(left, axis, base)
    parts += _flags(left, marks, flags, axis, top, base)
    told = escape(spoken(history, flags))
    height = math.ceil(base + 22)
    still = _svg(height, told, parts)
    return still if live else _svg(height, told, [*parts, *_titles(history, look, top, rows * step)]), still


def spoken(history: History, flags: Sequence[Flag]) -> str:
    """The picture in one sentence."""
    active = [flag for flag in flags if flag.active]
    rules = ", ".join(dict.fromkeys(flag.rule for flag in active))
    said = f"{words.count(len(active), 'flag')}: {rules}" if active else "no flag"
    return f"Gradient norms of {words.count(len(history.layers), 'layer')} up to step {history.step}, {said}"


def _room(history: History) -> int:
    """How wide the names are that stand before the map."""
    longest = max([len(label(layer.name, 26)) for layer in history.layers])
    return round(min(188.0, max(112.0, 6.6 * longest + 30)))


def _legend(left: int, cells: Any, scale: heat.Scale, layers: int) -> Iterator[str]:
    """What the colours mean, above the map."""
    yield _text(left, 13, f"gradient norm, {words.count(layers, 'layer')}", 11.5, bold=True)
    x = RIGHT - 96.0
    yield f'<image x="{x:g}" y="5" width="96" height="9" preserveAspectRatio="none" href="{_RAMP}"/>'
    yield _text(x - 5, 13, f"1e{scale.low:+03.0f}", 11, "end", opacity=".85")
    yield _text(RIGHT + 5, 13, f"1e{scale.high:+03.0f}", 11, opacity=".85")
    x -= 56
    if (cells == heat.BAD).any():
        yield _text(x, 13, "NaN or Inf", 11, "end", opacity=".85")
        yield cross(x - 68, 9.5)
        x -= 90
    if (cells == heat.ZERO).any():
        yield _text(x, 13, "zero", 11, "end", opacity=".85")
        yield f'<path d="M{x - 44:g} 9.5h14" stroke="{GREY}" stroke-width="3"/>'


def _names(left: int, history: History, flags: Sequence[Flag], look: columns.Look, top: float, step: float, rows: int) -> Iterator[str]:
    """Names before the map and newest numbers behind it, as many as there is room for: first those that a flag names."""
    layers = history.layers
    flagged: dict[str, Flag] = {}
    for flag in flags:
        if flag.active:
            for name in flag.layers:
                flagged.setdefault(name, flag)
    place = [top + (index * rows // len(layers) + 0.5) * step for index in range(len(layers))]
    chosen = list(range(len(layers)))
    if step < NAMED:
        wanted = [index for index in chosen if layers[index].name in flagged]
        every = math.ceil(NAMED / step * len(layers) / rows)
        chosen = []
        taken: list[float] = []
        for index in [*wanted, *range(0, len(layers), every)]:
            y = place[index]
            if not taken or min([abs(y - other) for other in taken]) >= NAMED:
                chosen.append(index)
                taken.append(y)
    newest = look.newest
    size = min(11.0, max(9.5, step - 2.5)) if step >= NAMED else 10.5
    before, behind, ticks = [], [], []
    for index in chosen:
        y = round(place[index] + size * 0.36 - (step / 16 if step >= 5 else 0), 1)  # the gap below a layer is a part of its row
        flag_ = flagged.get(layers[index].name)
        name = escape(label(layers[index].name, 23 if flag_ else 26))
        bold = ""
        if flag_:
            name, bold = f"{SIGNS.get(flag_.severity, '!')} {name}", ' font-weight="700"'
        before.append(f'<text x="{left - 8}" y="{y}"{bold}>{name}</text>')
        if newest[index] >= 0 or newest[index] != newest[index]:
            behind.append(f'<text x="{RIGHT + 8}" y="{y}"{bold}>{number(newest[index])}</text>')
        ticks.append(f"M{left - 6} {place[index]:.1f}h4")
    look_ = f'<g font-size="{size:g}" font-family="monospace"'
    yield f'{look_} text-anchor="end">{"".join(before)}</g>{look_}>{"".join(behind)}</g>'
    if step < NAMED:
        yield f'<path d="{"".join(ticks)}" stroke="currentColor" stroke-opacity=".5"/>'
    yield from _crosses(left, look.values, top, step, rows)


def _crosses(left: int, values: Any, top: float, step: float, rows: int) -> Iterator[str]:
    """A cross at the first cell of each layer that is not finite."""
    bad = ~np.isfinite(values)
    if step < 8 or not bad.any():
        return
    for index in np.flatnonzero(bad.any(axis=1)).tolist():
        x = left + (int(np.argmax(bad[index])) + 0.5) / values.shape[1] * (RIGHT - left)
        yield cross(min(max(x, left + 6), RIGHT - 6), top + (index + 0.5) * step - 0.5, 3.0)


def _titles(history: History, look: columns.Look, top: float, height: float) -> Iterator[str]:
    """What a pointer shows on each layer."""
    layers, values = history.layers, look.values
    bands = min(len(layers), _TOLD)
    step = height / bands
    known = np.where(np.isfinite(values) & (values >= 0), values, np.nan)
    low, high = np.fmin.reduce(known, axis=1).tolist(), np.fmax.reduce(known, axis=1).tolist()
    yield '<g fill="none" pointer-events="all">'
    for band in range(bands):
        index, end = band * len(layers) // bands, (band + 1) * len(layers) // bands
        newest = look.newest[index]
        said = "not measured" if newest < 0 else f"newest {number(newest)}"
        said += f", between {number(low[index])} and {number(high[index])}" if low[index] <= high[index] else ""
        said += f", {words.count(layers[index].parameters, 'parameter')}" + (
            f" (+ {end - index - 1} layers below)" if end - index > 1 else ""
        )
        box = f'x="8" y="{top + band * step:.1f}" width="{WIDTH - 16}" height="{step:.2f}"'
        yield f"<rect {box}><title>{escape(label(layers[index].name, 90))}: {said}</title></rect>"
    yield "</g>"


def _steps(left: int, axis: columns.Axis, base: float) -> Iterator[str]:
    """The numbers of the steps below everything."""
    y = base + 15
    yield _text(left, y, f"{axis.first:,}", 11, opacity=".85")
    if axis.length > 1:
        yield _text(RIGHT, y, f"{axis.last:,}", 11, "end", opacity=".85")
    yield _text((left + RIGHT) / 2, y, "optimizer step", 11, "mid", opacity=".85")


def _flags(left: int, marks: Sequence[Flag], flags: Sequence[Flag], axis: columns.Axis, top: float, base: float) -> Iterator[str]:
    """A line down from where a flag rose, with its number in the list."""
    taken: list[float] = []
    for flag in sorted(marks, key=lambda flag: flag.first):
        colour, at = COLOURS.get(flag.severity, ORANGE), flags.index(flag) + 1
        x = left + axis.place(flag.first) * (RIGHT - left)
        sign = min(max([x, *(other + 27 for other in taken)]), RIGHT - 13)
        taken.append(sign)
        told = f"{flag.severity} {flag.rule} since step {flag.first}" + ("" if flag.active else f", ended by step {flag.cleared}")
        yield f"<g{'' if flag.active else OPAQUE}><title>{escape(told)}</title>"
        yield f'<path d="M{x:.1f} {top - 3:g}V{base:g}" stroke="{colour}" stroke-width="1.5" stroke-dasharray="3 3" fill="none"/>'
        yield f'<rect x="{sign - 13:.1f}" y="{top - 18:g}" width="26" height="15" rx="4" fill="{colour}"/>'
        ink = "#000" if flag.severity == "warning" else "#fff"
        yield _text(round(sign, 1), top - 6.5, f"{SIGNS.get(flag.severity, '!')} {at}", 11, "mid", bold=True, colour=ink)
        yield "</g>"


OPAQUE = ' opacity=".55"'
