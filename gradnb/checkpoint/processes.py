"""What a Checkpointer does otherwise when several processes train together: one answers for all, or all do it at the same step."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any, TypeVar

from torch import Tensor

from ..errors import UsageError
from . import shards
from .folder import Folder
from .model import Manifest
from .ranks import Rank, resized
from .resume import Found, Search

T = TypeVar("T")
_AGAIN = 60.0  # seconds after which a wish that the others have not answered is told again


def here() -> "Alone":
    """Asked once for each Checkpointer, after torch.distributed has been set up, in the same order on every process."""
    rank = Rank.here() if "torch.distributed" in sys.modules else None
    return Alone() if rank is None else Several(rank)


class Alone:
    """One process."""

    leads = True
    """Whether this process speaks to the user and to the remote store."""
    world = 1

    def folder(self, *args: Any, **options: Any) -> Folder:
        return Folder(*args, **options)

    def newest(self, search: Search) -> Found | None:
        """What to go on from."""
        return search.newest()

    def split(self, tensors: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """(the tensors that this process writes, what else to write of those that are sharded)."""
        if "torch.distributed" in sys.modules and Rank.many():
            raise UsageError("This Checkpointer was made before torch.distributed was set up: make it after init_process_group(...).")
        return tensors, {}

    def together(self, act: Callable[[], T]) -> T:
        """``act()`` on every process; where one raises, all do."""
        return act()

    def agree(self, step: int, reason: str | None, common: bool) -> str | None:
        """Why to save after this step. ``common``: every process comes to this reason at this step by itself."""
        return reason

    def skip(self, folder: Folder, step: int, why: str) -> None:
        """This process cannot take part in a save: the others do not wait for it. Not while a write is under way."""

    def resized(self, manifest: Manifest) -> str | None:
        """What cannot be restored exactly because another number of processes wrote it, in one line."""
        return resized(manifest.world, self.world)

    def close(self) -> None:
        """The training is over."""


class Several(Alone):
    """This process among others."""

    def __init__(self, rank: Rank):
        from .agreement import Agreement

        self._rank = rank
        self.leads, self.world = rank.rank == 0, rank.world
        self._agreement = Agreement(rank)
        self._wished, self._since = "", 0.0

    def folder(self, *args: Any, **options: Any) -> Folder:
        from .rank_folder import RankFolder

        return RankFolder(self._rank, *args, **options)

    def newest(self, search: Search) -> Found | None:
        return self._rank.choose(search.newest, lambda serial: Found(*search.one(serial)), lambda found: found.manifest.serial)

    def split(self, tensors: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Any]]:
        return shards.split(tensors)

    def together(self, act: Callable[[], T]) -> T:
        return self._rank.together("act", act)

    def agree(self, step: int, reason: str | None, common: bool) -> str | None:
        if reason is not None and not common:
            # Numbers and clocks differ between processes: those of rank 0 count. A signal counts wherever it comes.
            late = time.monotonic() - self._since > _AGAIN
            if (self.leads or reason == "signal") and (reason != self._wished or late):
                self._agreement.wish(reason)
                self._wished, self._since = reason, time.monotonic()
            reason = None
        agreed = self._agreement.at(step)
        if agreed is not None:
            self._wished = ""
        return agreed or reason

    def skip(self, folder: Any, step: int, why: str) -> None:
        folder.skip(step, why)

    def close(self) -> None:
        self._agreement.close()
