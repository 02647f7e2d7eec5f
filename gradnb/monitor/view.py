"""What a rule sees: the history, read only, in the questions that rules ask."""

from __future__ import annotations

from .history import History, Layer


class View:
    """A rule's window on the history. Every question is cheap; the newest value always comes last."""

    def __init__(self, history: History):
        self._history = history
        self._by_model: dict[str, list[int]] = {}
        self._rows: dict[str, tuple[int, list[tuple[int, list[float | None]]]]] = {}
        self._points: dict[str, tuple[int, list[tuple[int, float]]]] = {}

    @property
    def step(self) -> int:
        """The number of the newest recorded step."""
        return self._history.step

    @property
    def count(self) -> int:
        """How many steps were recorded so far (with ``every=10`` a tenth of ``step``)."""
        return self._history.count

    @property
    def layers(self) -> list[Layer]:
        """What is watched, in the order of the values in a row."""
        return self._history.layers

    @property
    def models(self) -> list[str]:
        """The labels of the sub-models, in order; [""] when one model is watched."""
        return list(dict.fromkeys(layer.model for layer in self._history.layers))

    @property
    def by_model(self) -> dict[str, list[int]]:
        """The indices of the layers of each sub-model."""
        layers = self._history.layers
        if sum(map(len, self._by_model.values())) != len(layers):
            self._by_model = {}
            for index, layer in enumerate(layers):
                self._by_model.setdefault(layer.model, []).append(index)
        return self._by_model

    def last(self, column: str, n: int = 1) -> list[list[float | None]]:
        """The newest ``n`` rows in which ``column`` was measured, one value a layer; None for a layer that was not part of that step.

        "weight" and "update" are measured on every 10th of the first 100 steps and then on every 50th, "zeros" on every 50th.
        """
        return [values for _, values in self._newest(column, n)]

    def last_steps(self, column: str, n: int = 1) -> list[int]:
        """The step numbers of ``last(column, n)``, the newest ``n`` rows of ``column``."""
        return [step for step, _ in self._newest(column, n)]

    def at(self, step: int, column: str) -> list[float | None]:
        """The row of one ``step`` in ``column``, one value a layer; of older ones only a block's first and last step are kept."""
        return self._history.at(step, column)

    def forget(self) -> None:
        """The history has changed, or the check is over."""
        self._rows, self._points = {}, {}

    def _newest(self, column: str, n: int) -> list[tuple[int, list[float | None]]]:
        """Rules ask for the same rows one after the other: they are unpacked once."""
        asked, rows = self._rows.get(column, (0, []))
        if asked < n:
            rows = self._history.newest(column, n)
            self._rows[column] = n, rows
        return rows[-n:] if n else []

    def layer(self, index: int, column: str, n: int = 1) -> list[float]:
        """The newest values of the layer with this ``index``, among the newest ``n`` rows of ``column``; fewer where not measured."""
        return [value for row in self.last(column, n) if (value := row[index]) is not None]

    def series(self, name: str, n: int = 1) -> list[tuple[int, float]]:
        """The newest ``n`` points (step, value) of ``name``: "loss", "global_norm", "clipped_norm", "lr", "scale", or what was logged."""
        asked, points = self._points.get(name, (0, []))
        if asked < n:
            points = self._history.tail(name, n)
            self._points[name] = n, points
        return points[-n:] if n else []

    def value(self, name: str) -> float | None:
        """The newest value of the series ``name``, in the unit it has there; None when there is none yet."""
        newest = self._history.tail(name, 1)
        return newest[0][1] if newest else None

    @property
    def names(self) -> list[str]:
        """The names of all series so far."""
        return self._history.names

    @property
    def logged(self) -> list[str]:
        """The names of the user's own series."""
        return self._history.logged

    def gate(self, name: str) -> tuple[int, int]:
        """The gate ``name``: how often it fired, how often it was asked."""
        return self._history.gates.get(name, (0, 0))

    @property
    def gates(self) -> list[str]:
        """The names of all gates so far."""
        return list(self._history.gates)

    def events(self, kind: str | None = None) -> list[tuple[int, str, str]]:
        """(step, kind, text) of what happened, the oldest first; only those of a ``kind`` where one is given."""
        return [event for event in self._history.events if kind is None or event[1] == kind]
