"""When to try again after a failure: soon at first, then later and later."""

from __future__ import annotations

import random
import time


class Backoff:
    """Pauses of ``first`` seconds, doubled after each failure up to ``longest``.

    They are drawn from the upper half of that, so that many machines that failed together do not come back together.
    """

    def __init__(self, first: float, longest: float):
        self._first, self._longest = first, longest
        self._jitter = random.Random()  # not the user's stream
        self._failures, self._at = 0, 0.0

    def failed(self, lasting: bool = False) -> None:
        """``lasting``: trying again soon cannot help."""
        pause = self._longest if lasting else min(self._longest, self._first * 2.0 ** min(self._failures, 30))
        self._failures += 1
        self._at = time.monotonic() + pause * (0.5 + self._jitter.random() / 2)

    def worked(self) -> None:
        self._failures = 0
        self.now()

    def now(self) -> None:
        """Somebody waits: the next try comes at once."""
        self._at = 0.0

    def left(self) -> float:
        """Seconds until the next try; 0 or less when it is due."""
        return self._at - time.monotonic()
