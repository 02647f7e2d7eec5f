"""Several processes: rank 0 decides and commits, the others are told by the process group's key-value store.

Nothing here is a collective: from a background thread one of ours could hang, or come between the user's. A process that is not there makes
the others wait only for a limited time, and then they say so.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from ..errors import UsageError
from . import slots
from .errors import CheckpointError, DamagedError, MismatchError, NoCheckpointError, RemoteError, WriteError

LIMIT = 600.0
"""Seconds that ranks wait for each other: where one reads or writes, it may be a large file on slow storage."""
READING = 3600.0
"""The same where one of them looks for a checkpoint, which it may have to download."""
_TOGETHER = 10.0  # seconds until a file of another machine must be seen, on network file systems that look again only now and then
_RAISED: dict[str, type[Exception]] = {
    kind.__name__: kind for kind in (CheckpointError, DamagedError, MismatchError, NoCheckpointError, RemoteError, WriteError, UsageError)
}
T = TypeVar("T")


class Rank:
    """This process among the others of its process group."""

    _made = 0

    @classmethod
    def here(cls) -> "Rank | None":
        """None where torch.distributed does not run, or runs alone. Ranks find each other by how many of their calls were before."""
        import torch.distributed as dist

        if not cls.many():
            return None
        cls._made += 1
        return cls(dist.get_rank(), dist.get_world_size(), dist.PrefixStore(f"gradnb/checkpoint/{cls._made}", _own(_default_store())))

    @staticmethod
    def many() -> bool:
        """Whether this process trains together with others."""
        import torch.distributed as dist

        return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1

    def __init__(self, rank: int, world: int, store: Any):
        self.rank, self.world, self._store = rank, world, store
        self._rounds: dict[str, int] = {}

    def round(self, name: str) -> str:
        """A key for the next of the things that all ranks do in the same order."""
        self._rounds[name] = self._rounds.get(name, 0) + 1
        return f"{name}/{self._rounds[name]}"

    # the store

    def tell(self, key: str, value: Any) -> None:
        """``value`` is JSON-ready. CheckpointError where the store is gone: it ends with the process that holds it."""
        try:
            self._store.set(key, json.dumps(value))
        except Exception as error:
            raise _gone(error) from None

    def told(self, key: str) -> bool:
        try:
            return bool(self._store.check([key]))
        except Exception as error:
            raise _gone(error) from None

    def hear(self, key: str, limit: float = LIMIT, of: str = "rank 0", unless: str | None = None) -> Any:
        """The value of a key; None where ``unless`` is told instead. CheckpointError that names ``of`` after ``limit`` seconds."""
        until, pause = time.monotonic() + limit, 0.001
        # A blocking wait on the store would hold its connection, which other threads need.
        while not self.told(key):
            if unless is not None and self.told(unless):
                return None
            if time.monotonic() > until:
                raise CheckpointError(f"{of} did not answer in {limit:.0f} s: it has ended, or is in another place of the program")
            time.sleep(pause)
            pause = min(0.05, 2 * pause)
        try:
            return json.loads(self._store.get(key))
        except Exception as error:
            raise _gone(error) from None

    def hear_all(self, key: str, limit: float = LIMIT) -> list[Any]:
        """What every rank told under ``key``/rank."""
        until = time.monotonic() + limit
        return [self.hear(f"{key}/{rank}", max(0.0, until - time.monotonic()), f"rank {rank}") for rank in range(self.world)]

    def forget(self, *keys: str) -> None:
        """Nothing piles up in the store. Only for keys that every rank has read."""
        for key in keys:
            with contextlib.suppress(Exception):  # not every store can delete
                self._store.delete_key(key)

    # what all do together

    def together(self, what: str, act: Callable[[], T]) -> T:
        """Every rank does ``act``; where one of them fails all raise: the error of this rank, or one that names the other."""
        key = self.round(what)
        mine: Exception | None = None
        try:
            result = act()
        except Exception as error:
            mine = error
        self.tell(f"{key}/{self.rank}", None if mine is None else _as_data(mine))
        said = self.hear_all(key, READING)
        if mine is not None:
            raise mine
        for rank, data in enumerate(said):
            if data is not None:
                raise _from_data(data, f"rank {rank}: ")
        return result

    def same_folder(self, path: Path) -> None:
        """UsageError on every rank where one of them does not see the folder of rank 0."""
        key = self.round("folder")
        if self.rank == 0:
            number = random.SystemRandom().randrange(10**5, 10**6)
            self._probe(path, number).touch()
            self.tell(key, [number, str(path), socket.gethostname()])
        number, where, host = self.hear(key, READING)
        probe = self._probe(path, number)

        def see() -> None:
            until = time.monotonic() + _TOGETHER
            while not _lies(probe):
                if time.monotonic() > until:
                    raise UsageError(
                        f"rank {self.rank} on {socket.gethostname()} does not see the folder of rank 0 ({where} on {host}) at {path}: "
                        "every process must be given the same folder, on a file system that all machines share."
                    )
                time.sleep(0.05)

        try:
            self.together("folder-seen", see)
        finally:
            if self.rank == 0:
                probe.unlink(missing_ok=True)

    @staticmethod
    def _probe(path: Path, number: int) -> Path:
        """A file that looks like a save that has just begun: where a kill leaves it, the next start removes it."""
        return path / slots.place(number, slots.MANIFEST)

    def choose(self, newest: Callable[[], Any | None], one: Callable[[int], Any], serial: Callable[[Any], int]) -> Any | None:
        """All ranks take the same checkpoint: rank 0 calls ``newest()`` and tells its serial, the others call ``one(serial)``.

        None where rank 0 found none. What rank 0 raises all raise; where one rank cannot read its part all raise.
        """
        key = self.round("choice")
        found: Any = None
        if self.rank == 0:
            try:
                found = newest()
            except Exception as error:
                self.tell(key, {"error": _as_data(error)})
                raise
            self.tell(key, {"serial": None if found is None else serial(found)})
            return self.together("chosen", lambda: found)
        said = self.hear(key, READING)
        if "error" in said:
            raise _from_data(said["error"], "rank 0: ")
        return self.together("chosen", lambda: None if said["serial"] is None else one(said["serial"]))


def resized(saved: int, now: int) -> str | None:
    """What cannot be split anew for another number of processes, in one line; None where the number is the same."""
    if saved == now:
        return None
    few, many = sorted((saved, now))
    odd = f"rank {few}" if many == few + 1 else f"ranks {few} to {many - 1}"
    own = f"{odd} begin{'s' * odd.startswith('rank ')} with rank 0's values" if now > saved else f"what only {odd} had is left out"
    return (
        f"saved by {saved} process{'es' if saved > 1 else ''}, now {now}: sharded tensors are split anew; random states are each rank's "
        f"own, and {own}; the batches that are done are counted per process, so the rest of the epoch may hold other samples"
    )


def _default_store() -> Any:
    import torch.distributed as dist

    return dist.distributed_c10d._get_default_store()


def _own(store: Any) -> Any:
    """A connection of our own: a call of the user's that waits on theirs does not hold ours up. Not every store can."""
    try:
        return store.clone()
    except Exception:
        return store


def _lies(path: Path) -> bool:
    try:
        return path.name in os.listdir(path.parent)  # a network file system looks again for a listing, not for one name
    except OSError:
        return False


def _as_data(error: Exception) -> dict[str, str]:
    kind = next((name for name, kind in reversed(_RAISED.items()) if isinstance(error, kind)), None)
    return {"kind": kind or "CheckpointError", "text": str(error) if kind else f"{type(error).__name__}: {error}"}


def _from_data(data: dict[str, str], who: str) -> Exception:
    return _RAISED[data["kind"]](who + data["text"])


def _gone(error: Exception) -> CheckpointError:
    return CheckpointError(
        f"the other processes cannot be reached any more: {str(error).splitlines()[0][:200] if str(error) else type(error).__name__}"
    )
