"""When a save is due: every so many steps, every so many minutes, at the end of each epoch, or only when asked."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

from ..errors import UsageError

_UNITS = {"s": 1, "sec": 1, "min": 60, "m": 60, "h": 3600}


class Schedule:
    """``every``: 50 (steps), "10min", "30s", "1h", "epoch", or None for never by itself. UsageError for anything else."""

    def __init__(self, every: int | str | None, clock: Callable[[], float] = time.monotonic):
        self._clock = clock
        self.steps: int | None = None
        self.seconds: float | None = None
        self.epochs = every == "epoch"
        if isinstance(every, bool) or not isinstance(every, (int, str, type(None))):
            raise UsageError(_expected(every))
        if isinstance(every, int):
            if every < 1:
                raise UsageError(_expected(every))
            self.steps = every
        elif isinstance(every, str) and not self.epochs:
            self.seconds = _seconds(every)
        self._last_step, self._last_time = 0, clock()

    def saved(self, step: int) -> None:
        """A save was made, or the state of this step was loaded."""
        self._last_step, self._last_time = step, self._clock()

    def due(self, step: int, epoch_ends: bool = False) -> bool:
        if step == self._last_step and not (self.epochs and epoch_ends):
            return False
        if self.steps is not None:
            # multiples of `every`, so that a resumed run saves at the same steps as one that was not cut off
            return step // self.steps > self._last_step // self.steps
        if self.seconds is not None:
            return self._clock() - self._last_time >= self.seconds
        return self.epochs and epoch_ends


def _seconds(text: str) -> float:
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-z]+)\s*", text.lower())
    unit = _UNITS.get(found[2]) if found else None
    if found is None or unit is None or float(found[1]) <= 0:
        raise UsageError(_expected(text))
    return float(found[1]) * unit


def _expected(every: object) -> str:
    return (
        f'every={every!r}: a number of steps (50), a time ("10min", "30s", "1h"), "epoch", or None for only when save() is called, '
        "is expected."
    )
