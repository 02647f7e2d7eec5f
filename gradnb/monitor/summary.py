"""The monitor in words: a line at the end of an epoch, and the whole of it. A number is never rounded to 0."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..report import words
from .flags import SEVERITIES, Flag
from .history import History, Layer

_OWN = ("global_norm", "clipped_norm", "scale")
_PREFIXES = ("gate:", "lr", "dead:", "saturated:")
_ROWS = 40  # layers in the whole summary; more are counted


def number(value: float) -> str:
    """A norm or ratio with its exponent; 2.34e-04 stays 2.34e-04."""
    return f"{value:.2e}"


def plain(value: float) -> str:
    """A number of the user's: 0.0456 where four digits say it, an exponent where they would not."""
    if value == 0 or not math.isfinite(value):
        return f"{value:.4f}" if value == 0 else str(value)
    return f"{value:.4f}" if 1e-3 <= abs(value) < 1e6 else f"{value:.2e}"


class Epochs:
    """The means of the epoch that runs: of what was seen, not of what the history has kept."""

    def __init__(self) -> None:
        self._count = 0
        self._gates: dict[str, tuple[int, int]] = {}
        self._indices: dict[str, list[int]] = {}
        self._norms: dict[str, tuple[float, int]] = {}
        self._logged: dict[str, tuple[float, int]] = {}

    def state(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "count": self._count,
            **{name: {key: list(pair) for key, pair in vars(self)[f"_{name}"].items()} for name in ("gates", "norms", "logged")},
        }

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> "Epochs":
        """The epoch goes on where it was when ``state()`` was asked."""
        epochs = cls()
        epochs._count = int(state["count"])
        epochs._gates = {str(name): (int(fired), int(asked)) for name, (fired, asked) in state["gates"].items()}
        epochs._norms, epochs._logged = (
            {str(name): (float(total), int(count)) for name, (total, count) in state[which].items()} for which in ("norms", "logged")
        )
        return epochs

    def step(self, layers: Sequence[Layer], squares: Sequence[float | None]) -> None:
        """A row is complete: the squared norms of the layers."""
        if sum(map(len, self._indices.values())) != len(layers):
            self._indices = {}
            for index, layer in enumerate(layers):
                self._indices.setdefault(layer.model, []).append(index)
        for model, indices in self._indices.items():
            mine = squares if len(indices) == len(squares) else [squares[index] for index in indices if index < len(squares)]
            known = [square for square in mine if square is not None]
            if known:
                total, count = self._norms.get(model, (0.0, 0))
                self._norms[model] = total + math.sqrt(sum(known)), count + 1

    def log(self, name: str, value: float) -> None:
        """The user logged a number."""
        total, count = self._logged.get(name, (0.0, 0))
        self._logged[name] = total + value, count + 1

    def close(self, history: History, flags: Iterable[Flag], number_: int | None) -> str:
        """The line of this epoch; the next one begins."""
        label = self._count if number_ is None else number_
        models = dict.fromkeys(layer.model for layer in history.layers)
        parts = [_gradient(model, self._norms.get(model)) for model in models]
        parts += [_logged(name, total / count) for name, (total, count) in self._logged.items()]
        parts += self._gate_parts(history)
        active = [flag for flag in flags if flag.active]
        if active:
            parts.append("flags: " + ", ".join(dict.fromkeys(flag.rule for flag in active)))
        self._count = label + 1
        self._gates, self._norms, self._logged = dict(history.gates), {}, {}
        return f"[Epoch {label}] " + " | ".join(parts)

    def _gate_parts(self, history: History) -> Iterable[str]:
        for name, (fired, asked) in history.gates.items():
            before, so_far = self._gates.get(name, (0, 0))
            if asked > so_far:
                yield f"{name}: {fired - before}/{asked - so_far}"


def model_norms(layers: Sequence[Layer], values: Sequence[float | None]) -> dict[str, float]:
    """The L2 norm of all gradients of each sub-model, of those that were measured."""
    squares: dict[str, float] = {}
    for layer, value in zip(layers, values):
        if value is not None:
            squares[layer.model] = squares.get(layer.model, 0.0) + value * value
    return {model: math.sqrt(square) for model, square in squares.items()}


def _gradient(model: str, mean: tuple[float, int] | None) -> str:
    """ "Agent_grad: 2.34e-04"."""
    label = f"{model[:1].upper()}{model[1:]}_grad" if model else "grad"
    return f"{label}: {number(mean[0] / mean[1])}" if mean else f"{label}: not measured"


def _logged(name: str, value: float) -> str:
    return f"{name[:1].upper()}{name[1:]}: {'+' if 'reward' in name.lower() and value >= 0 else ''}{plain(value)}"


def whole(history: History, flags: list[Flag], problem: str | None) -> str:
    """The repr of a Monitor."""
    layers, steps = history.layers, history.step
    lines = [
        f"gradnb monitor: {words.count(len(layers), 'layer')}, {words.count(steps, 'step')}"
        + (f" ({history.count} recorded)" if history.count != steps else "")
    ]
    if problem:
        lines.append(f"stopped by a problem of gradnb's own: {problem}")
    if steps == 0:
        return "\n".join([*lines, "no optimizer step was seen yet"])
    norms = model_norms(history.layers, newest(history, "norm"))
    parts = [_gradient(model, (norms[model], 1) if model in norms else None) for model in dict.fromkeys(one.model for one in layers)]
    parts += [_logged(name, history.tail(name)[0][1]) for name in history.names if name not in _OWN and not name.startswith(_PREFIXES)]
    lines.append("newest: " + " | ".join(parts))
    active = sorted((flag for flag in flags if flag.active), key=lambda flag: SEVERITIES.index(flag.severity))
    ended = [flag for flag in flags if not flag.active]
    if not flags:
        lines.append("no flag was raised")
    for flag in active + ended:
        lines.append(str(flag))
        if flag.active:
            lines += [f"    why: {flag.reason}"] if flag.reason else []
            lines += [f"    try: {flag.advice}"] if flag.advice else []
    lines += _table(history)
    notes = [text for _, kind, text in history.events if kind in ("note", "ranks")]
    return "\n".join([*lines, *(f"note: {text}" for text in notes[-5:])])


def _table(history: History) -> list[str]:
    """One line a layer: its newest norm, weight norm and update ratio."""
    columns = [newest(history, "norm"), newest(history, "weight"), newest(history, "update")]
    width = max((len(layer.name) for layer in history.layers[:_ROWS]), default=5)
    lines = [f"{'layer':<{width}}  {'gradient':>9}  {'weight':>9}  {'update':>9}"]
    for index, layer in enumerate(history.layers[:_ROWS]):
        cells = "  ".join(f"{'' if column[index] is None else number(column[index] or 0.0):>9}" for column in columns)
        lines.append(f"{layer.name:<{width}}  {cells}".rstrip())
    if len(history.layers) > _ROWS:
        lines.append(f"+ {len(history.layers) - _ROWS} layers")
    return lines


def newest(history: History, column: str) -> list[float | None]:
    """The newest value of each layer among the newest rows."""
    found: list[float | None] = [None] * len(history.layers)
    for _, values in history.newest(column, 8):
        found = [old if new is None else new for old, new in zip(found, values)]
    return found
