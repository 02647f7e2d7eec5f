"""The picture of a training that goes on: a heat map of layers and steps, lines below it on the same steps, flags where they rose."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache
from html import escape
from typing import Any

import numpy as np

from ..report import words
from ..report.pen import BLUE, GREY, VERMILLION, WIDTH
from ..report.pen import svg as _svg
from ..report.pen import text as _text
from . import columns, heat
from .flags import Flag
from .history import History
from .summary import number, plain

RIGHT = WIDTH - 82  # of the heat map and the lines; names stand before, newest numbers behind
MAP, ROW, NAMED = 392, 14, 13  # height of the map at most, of one layer at most, and what a name needs
MOST_ROWS = 196
CHART, GAP = 50, 16
ORANGE = "#E69F00"
# Blue, and on a dark page a lighter one; a front end that knows no color-mix keeps the blue.
_INK = f'stroke="{BLUE}" style="stroke:color-mix(in srgb,{BLUE} 75%,currentColor)" stroke-width="1.8"'
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
    for name, points, second in _lines(history, axis):
        base += GAP
        parts += _chart(left, name, points, second, base)
        base += CHART
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


@lru_cache(maxsize=4096)
def label(name: str, limit: int = 60) -> str:
    """A layer's name as one safe line."""
    return words.clean(name, limit)


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
        yield _cross(x - 68, 9.5)
        x -= 90
    if (cells == heat.ZERO).any():
        yield _text(x, 13, "zero", 11, "end", opacity=".85")
        yield f'<path d="M{x - 44:g} 9.5h14" stroke="{GREY}" stroke-width="3"/>'


def _cross(x: float, y: float, size: float = 3.5) -> str:
    """A cell that is not finite, with a sign that is not its colour alone."""
    ways = f"M{x - size:g} {y - size:g}l{2 * size:g} {2 * size:g}m0 {-2 * size:g}l{-2 * size:g} {2 * size:g}"
    return (
        f'<rect x="{x - 6:g}" y="{y - 5:g}" width="12" height="10" fill="{VERMILLION}"/><path d="{ways}" stroke="#fff" stroke-width="1.8"/>'
    )


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
        yield _cross(min(max(x, left + 6), RIGHT - 6), top + (index + 0.5) * step - 0.5, 3.0)


def _titles(history: History, look: columns.Look, top: float, height: float) -> Iterator[str]:
    """What a pointer shows on each layer."""
    layers = history.layers
    step = height / len(layers)
    values, newest = look.values, look.newest
    known = np.where(np.isfinite(values) & (values >= 0), values, np.nan)
    seen: Any = ~np.isnan(known).all(axis=1)
    low = np.where(seen, np.fmin.reduce(known, axis=1), -1.0).tolist()
    high = np.where(seen, np.fmax.reduce(known, axis=1), -1.0).tolist()
    yield '<g fill="none" pointer-events="all">'
    for index, layer in enumerate(layers):
        said = f"newest {number(newest[index])}" if not newest[index] < 0 else "not measured"
        between = f", between {number(low[index])} and {number(high[index])}" if seen[index] else ""
        yield (
            f'<rect x="8" y="{top + index * step:.1f}" width="{WIDTH - 16}" height="{step:.2f}"><title>{escape(label(layer.name, 120))}: '
            f"{said}{between}, {words.count(layer.parameters, 'parameter')}</title></rect>"
        )
    yield "</g>"


def _lines(history: History, axis: columns.Axis) -> Iterator[tuple[str, Any, Any]]:
    """The global norm, then what the user logs, the loss first: (name, points, points of a second line)."""
    norm = columns.series(history, "global_norm", axis)
    if len(norm):
        yield "global norm", norm, columns.series(history, "clipped_norm", axis)
    own = logged(history)
    for name in own[:2]:
        yield label(name, 22), columns.series(history, name, axis), ()


def logged(history: History) -> list[str]:
    """The names of the user's own series, the loss first."""
    own = [name for name in history.names if name not in _MADE and not name.startswith(_PREFIXES)]
    return sorted(own, key=lambda name: (name != "loss", "loss" not in name.lower()))


_MADE = ("global_norm", "clipped_norm", "scale", "lr")
_PREFIXES = ("gate:", "lr.", "dead:", "saturated:")


def _chart(left: int, name: str, points: Any, second: Any, top: float) -> Iterator[str]:
    """One line over the steps: its name and newest number before it, the ends of its axis behind it."""
    newest = float(points[-1, 1])
    values = points[:, 1]
    finite = values[np.isfinite(values)]
    both = np.concatenate([finite, second[:, 1][np.isfinite(second[:, 1])]]) if len(second) else finite
    low, high = (float(both.min()), float(both.max())) if len(both) else (0.0, 1.0)
    log = name == "global norm" and high > 0 or low > 0 and high / low > 100
    if log:
        low = float(both[both > 0].min())
        low, high = math.log10(low), math.log10(high)
    if high - low < 1e-9 * max(1.0, abs(high)):
        low, high = low - 0.5, high + 0.5
    said = number(newest) if name == "global norm" else plain(newest)
    yield f"<g><title>{escape(name)}: newest {said}{', logarithmic axis' if log else ''}</title>"
    yield f'<rect x="{left}" y="{top:g}" width="{RIGHT - left}" height="{CHART}" fill="currentColor" fill-opacity=".05"/>'
    yield _text(left - 8, top + 21, name, 11.5, "end", bold=True)
    yield _text(left - 8, top + 37, said, 11.5, "end", mono=True)
    for value, y in ((high, top + 9), (low, top + CHART - 1)):
        yield _text(RIGHT + 8, y, number(10**value) if log else plain(value), 10.5, mono=True, opacity=".75")
    if len(second):
        yield _text(left - 8, top + 50, "┄ after clipping", 10, "end", opacity=".85")
        yield _line(left, second, low, high, log, top, f'stroke="{ORANGE}" stroke-width="1.5" stroke-dasharray="4 3"')
    yield _line(left, points, low, high, log, top, _INK)
    gone = points[~np.isfinite(values)]
    if len(gone):
        yield _cross(left + float(gone[0, 0]) * (RIGHT - left), top + 8)
    yield "</g>"


def _line(left: int, points: Any, low: float, high: float, log: bool, top: float, look: str) -> str:
    """The points as a path; what is not finite, or zero on a logarithmic axis, interrupts it."""
    with np.errstate(all="ignore"):
        values = np.log10(points[:, 1]) if log else points[:, 1]
    known = np.isfinite(values)
    if not known.any():
        return ""
    place = np.empty((len(points), 2), dtype=int)  # tenths of a pixel: whole numbers are short, and quick to write
    place[:, 0] = points[:, 0] * (10 * (RIGHT - left))
    place[:, 1] = 10 * (CHART - 3) - (np.where(known, values, low) - low) * (10 * (CHART - 6) / (high - low))
    pieces, begin = [], 0
    for gap in [*np.flatnonzero(~known).tolist(), len(place)]:
        if gap > begin:
            dot = "h40" if gap == begin + 1 else ""
            pieces.append("M" + " ".join(map(str, place[begin:gap].ravel().tolist())) + dot)
        begin = gap + 1
    return (
        f'<path transform="translate({left} {top:g}) scale(.1)" vector-effect="non-scaling-stroke" d="{"".join(pieces)}" fill="none" '
        f'stroke-linejoin="round" stroke-linecap="round" {look}/>'
    )


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
