"""Under torchrun every rank leaves its report in a folder, and the first rank of the machine prints what they say together.

Files and not collectives: when a script is over its process group may be gone, and a rank that died answers nothing.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import shutil
import stat
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from ..report.report import Report

WAIT = 30.0  # seconds for a rank that still runs when the first one is done
STARTING = 10.0  # seconds for a rank that nothing was heard of yet
STALE = 30.0  # a report finished so long before this process began belongs to an earlier run

_RUN = ("TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT", "MASTER_ADDR", "MASTER_PORT", "WORLD_SIZE", "GROUP_RANK")


@dataclass
class Gathered:
    """Reports by rank; why each missing one is missing; which ranks still run."""

    reports: dict[int, Report] = field(default_factory=dict)
    silent: dict[int, str] = field(default_factory=dict)
    running: list[int] = field(default_factory=list)


class Ranks:
    """The ranks of this machine, seen from one of them."""

    def __init__(self, rank: int, local: int, count: int, folder: Path):
        self.rank, self.folder = rank, folder
        self.others = range(rank - local, rank - local + count)
        self._started = time.time()
        self._own: Report | None = None
        self._file("report").unlink(missing_ok=True)
        self._write("alive", str(os.getpid()).encode())

    @property
    def below(self) -> list[int]:
        return [rank for rank in self.others if rank < self.rank]

    def hand_in(self, report: Report) -> None:
        """Leave this rank's report for the one that prints."""
        self._own = report
        self._write("report", pickle.dumps((time.time(), report)))

    def prints(self, seconds: Callable[[], float]) -> bool:
        """The first rank prints; where every rank before this one died without a report, this one does."""
        begin = time.monotonic()
        while any(self._state(rank) == "unheard" for rank in self.below):
            waited = time.monotonic() - begin
            if not self.folder.exists() or waited > min(STARTING, seconds()):
                break
            time.sleep(0.05)
        if self.below and not self.folder.exists():
            return False  # the one that printed has cleared up
        return all(self._state(rank) != "alive" and self._read(rank) is None for rank in self.below)

    def gather(self, seconds: Callable[[], float]) -> Gathered:
        """Every rank's report, waiting for those that run: ``seconds()`` in all, asked again while it waits."""
        found = Gathered({self.rank: self._own} if self._own is not None else {})
        begin = time.monotonic()
        while True:
            found.running = []
            unheard = []
            waited = time.monotonic() - begin
            for rank in self.others:
                if rank not in found.reports:
                    state = self._state(rank)  # before the look at its report: a rank may hand in and end in between
                    report = self._read(rank)
                    if report is not None:
                        found.reports[rank] = report
                    elif state == "alive":
                        found.running.append(rank)
                    elif state == "unheard" and waited < STARTING:
                        unheard.append(rank)
            if not (found.running or unheard) or waited > seconds():
                break
            time.sleep(0.05)
        for rank in self.others:
            if rank not in found.reports:
                state = "unheard" if rank in unheard else self._state(rank)
                found.silent[rank] = _REASONS[state]
        shutil.rmtree(self.folder, ignore_errors=True)
        return found

    def _state(self, rank: int) -> str:
        try:
            process = int(self._file("alive", rank).read_bytes())
        except (OSError, ValueError):
            return "unheard"
        try:
            if os.name == "posix":  # elsewhere signal 0 is a real one
                os.kill(process, 0)
        except ProcessLookupError:
            return "dead"
        except OSError:
            pass  # it is there, and not ours to ask
        return "alive"

    def _read(self, rank: int) -> Report | None:
        try:
            finished, report = pickle.loads(self._file("report", rank).read_bytes())
        except (OSError, EOFError, ValueError, pickle.UnpicklingError):
            return None
        return report if isinstance(report, Report) and finished > self._started - STALE else None

    def _file(self, kind: str, rank: int | None = None) -> Path:
        return self.folder / f"{self.rank if rank is None else rank}.{kind}"

    def _write(self, kind: str, data: bytes) -> None:
        """Whole or not at all: another rank may be looking."""
        half = self._file(f"{kind}.part")
        with suppress(OSError):
            half.write_bytes(data)
            half.replace(self._file(kind))


_REASONS = {
    "dead": "its process ended without one (killed, os._exit, or a crash)",
    "alive": "it was still running when this was printed",
    "unheard": "nothing was heard of it (was it started under gradnb?)",
}


def join(environment: dict[str, str]) -> Ranks | None:
    """This process's place among the ranks that torchrun (or another launcher that sets the same variables) started.

    None where it is alone, and where no folder can be shared: then each rank prints its own report.
    """
    try:
        rank, world = int(environment["RANK"]), int(environment["WORLD_SIZE"])
        local = int(environment.get("LOCAL_RANK", rank))
        count = int(environment.get("LOCAL_WORLD_SIZE", world))
    except (KeyError, ValueError):
        return None
    if world < 2 or not 0 <= local < count or local > rank:
        return None
    key = hashlib.sha256("|".join(environment.get(name, "") for name in _RUN).encode()).hexdigest()[:16]
    user = os.getuid() if hasattr(os, "getuid") else 0
    folder = Path(tempfile.gettempdir()) / f"gradnb-{user}-{key}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        # what lies in there is unpickled: it must be this user's own, where nobody else can write
        mine = stat.S_ISDIR(found.st_mode) and (os.name != "posix" or found.st_uid == user and not found.st_mode & 0o022)
    except OSError:
        return None
    return Ranks(rank, local, count, folder) if mine else None
