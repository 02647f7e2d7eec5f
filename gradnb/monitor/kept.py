"""A sequence in bounded memory: the newest items as they are, older ones merged into blocks of equal length."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, TypeVar

Item = TypeVar("Item", bound=Any)  # carries ``count``: how many items it stands for


class Kept(Generic[Item]):
    """At most ``whole`` + ``blocks`` items, however many are added: when there are too many blocks, each two become one."""

    def __init__(self, whole: int, blocks: int, merge: Callable[[Item, Item], Item]):
        self._whole, self._limit, self._merge = whole, blocks, merge
        self._recent: deque[Item] = deque()
        self._blocks: list[Item] = []
        self._length = 1  # how many items a block holds, before the next one begins

    @property
    def newest(self) -> Item | None:
        return self._recent[-1] if self._recent else None

    def __iter__(self) -> Iterator[Item]:
        yield from self._blocks
        yield from self._recent

    def backwards(self) -> Iterator[Item]:
        yield from reversed(self._recent)
        yield from reversed(self._blocks)

    def restore(self, items: Sequence[Item]) -> None:
        """Go on with what another one kept."""
        whole = 0
        while whole < min(self._whole, len(items)) and items[-1 - whole].count == 1:
            whole += 1
        many = len(items) - whole
        self._blocks, self._recent = list(items[:many]), deque(items[many:])
        self._length = max((block.count for block in self._blocks), default=1)

    def add(self, item: Item) -> None:
        self._recent.append(item)
        if len(self._recent) <= self._whole:
            return
        old = self._recent.popleft()
        if self._blocks and self._blocks[-1].count < self._length:
            self._blocks[-1] = self._merge(self._blocks[-1], old)
            return
        if len(self._blocks) >= self._limit:
            pairs = [self._blocks[i : i + 2] for i in range(0, len(self._blocks), 2)]
            self._blocks = [self._merge(*pair) if len(pair) == 2 else pair[0] for pair in pairs]
            self._length *= 2
        self._blocks.append(old)
