"""SIGINT and SIGTERM while a loop runs: the step is finished first, so that what is saved is exactly the state after it."""

from __future__ import annotations

import _thread
import contextlib
import os
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable
from types import FrameType
from typing import Any, Protocol, TypeVar

from ..errors import in_notebook

T = TypeVar("T")
_PATIENCE = 5.0  # seconds that a step may take until an interrupt ends it in the middle; longer where steps are longer


class Owner(Protocol):
    def say(self, text: str) -> None: ...

    def goes_on_from(self) -> str:
        """What the same cells go on from, in words."""


class Signals:
    """``asked`` is the signal that came, until the loop has answered it. The handlers of before are put back by ``remove()``."""

    def __init__(self, owner: Owner):
        self._owner = weakref.ref(owner)  # a handler that stays installed must not keep a whole training alive
        weakref.finalize(owner, self.remove).atexit = False
        self._before: dict[int, Any] = {}
        self._installed = False
        self._process = os.getpid()
        self._timer: threading.Timer | None = None
        self._last = time.monotonic()
        self._longest = 0.0
        self.asked: int | None = None

    def install(self) -> None:
        """Cheap when it is installed already: a notebook's kernel puts its own SIGINT handler back for every cell."""
        if threading.current_thread() is not threading.main_thread():
            return  # Python allows it nowhere else
        if not self._installed:
            self._installed, self._before = True, {}
            self._last = time.monotonic()  # what was before this loop was no step
            _at_cells_end(self, True)
        for number in (signal.SIGINT, signal.SIGTERM):
            now = signal.getsignal(number)
            # None: a handler that Python did not install; ignored: somebody wants this process to go on (nohup)
            if now not in (self._handle, None, signal.SIG_IGN):
                self._before[number] = now
                signal.signal(number, self._handle)

    def remove(self) -> None:
        self._calm()
        self.asked, self._installed = None, False
        if threading.current_thread() is not threading.main_thread():
            return  # a handler that stays passes its signal on
        for number in self._before:
            if signal.getsignal(number) == self._handle:
                signal.signal(number, self._beneath(number))
        _at_cells_end(self, False)

    def _beneath(self, number: int) -> Any:
        """The handler of before; not that of an older loop which was removed while this one was installed over it."""
        before = self._before.get(number)
        while isinstance(older := getattr(before, "__self__", None), Signals) and not older._installed:
            before = older._before.get(number)
        return before

    def at_once(self, act: Callable[[], T]) -> T:
        """``act()``, which trains nothing: there is no step that an interrupt would have to wait for."""
        if self.asked is not None:
            self.answer()
        self.remove()
        try:
            result = act()
        except KeyboardInterrupt:
            self._say(f"interrupted before a step was made; {self._goes_on_from()}")
            raise Interrupted from None
        self.install()
        return result

    def cell_ends(self) -> None:
        """A loop of the user's own has no end that it tells: with the notebook's cell it is over."""
        if self.asked == signal.SIGTERM:
            self.answer()
        else:
            self.remove()

    def tick(self) -> None:
        """A step has ended."""
        now = time.monotonic()
        self._longest = max(now - self._last, 0.8 * self._longest)
        self._last = now

    def answer(self) -> None:
        """The last checkpoint is written: now do what the signal asked for."""
        number, self.asked = self.asked, None
        before = self._beneath(number or 0)
        self.remove()
        if number == signal.SIGINT:
            raise Interrupted
        if number is not None:
            if callable(before):
                before(number, None)
            else:
                os.kill(os.getpid(), number)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:  # a forked worker of a loader has inherited the handler
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        if not self._installed:
            self.remove()
            os.kill(os.getpid(), number)
            return
        late = time.monotonic() - self._last > self._patience
        if self.asked is not None or late:
            self.asked = self.asked or number
            self._say(f"stopped in the middle of a step, which is not saved; {self._goes_on_from()}")
            self.answer()
            return
        self.asked = number
        again = "; interrupt again to stop at once" if number == signal.SIGINT else ""
        what = "interrupted" if number == signal.SIGINT else f"asked to end ({signal.Signals(number).name})"
        self._say(f"{what}: this step is finished and saved first{again}")
        self._timer = threading.Timer(self._patience, self._out_of_patience)
        self._timer.daemon = True
        self._timer.start()

    def _say(self, text: str) -> None:
        owner = self._owner()
        if owner is not None:
            owner.say(text)

    def _goes_on_from(self) -> str:
        owner = self._owner()
        return owner.goes_on_from() if owner is not None else ""

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


class Interrupted(KeyboardInterrupt):
    """Of which a notebook shows the user's own lines."""

    def _render_traceback_(self) -> list[str]:
        return in_notebook(self)


Interrupted.__name__ = Interrupted.__qualname__ = "KeyboardInterrupt"  # as everybody knows it


def _at_cells_end(signals: Signals, wanted: bool) -> None:
    """Have ``cell_ends`` called where IPython runs, or no more."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    if shell is not None:
        with contextlib.suppress(ValueError):  # it was not registered
            shell.events.unregister("post_execute", signals.cell_ends)
        if wanted:
            shell.events.register("post_execute", signals.cell_ends)
