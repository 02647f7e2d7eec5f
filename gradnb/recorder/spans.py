"""From an autograd node's sequence number to the recorded operation that made the node."""

from __future__ import annotations

from bisect import bisect_right
from typing import Iterable


class Spans:
    """Built from ``(first, last, op)``: the op made the nodes ``first <= sequence < last``. Spans may lie inside each other."""

    def __init__(self, spans: Iterable[tuple[int, int, int]]):
        self._spans = sorted((s for s in spans if s[1] > s[0] >= 0), key=lambda s: (s[0], -s[1]))
        self._starts = [s[0] for s in self._spans]

    def op(self, sequence: int) -> int:
        """The innermost op around a node, -1 where none was recorded."""
        at = bisect_right(self._starts, sequence)
        for first, last, op in reversed(self._spans[max(0, at - 400) : at]):
            if first <= sequence < last:
                return op
        return -1

    def last(self, op: int, sequence: int) -> bool:
        """Is the node the last one that the op made: its output."""
        at = bisect_right(self._starts, sequence)
        return any(s[2] == op and s[1] == sequence + 1 for s in self._spans[max(0, at - 400) : at])

    def outputs(self, found: dict[int, str]) -> dict[int, str]:
        """What is known by node, by op: only where the node is the op's last one, which stands for its output."""
        by_last = {last - 1: op for _, last, op in self._spans}
        return {by_last[n]: what for n, what in found.items() if n in by_last}
