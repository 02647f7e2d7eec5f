"""One mirror writes to a store at a time: a cell that is run again makes a new one while the old one may still be sending."""

from __future__ import annotations

import threading
import weakref
from typing import Protocol


class Owner(Protocol):
    def give_way(self) -> None: ...


_turns: dict[str, threading.Lock] = {}
"""By the store's name; held while something is sent."""
_owners: "weakref.WeakValueDictionary[str, Owner]" = weakref.WeakValueDictionary()


def take(store: str, owner: Owner) -> threading.Lock:
    """The newest owner takes over, the one before gives way. The lock is free when what that one is sending is there."""
    before = _owners.get(store)
    _owners[store] = owner
    if before is not None and before is not owner:
        before.give_way()
    return _turns.setdefault(store, threading.Lock())
