"""What a monitor knows as plain data, for a checkpoint, and back: a training that was resumed goes on with one history."""

from __future__ import annotations

import base64
import sys
from array import array
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..errors import UsageError
from .blocks import NONE, Cells, Span, merge_cells, merge_spans
from .flags import read_flags
from .history import COLUMNS, History
from .kept import Item
from .ranks import listed
from .summary import Epochs
from .table import plain

if TYPE_CHECKING:
    from .monitor import Monitor

SCHEMA = 1
_ROWS, _SERIES = 1_200_000, 500_000  # characters for the layers' numbers, and for all series: with flags and events about 2 MB
_LEAST = 16  # rows, or points of a series, that stay however many layers or series there are
_POINT = 40  # characters that a point takes as JSON, about


def of(monitor: Monitor) -> dict[str, Any]:
    """Dicts, lists, strings, numbers and None."""
    return {
        "schema": SCHEMA,
        "step": monitor._recorder.step,
        "history": _of_history(monitor.history),
        "flags": plain(monitor._engine.state(), finite=False),
        "epoch": monitor._epochs.state(),
        "skips": monitor._skips,
        "bad": sorted(monitor._bad),
    }


def into(monitor: Monitor, state: Any) -> None:
    """Put such a state in place of what the monitor knows; one that cannot be read changes nothing."""
    schema = state.get("schema") if isinstance(state, Mapping) else None
    if schema != SCHEMA:
        given = f"schema {schema!r}, of another version of gradnb" if schema is not None else f"a {type(state).__name__} without a schema"
        raise UsageError(f"load_state_dict() takes what Monitor.state_dict() gave, schema {SCHEMA}; given: {given}.")
    now = monitor.history
    try:
        saved = state["history"]
        layers = [str(name) for name in saved["layers"]]
        count, cells, series = int(saved["count"]), _cells(saved["rows"], layers, now), _series(saved["series"])
        gates = {str(name): (int(fired), int(asked)) for name, (fired, asked) in saved["gates"].items()}
        events = [(int(step), str(kind), str(text)) for step, kind, text in saved["events"] if kind != "stopped"]
        step, skips, bad = int(state["step"]), int(state["skips"]), set(state["bad"])
        flags, epochs = read_flags(state["flags"]), Epochs.of(state["epoch"])
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise UsageError(f"the monitor's state is damaged, nothing was taken over ({type(error).__name__}: {error}).") from None
    own = [] if now.count else [(step, kind, text) for _, kind, text in now.events]
    now.restore(count, cells, series)
    now.gates, now.events = gates, [*events, *own]
    now.event(step, "resumed", f"the history goes on behind step {step}")
    fresh = [layer.name for layer in now.layers if layer.name not in layers]
    gone = sorted(set(layers).difference(layer.name for layer in now.layers))
    if fresh or gone:
        said = [f"without a past: {listed(fresh)}"] if fresh else []
        said += [f"no longer watched: {listed(gone)}"] if gone else []
        now.event(step, "note", f"other layers than in the saved history. {'; '.join(said)}")
    monitor._engine.restore(*flags)
    monitor._epochs, monitor._skips, monitor._bad = epochs, skips, bad
    monitor._recorder.resume(step)
    monitor._watched.told_idle(text for _, kind, text in events if kind == "frozen")


def _of_history(history: History) -> dict[str, Any]:
    rows, series = history.kept()
    room = _SERIES // max(1, len(series))
    return {
        "count": history.count,
        "layers": [layer.name for layer in history.layers],
        "rows": [
            {"first": one.first, "last": one.last, "count": one.count, "low": _packed(one.low)}
            | ({} if one.high is one.low else {"high": _packed(one.high)})
            for one in _thinned(rows, merge_cells, _size, _ROWS)
        ],
        "series": {
            name: [[one.count, *map(list, one.points)] for one in _thinned(spans, merge_spans, lambda one: _POINT * len(one.points), room)]
            for name, spans in series.items()
        },
        "gates": {name: list(counts) for name, counts in history.gates.items()},
        "events": [list(event) for event in history.events],
    }


def _cells(saved: Sequence[Mapping[str, Any]], layers: Sequence[str], now: History) -> list[Cells]:
    """The saved rows, on the layers that there are now."""
    index = {layer.name: place for place, layer in enumerate(now.layers)}
    places = [index.get(name) for name in layers]

    def columns(packed: Mapping[str, str]) -> dict[str, array]:
        return {name: _arranged(_unpacked(text), places, len(index)) for name, text in packed.items() if name in COLUMNS}

    cells = []
    for row in saved:
        low = columns(row["low"])
        high = columns(row["high"]) if "high" in row else low
        cells.append(Cells(int(row["first"]), int(row["last"]), low, high, int(row["count"])))
    return cells


def _series(saved: Mapping[str, Any]) -> dict[str, list[Span]]:
    return {
        str(name): [Span([(int(step), float(value)) for step, value in points], int(count)) for count, *points in spans]
        for name, spans in saved.items()
    }


def _thinned(items: list[Item], merge: Callable[[Item, Item], Item], size: Callable[[Item], int], room: int) -> list[Item]:
    """As few as have room: older ones become blocks, as they do in the history."""
    while len(items) > _LEAST and sum(map(size, items)) > room:
        half = len(items) // 4 * 2
        items = [merge(one, other) for one, other in zip(items[:half:2], items[1:half:2])] + items[half:]
    return items


def _size(cells: Cells) -> int:
    """In characters of base64."""
    sides = (cells.low,) if cells.high is cells.low else (cells.low, cells.high)
    return 60 + sum(11 * len(values) for side in sides for values in side.values())


def _packed(columns: dict[str, array]) -> dict[str, str]:
    """Float64, little endian, in base64: half as long as digits, exact, and no NaN that JSON does not know."""
    return {name: base64.b64encode(_little_endian(values).tobytes()).decode("ascii") for name, values in columns.items()}


def _unpacked(text: str) -> array:
    values = array("d")
    values.frombytes(base64.b64decode(text, validate=True))
    return _little_endian(values)


def _little_endian(values: array) -> array:
    if sys.byteorder == "big":
        values = values[:]
        values.byteswap()
    return values


def _arranged(values: array, places: Sequence[int | None], layers: int) -> array:
    """The numbers of the saved layers where these layers stand now."""
    found = array("d", [NONE]) * layers
    for value, place in zip(values, places):
        if place is not None:
            found[place] = value
    return found
