"""SIGTERM ends a Python process at once and without a word; here it ends it at once after the report."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType


class Termination:
    """While entered, SIGTERM calls ``report`` between two bytecodes of the script, then the process dies of SIGTERM.

    No ``finally`` of the script's runs, as none would without gradnb. A script that sets its own handler keeps it. The
    report has to wait where the main thread is inside a long call of a C library.
    """

    def __init__(self, report: Callable[[], bool]):
        self._report = report  # False where a report is being written already: whoever writes it ends the process then
        self._installed = False
        self._paused = False
        self.received = False

    def __enter__(self) -> "Termination":
        if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            self._install()
            self._installed = True
            if hasattr(os, "register_at_fork"):
                # Gone before a fork and not after it: Python forgets signals that reach a child before its first bytecode.
                os.register_at_fork(before=self._restore, after_in_parent=self._again)
        return self

    def __exit__(self, *error: object) -> None:
        self._restore()
        self._installed = False

    def die(self) -> None:
        """End the process as SIGTERM does."""
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTERM)

    def _received(self, number: int, frame: FrameType | None) -> None:
        self.received = True
        if self._report():
            self.die()

    def _install(self) -> None:
        signal.signal(signal.SIGTERM, self._received)

    def _restore(self) -> None:
        """Back to what it was, unless the script has set a handler of its own."""
        self._paused = self._is_ours()
        if self._paused:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def _again(self) -> None:
        if self._paused and self._installed:
            self._paused = False
            self._install()

    def _is_ours(self) -> bool:
        # bound methods are made anew at each look, so they are compared and not tested for identity
        return (
            self._installed and threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) == self._received
        )
