"""Saves that fail one after the other: told at once, then at growing distances, and once more when saving works again."""

from __future__ import annotations

import re

from .model import Manifest
from .words import plural

_FARTHER = 4  # the 1st, 4th, 16th, 64th failure in a row is told: a run of a week that saves every minute makes 8 lines of it


class Troubles:
    """Counts the saves that failed in a row. Sizes and steps in a reason may differ: it is the same reason."""

    def __init__(self) -> None:
        self._count, self._next = 0, 1
        self._reason, self._untold = "", ""
        self._at = (0, 0)

    @property
    def now(self) -> bool:
        """Whether the newest save failed."""
        return self._count > 0

    def failed(self, line: str, why: str, step: int, newest: Manifest | None) -> str:
        """What to say now, empty for nothing. ``newest`` is the newest checkpoint that was written."""
        reason = re.sub(r"\d+", "", why)
        if reason != self._reason:
            self._reason, self._next = reason, self._count + 1
        self._count, self._at = self._count + 1, (step, newest.serial if newest is not None else 0)
        self._untold = line if self._count == 1 else f"{line} ({self._count} in a row)"
        if self._count < self._next:
            return ""
        self._next = _FARTHER * self._count
        return self.rest()

    def rest(self) -> str:
        """The last failure, where it was not told yet."""
        said, self._untold = self._untold, ""
        return said

    def over(self, newest: Manifest | None) -> str:
        """What to say when a later state was written after all; one that was on its way when the failure came is no news."""
        if not self._count or newest is None or (newest.step, newest.serial) <= self._at:
            return ""
        count = self._count
        self._count, self._next, self._reason, self._untold = 0, 1, "", ""
        return f"saving works again, after {plural(count, 'save')} that failed"
