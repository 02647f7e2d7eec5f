"""The lines below the heat map: the global norm, and what the user logs, over the same steps."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from html import escape
from typing import Any

import numpy as np

from ..report import words
from ..report.pen import BLUE, VERMILLION
from ..report.pen import text as _text
from . import columns
from .history import History
from .summary import number, plain

CHART, GAP = 50, 16  # height of a chart, and of the space above it
ORANGE = "#E69F00"
# Blue, and on a dark page a lighter one; a front end that knows no color-mix keeps the blue.
_INK = f'stroke="{BLUE}" style="stroke:color-mix(in srgb,{BLUE} 75%,currentColor)" stroke-width="1.8" fill="none"'
_BAND = f'fill="{BLUE}" fill-opacity=".25"'
_CLIPPED = f'stroke="{ORANGE}" stroke-width="1.5" stroke-dasharray="4 3" fill="none"'


@lru_cache(maxsize=4096)
def label(name: str, limit: int = 60) -> str:
    """A name as one safe line."""
    return words.clean(name, limit)


def logged(history: History) -> list[str]:
    """The names of the user's own series, the loss first."""
    return sorted(history.logged, key=lambda name: (name != "loss", "loss" not in name.lower()))


def shown(history: History) -> list[str]:
    """The global norm, and two of the user's series."""
    return [name for name in ("global_norm",) if history.tail(name)] + logged(history)[:2]


def chart(history: History, name: str, axis: columns.Axis, left: int, right: int, top: float) -> Iterator[str]:
    """One line over the steps, in a band from the smallest to the largest of each column: name and newest number before it, the ends
    of its axis behind it."""
    norm = name == "global_norm"
    newest = history.tail(name)[0][1]
    drawn = columns.series(history, name, axis, norm)
    log = drawn.log
    second = columns.series(history, "clipped_norm", axis, log) if norm and history.tail("clipped_norm") else None
    ends = [(part.low, part.high) for part in (drawn, second) if part is not None and part.known.any()]
    low = min((float(np.fmin.reduce(one)) for one, _ in ends), default=0.0)
    high = max((float(np.fmax.reduce(other)) for _, other in ends), default=1.0)
    if high - low < 1e-9 * max(1.0, abs(high)):
        low, high = low - 0.5, high + 0.5
    said, title = (number(newest), "global norm") if norm else (plain(newest), label(name, 22))
    yield f"<g><title>{escape(title)}: newest {said}{', logarithmic axis' if log else ''}</title>"
    yield f'<rect x="{left}" y="{top:g}" width="{right - left}" height="{CHART}" fill="currentColor" fill-opacity=".05"/>'
    yield _text(left - 8, top + 21, title, 11.5, "end", bold=True)
    yield _text(left - 8, top + 37, said, 11.5, "end", mono=True)
    if ends:
        for value, y in ((high, top + 9), (low, top + CHART - 1)):
            yield _text(right + 8, y, number(10**value) if log else plain(value), 10.5, mono=True, opacity=".75")
    yield f'<g transform="translate({left} {top:g}) scale(.1)" stroke-linejoin="round" stroke-linecap="round">'
    if second is not None and second.known.any():
        yield _way(second, second.middle, low, high, right - left, _CLIPPED)
    yield _way(drawn, drawn.low, low, high, right - left, _BAND, drawn.high) if drawn.wide else ""
    yield _way(drawn, drawn.middle, low, high, right - left, _INK)
    yield "</g>"
    if second is not None and second.known.any():
        yield _text(left - 8, top + 50, "┄ after clipping", 10, "end", opacity=".85")
    if drawn.bad is not None:
        yield cross(left + drawn.bad * (right - left), top + 8)
    yield "</g>"


def _way(drawn: columns.Series, values: Any, low: float, high: float, width: int, look: str, back: Any = None) -> str:
    """A path through these values, or around the band between them and those of the way ``back``; what is not known interrupts it."""
    places = _places(drawn.place, values, low, high, width)
    returns = None if back is None else _places(drawn.place, back, low, high, width)
    pieces, begin = [], 0
    for gap in [*np.flatnonzero(~drawn.known).tolist(), len(places)]:
        if gap > begin:
            piece = places[begin:gap] if returns is None else np.concatenate([places[begin:gap], returns[begin:gap][::-1]])
            dot = "h40" if gap == begin + 1 and returns is None else ""  # a single point is to be seen, too
            pieces.append("M" + " ".join(map(str, piece.ravel().tolist())) + dot)
        begin = gap + 1
    return f'<path vector-effect="non-scaling-stroke" d="{"".join(pieces)}" {look}/>' if pieces else ""


def _places(place: Any, values: Any, low: float, high: float, width: int) -> Any:
    """In tenths of a pixel: whole numbers are short, and quick to write."""
    found = np.empty((len(place), 2), dtype=int)
    found[:, 0] = place * (10 * width)
    height = np.where(np.isfinite(values), values, low)
    found[:, 1] = 10 * (CHART - 3) - (height - low) * (10 * (CHART - 6) / (high - low))
    return found


def cross(x: float, y: float, size: float = 3.5) -> str:
    """A cell that is not finite, with a sign that is not its colour alone."""
    ways = f"M{x - size:g} {y - size:g}l{2 * size:g} {2 * size:g}m0 {-2 * size:g}l{-2 * size:g} {2 * size:g}"
    return (
        f'<rect x="{x - 6:g}" y="{y - 5:g}" width="12" height="10" fill="{VERMILLION}"/><path d="{ways}" stroke="#fff" stroke-width="1.8"/>'
    )
