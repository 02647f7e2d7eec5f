"""One step for all ranks: what one process wants to save now (SIGTERM, a time that is over) all save after the same step.

Ranks are never at the same place. A thread of each answers a wish with the step its training has done, and promises that it does not go
further than one step beyond until there is an answer; rank 0 names the highest of these steps plus one. No rank has passed it, and none
waits where a collective of the training needs it: the step that is under way is finished by all.
"""

from __future__ import annotations

import atexit
import contextlib
import threading
import weakref
from collections import deque

from .errors import CheckpointError
from .ranks import Rank

_LOOK = 0.1  # seconds between two looks into the store
_LIMIT = 20.0  # seconds that a training waits for the others' answer; a machine that is taken away gives about 30
_ENOUGH = 5  # failures in a row after which nothing is agreed on any more
FIRST = "signal"
"""The reason that counts where ranks wish different things."""


class Agreement:
    """Runs from the first step on, until ``close()``. ``wish`` is for any thread or signal handler, ``at`` for the training."""

    def __init__(self, rank: Rank):
        self._rank = rank
        self._changed = threading.Condition()
        self._step = 0
        self._bound: int | None = None  # the training may end this step, and goes no further before there is an answer
        self._answer: tuple[int, str] | None = None
        self._wishes: deque[str] = deque()
        self._soon = threading.Event()
        self._closed = False
        self._thread: threading.Thread | None = None
        atexit.register(_end, weakref.ref(self))

    def wish(self, reason: str) -> None:
        """All ranks shall save soon."""
        self._wishes.append(reason)  # no lock: a signal handler may call this while the training's thread holds it

    def at(self, step: int) -> str | None:
        """``step`` is done. The reason to save now, where it is the one agreed on; waits where this rank is ahead of the others."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="gradnb checkpoint agreement", daemon=True)
            self._thread.start()
        with self._changed:
            self._step = step
            if self._bound is not None and step >= self._bound:
                self._changed.wait_for(lambda: self._bound is None, _LIMIT)
                self._bound = None
            if self._answer is None or step < self._answer[0]:
                return None
            (agreed, reason), self._answer = self._answer, None
            return reason if step == agreed else None

    def close(self) -> None:
        """The training is over here; the others do not wait for this rank."""
        self._closed = True
        self._soon.set()
        if self._thread is not None:
            self._thread.join(1.0)

    def _run(self) -> None:
        number, failed = 1, 0
        while not self._closed and failed < _ENOUGH:
            self._soon.wait(_LOOK)
            key = f"step/{number}"
            try:
                if self._wishes:
                    self._rank.tell(f"{key}/wish", True)
                if self._rank.told(f"{key}/wish"):
                    self._settle(key)
                    number, failed = number + 1, 0
            except CheckpointError:  # a rank does not answer, or the store has ended: all give this wish up
                number, failed = number + 1, failed + 1
                with self._changed:
                    self._bound = None
                    self._changed.notify_all()
        with contextlib.suppress(CheckpointError):
            self._rank.tell(f"left/{self._rank.rank}", True)

    def _settle(self, key: str) -> None:
        wishes = [self._wishes.popleft() for _ in range(len(self._wishes))]
        with self._changed:
            here = self._step
            self._bound = here + 1
        self._rank.tell(f"{key}/at/{self._rank.rank}", [here, wishes])
        if self._rank.rank == 0:
            told = [self._rank.hear(f"{key}/at/{rank}", _LIMIT, f"rank {rank}", unless=f"left/{rank}") for rank in range(self._rank.world)]
            reasons = [reason for one in told if one is not None for reason in one[1]]
            step = max(one[0] for one in told if one is not None) + 1
            self._rank.tell(f"{key}/answer", [step, FIRST if FIRST in reasons else reasons[0]])
        step, reason = self._rank.hear(f"{key}/answer", _LIMIT)
        with self._changed:
            self._answer, self._bound = (step, reason), None
            self._changed.notify_all()


def _end(ref: "weakref.ref[Agreement]") -> None:
    """Before the interpreter ends: a thread that is in the store then would end the process by an abort."""
    agreement = ref()
    if agreement is not None:
        agreement.close()
