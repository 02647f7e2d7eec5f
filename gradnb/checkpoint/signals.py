"""SIGINT and SIGTERM while a loop runs: the step is finished first, so that what is saved is exactly the state after it."""

from __future__ import annotations

import _thread
import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

_PATIENCE = 5.0  # seconds that a step may take until an interrupt ends it in the middle; longer where steps are longer


class Signals:
    """``asked`` is the signal that came, until the loop has answered it. The handlers of before are put back by ``remove()``."""

    def __init__(self, say: Callable[[str], None]):
        self._say = say
        self._before: dict[int, Any] = {}
        self._process = os.getpid()
        self._timer: threading.Timer | None = None
        self._last = time.monotonic()
        self._longest = 0.0
        self.asked: int | None = None

    def install(self) -> None:
        """Cheap when it is installed already: a notebook's kernel puts its own SIGINT handler back for every cell."""
        if threading.current_thread() is not threading.main_thread():
            return  # Python allows it nowhere else
        for number in (signal.SIGINT, signal.SIGTERM):
            now = signal.getsignal(number)
            if now != self._handle and now is not None:  # None: a handler that Python did not install
                self._before[number] = now
                signal.signal(number, self._handle)

    def remove(self) -> None:
        self._calm()
        self.asked = None
        if threading.current_thread() is not threading.main_thread():
            return
        for number, before in self._before.items():
            if signal.getsignal(number) == self._handle:
                signal.signal(number, before)
        self._before = {}

    def tick(self) -> None:
        """A step has ended."""
        now = time.monotonic()
        self._longest = max(now - self._last, 0.8 * self._longest)
        self._last = now

    def answer(self) -> None:
        """The last checkpoint is written: now do what the signal asked for."""
        number, self.asked = self.asked, None
        before = self._before.get(number or 0)
        self.remove()
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        if number is not None:
            if callable(before):
                before(number, None)
            elif before is not signal.SIG_IGN:
                os.kill(os.getpid(), number)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:  # a forked worker of a loader has inherited the handler
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        late = time.monotonic() - self._last > self._patience
        if self.asked is not None or late:
            self.asked = self.asked or number
            self._say("stopped in the middle of a step: the last checkpoint is the one before")
            self.answer()
            return
        self.asked = number
        again = "; interrupt again to stop at once" if number == signal.SIGINT else ""
        self._say(f"{signal.Signals(number).name}: this step is finished and saved first{again}")
        self._timer = threading.Timer(self._patience, self._out_of_patience)
        self._timer.daemon = True
        self._timer.start()

    @property
    def _patience(self) -> float:
        return max(_PATIENCE, 3 * self._longest)

    def _out_of_patience(self) -> None:
        number = self.asked
        if number is not None:
            with contextlib.suppress(Exception):
                _thread.interrupt_main(signal.Signals(number))

    def _calm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
