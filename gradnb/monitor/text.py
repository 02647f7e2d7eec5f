"""The monitor in words: a saved notebook's plain text, and the one line of a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from ..report import words
from . import columns, heat
from .flags import Flag
from .history import History
from .lines import label, logged
from .summary import number, plain

WIDE, ROWS, FLAGS = 40, 40, 8
_BARS = "▁▂▃▄▅▆▇█"
_HEAD = {"global_norm": "gradient norm", "clipped_norm": "after clipping", "lr": "learning rate", "scale": "loss scale"}
# One character a cell, by the heat map's palette: not measured, zero, not finite, then from low to high.
_CELLS: dict[int, str] = {heat.UNKNOWN: " ", heat.ZERO: "0", heat.BAD: "✗"}
_CELLS.update({heat.LOWEST + level: _BARS[level * 8 // heat.LEVELS] for level in range(heat.LEVELS)})


def verdict(history: History, flags: Sequence[Flag], state: str = "") -> str:
    """ "monitor at step 1,234: 2 flags (1 error, 1 info)": the first line of every form."""
    active = [flag for flag in flags if flag.active]
    counts = [(kind, sum(flag.severity == kind for flag in active)) for kind in ("error", "warning", "info")]
    kinds = ", ".join(f"{many} {kind}" if kind == "info" else words.count(many, kind) for kind, many in counts if many)
    said = f"{words.count(len(active), 'flag')} ({kinds})" if active else "no flag"
    ended = len(flags) - len(active)
    said += f", {ended} ended" if ended else ""
    return f"monitor{f', {state}' if state else ''} at step {history.step:,}: {said}"


def newest(history: History) -> str:
    """The newest numbers in one line, the user's own first."""
    parts = []
    for name in logged(history)[:6]:
        parts.append(f"{label(name, 24)} {plain(history.tail(name)[-1][1])}")
    for name, said in (
        ("global_norm", "gradient norm"),
        ("clipped_norm", "after clipping"),
        ("lr", "learning rate"),
        ("scale", "loss scale"),
    ):
        if points := history.tail(name):
            parts.append(f"{said} {number(points[-1][1])}")
    return " · ".join(parts) or "no optimizer step was seen yet"


def flag_line(flag: Flag) -> str:
    """One flag in one line."""
    since = f"since step {flag.first:,}" if flag.active else f"from step {flag.first:,}, ended by step {flag.cleared or flag.last:,}"
    return _clean(f"{flag.severity}[{flag.rule}] {since}: {flag.text}")


@lru_cache(maxsize=256)
def _clean(text: str) -> str:
    return words.clean(text)


def notes(history: History) -> list[str]:
    """What gradnb or the other ranks have to say, the newest three."""
    return [text for _, kind, text in history.events[-50:] if kind in ("note", "ranks")][-3:]


def whole(history: History, flags: Sequence[Flag], look: columns.Look | None, head: tuple[str, str]) -> str:
    """All of it: verdict and newest numbers (``head``), flags, and a line a layer."""
    lines = [*head]
    lines += [flag_line(flag) for flag in flags[:FLAGS]]
    if len(flags) > FLAGS:
        lines.append(f"+ {words.count(len(flags) - FLAGS, 'flag')}, see monitor.flags")
    lines += [f"note: {note}" for note in notes(history)]
    return "\n".join(lines + (_map(history, look) if look is not None else []))


def _map(history: History, look: columns.Look) -> list[str]:
    """The heat map in characters: one row a layer, time from left to right, then the newest norm."""
    values = columns.narrower(look.values[:ROWS], WIDE)
    scale = heat.scale(values)
    drawn = heat.levels(values, scale).tobytes().decode("latin-1").translate(_CELLS)
    wide = values.shape[1]
    names = [label(layer.name, 32) for layer in history.layers[:ROWS]]
    width = max(map(len, names))
    ends = f"{_BARS[0]} 1e{scale.low:+03.0f} to {_BARS[-1]} 1e{scale.high:+03.0f}"
    lines = [f"gradient norm of each layer, steps {look.axis.first:,} to {look.axis.last:,}, {ends}"]
    for index, (name, value) in enumerate(zip(names, look.newest)):
        row = drawn[index * wide : (index + 1) * wide]
        lines.append(f"{name:<{width}}  {row}  {'' if value < 0 else number(value)}".rstrip())
    if len(history.layers) > ROWS:
        lines.append(f"+ {words.count(len(history.layers) - ROWS, 'layer')}")
    return lines


def line(history: History, flags: Sequence[Flag], width: int, state: str = "") -> str:
    """The one line of a terminal, at most ``width`` characters."""
    active = [flag for flag in flags if flag.active]
    parts = [f"gradnb: step {history.step:,}" + (f" {state}" if state else "")]
    for name in logged(history)[:1]:
        parts.append(f"{label(name, 12)} {plain(history.tail(name)[-1][1])}")
    if points := history.tail("global_norm", WIDE):
        parts.append(f"|g| {number(points[-1][1])}")
    first = active[0] if active else None
    more = f" + {len(active) - 1}" if len(active) > 1 else ""
    said = f"{first.severity}[{first.rule}] since step {first.first:,}{more}" if first else "no flag"
    room = width - len("  ".join([*parts, said])) - 2
    if points and room >= 4:
        parts.append(spark(points[-min(room, 20) :]))
    text = words.clean("  ".join([*parts, said]))
    return text if len(text) <= width else text[: max(0, width - 1)] + "…"


def spark(points: Sequence[tuple[int, float]]) -> str:
    """The points as small bars on a logarithmic scale."""
    import numpy as np

    values: Any = np.array([[value for _, value in points]])
    cells = heat.levels(values, heat.scale(values))[0].tolist()
    return "".join(_CELLS[cell] for cell in cells)
