"""The background thread that writes: the loop goes on while checksums are computed and files are written."""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import replace

from .model import Manifest, State
from .snapshot import Snapshot

_AT_EXIT = 60.0  # seconds that the end of the process waits for a write
_HEAD_START = 0.002  # seconds: a save that is about to return must not wait for the interpreter while the files are prepared
_NICE = 10  # of -20 (first) to 19 (last)


class Writer:
    """One write at a time: a save that comes while one is under way waits for it, so that memory holds one copy of the state.

    ``write(state)`` makes the files and returns the manifest; ``done(manifest)`` is called in the thread when they are committed.
    """

    def __init__(self, write: Callable[[State], Manifest], done: Callable[[Manifest], None] = lambda _: None):
        self._write, self._done = write, done
        self._snapshot = Snapshot()
        self._condition = threading.Condition()
        self._job: State | None = None
        self._thread: threading.Thread | None = None
        self._process = os.getpid()
        self._failures: list[tuple[int, Exception]] = []
        self.waited = 0.0
        """Seconds that saves have waited for the write before them."""
        self.written: Manifest | None = None
        """The newest one that is committed."""
        self.failed = False
        """Whether the newest state that was submitted could not be written."""
        atexit.register(_finish, weakref.ref(self))

    @property
    def busy(self) -> bool:
        return self._job is not None

    def submit(self, state: State) -> None:
        """Copy the tensors of ``state`` and return; the files follow. Waits for the write before it."""
        begin = time.perf_counter()
        if self.busy:
            self.wait()
            self.waited += time.perf_counter() - begin
        copy = replace(state, tensors=self._snapshot.copy(state.tensors))
        with self._condition:
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="gradnb checkpoint writer", daemon=True)
                self._thread.start()  # may raise where the interpreter is ending: nobody must wait for a job then
            self._job = copy

    def wait(self, timeout: float | None = None) -> bool:
        """Until nothing is being written; False when the time limit (seconds) came first."""
        if os.getpid() != self._process:
            return True  # a forked child: the thread stayed with the parent
        with self._condition:
            return self._condition.wait_for(lambda: self._job is None, timeout)

    def failures(self) -> list[tuple[int, Exception]]:
        """(step, error) of writes that failed since the last call."""
        with self._condition:
            found, self._failures = self._failures, []
        return found

    def warm(self, state: State) -> None:
        """Make the buffers before the training: memory that is used for the first time costs several times the copy."""
        self._snapshot.copy(state.tensors)

    def _run(self) -> None:
        _step_back()
        time.sleep(_HEAD_START)
        while True:
            with self._condition:
                job = self._job
                if job is None:
                    self._thread = None  # one that waits would keep the whole training alive when its Checkpointer is dropped
                    return
            try:
                self.written = self._write(job)
                self.failed = False
                self._done(self.written)
            except Exception as error:  # told at the next save, or at the end of the loop
                with self._condition:
                    self._failures.append((job.step, error))
                    self.failed = True
            finally:
                with self._condition:
                    self._job = None
                    self._condition.notify_all()
                del job


def _step_back() -> None:
    """Where a thread has a priority of its own (Linux), the training's threads go first."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)


def _finish(ref: "weakref.ref[Writer]") -> None:
    writer = ref()
    if writer is not None:
        writer.wait(_AT_EXIT)
