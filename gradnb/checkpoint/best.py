"""Which checkpoint is the best by the user's metric, and when a better one is worth a save of its own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from .model import Manifest
from .slots import best, rule


class Best:
    """``keep_best``: None, or a metric and ``"max"`` or ``"min"``. UsageError for anything else."""

    def __init__(self, keep_best: Any):
        self.by = rule(keep_best)
        self._value: float | None = None
        self._step = -1

    @property
    def metric(self) -> str | None:
        return self.by[0] if self.by is not None else None

    def better(self, value: float, step: int) -> bool:
        """Is this the best so far, and worth a save at once? A metric of every step is judged where a save is due anyway."""
        often, self._step = step - self._step <= 1, step
        if self.by is None or math.isnan(value):
            return False
        if self._value is not None and not (value > self._value if self.by[1] == "max" else value < self._value):
            return False
        self._value = value
        return not often

    def of(self, manifests: Sequence[Manifest]) -> Manifest | None:
        return best(manifests, self.by)

    def recall(self, manifests: Sequence[Manifest]) -> None:
        """Go on from the best of an earlier run."""
        found = self.of(manifests)
        self._value = found.metrics[self.by[0]] if found is not None and self.by is not None else None
