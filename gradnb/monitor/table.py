"""The history as tables: rows of plain values, for pandas, CSV and JSON."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..errors import UsageError
from ..report.files import write
from .flags import Flag
from .history import COLUMNS, History

_FLAG = ("rule", "severity", "first", "last", "cleared", "active", "layers", "text", "threshold", "source", "reason", "advice")
HEADS = {"layers": ("step", "model", "layer", *COLUMNS), "series": ("step", "name", "value"), "flags": _FLAG}


def rows(history: History, flags: list[Flag], what: str) -> Iterator[tuple[Any, ...]]:
    """The rows of one table, in the order of its head."""
    if what == "layers":
        columns = [history.column(name) for name in COLUMNS]
        for place, step in enumerate(history.steps):
            for index, layer in enumerate(history.layers):
                values = [column[place][index] for column in columns]
                if any(value is not None for value in values):
                    yield (step, layer.model, layer.name, *values)
    elif what == "series":
        for name, points in history.series.items():
            yield from ((step, name, value) for step, value in points)
    elif what == "flags":
        for flag in flags:
            yield tuple(", ".join(flag.layers) if name == "layers" else getattr(flag, name) for name in _FLAG)
    else:
        raise UsageError(f"there is no table {what!r}; there are: {', '.join(HEADS)}.")


def dataframe(history: History, flags: list[Flag], what: str) -> Any:
    try:
        import pandas
    except ImportError:
        raise UsageError(
            "to_dataframe() needs pandas, which is not installed: pip install pandas. to_csv() and to_json() do without."
        ) from None
    found = list(rows(history, flags, what))
    return pandas.DataFrame(found, columns=list(HEADS[what]))


def csv_file(history: History, flags: list[Flag], what: str, path: str | Path) -> None:
    found = list(rows(history, flags, what))  # a wrong name is told before a file is made
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(HEADS[what])
    writer.writerows(found)
    write(text.getvalue(), path, newline="")


def json_text(history: History, flags: list[Flag], path: str | Path | None) -> str:
    data = {
        "schema": 1,
        "layers": [vars(layer) for layer in history.layers],
        "steps": history.steps,
        "recorded": history.count,
        "columns": {name: history.column(name) for name in COLUMNS},
        "series": history.series,
        "gates": {name: {"fired": fired, "asked": asked} for name, (fired, asked) in history.gates.items()},
        "events": [{"step": step, "kind": kind, "text": text} for step, kind, text in history.events],
        "flags": [flag.to_dict() for flag in flags],
    }
    text = json.dumps(plain(data), allow_nan=False)
    if path is not None:
        write(text, path)
    return text


def plain(value: Any, finite: bool = True) -> Any:
    """As JSON knows it. It has no NaN and no infinity: where ``finite``, they become "nan", "inf", "-inf"."""
    if isinstance(value, float):
        return float(value) if math.isfinite(value) or not finite else str(value)
    if isinstance(value, Mapping):
        return {str(key): plain(one, finite) for key, one in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(one, finite) for one in value]
    if value is None or isinstance(value, (bool, int, str)):
        return value
    one = value.item() if getattr(value, "shape", None) == () else str(value)  # a number of NumPy's or torch's
    return plain(one, finite) if isinstance(one, (bool, int, float)) else str(value)
