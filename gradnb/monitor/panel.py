"""The live panel: one output under the cell that trains, rewritten at most four times a second; one line in a terminal.

It reads the history and never touches the training. A frame that takes long is drawn less often, so that the panel costs 1 % at most.
"""

from __future__ import annotations

import shutil
import sys
import time
import uuid
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TextIO

from ..errors import UsageError
from .flags import Flag
from .history import History

INTERVAL = 0.25
"""Seconds between two updates at least."""
SHARE = 0.01
"""Of the time, at most, for drawing."""

Clock = Callable[[], float]


class Panel(Protocol):
    """A live display. It reads, and never raises into the training."""

    def of(self, monitor: Any) -> None:
        """It shows this monitor from now on."""

    def update(self, history: History, flags: Sequence[Flag]) -> None:
        """There may be something new."""

    def clear(self) -> None:
        """A line of text comes."""


class Throttle:
    """Says when the next frame is due."""

    def __init__(self, clock: Clock = time.perf_counter):
        self._clock = clock
        self._next = float("-inf")
        self._began: float | None = None
        self._warm = False
        self._costs: deque[float] = deque(maxlen=3)

    def due(self) -> bool:
        return self._clock() >= self._next

    def begin(self) -> None:
        self._warm = self._began is not None
        self._began = self._clock()

    def end(self) -> None:
        began, now = self._began or 0.0, self._clock()
        if self._warm:  # the first frame fills caches
            self._costs.append(now - began)
        usual = min(self._costs, default=0.0)  # the system, too, may take its time once
        self._next = max(began + INTERVAL, now + usual / SHARE)


class NotebookPanel:
    """The panel of a notebook. Each cell in which steps are made gets one output of its own; an older cell's stands as it was."""

    def __init__(self, shell: Any, clock: Clock = time.perf_counter):
        self._shell = shell
        self._throttle = Throttle(clock)
        self._handle: str | None = None
        self._drawn = 0  # the number of recorded steps in the last frame
        self._state = ""
        self._fresh = True  # a cell has begun since the last frame
        self._seen: tuple[History, Sequence[Flag]] | None = None
        self._flush: Callable[[], None] = lambda: None
        self._swept = False  # the user's code has cleared the outputs of the cell
        self._watch_cells()

    def update(self, history: History, flags: Sequence[Flag]) -> None:
        """Draw a frame if one is due; the monitor's last one always."""
        self._seen = history, flags
        over = stopped(history)
        if over or (self._fresh and history.count != self._drawn) or self._throttle.due():
            self._draw("stopped" if over else "", live=not over)

    def clear(self) -> None:
        """Text goes into an output of its own."""

    def of(self, monitor: Any) -> None:
        """Let this monitor take in what is on its way before the frame at the end of a cell."""
        ref = weakref.ref(monitor)

        def flush() -> None:
            if (found := ref()) is not None:
                found.flush()

        self._flush = flush

    def _draw(self, state: str = "", live: bool = False) -> None:
        from .frame import bundle  # the first frame loads what draws

        if self._seen is None:
            return
        history, flags = self._seen
        standing = self._handle is not None and history.count == self._drawn
        if not history.count or (state == "stopped" and self._state and standing):
            return  # nothing to show yet; or how it ended stands there already
        self._throttle.begin()
        update = self._handle is not None and not (self._fresh and history.count != self._drawn and not stopped(history))
        if not update:
            self._handle = f"gradnb-{uuid.uuid4().hex}"  # not random(): that stream is the user's
        data = bundle(history, flags, state, live)
        self._shell.display_pub.publish(data=data, metadata={}, transient={"display_id": self._handle}, update=update)
        self._fresh, self._drawn, self._state = False, history.count, state
        self._throttle.end()

    def _watch_cells(self) -> None:
        """At the end of a cell the frame says how it ended, with its last steps in it."""
        me = weakref.ref(self)

        def begun(*_: Any) -> None:
            if (panel := me()) is not None:
                panel._fresh, panel._swept = True, False

        def over(result: Any = None) -> None:
            panel = me()
            if panel is None or _safely(panel._cell_over, result):
                for name, hook in hooks:
                    _safely(events.unregister, name, hook)
                if listens:
                    _safely(publisher.unregister_hook, sent)

        def sent(message: Any) -> Any:
            if (panel := me()) is not None and message["header"]["msg_type"] == "clear_output":
                panel._swept = True
            return message

        events, publisher = self._shell.events, self._shell.display_pub
        hooks = [("pre_run_cell", begun), ("post_run_cell", over)]
        for name, hook in hooks:
            events.register(name, hook)
        listens = hasattr(publisher, "register_hook")
        if listens:
            publisher.register_hook(sent)

    def _cell_over(self, result: Any) -> bool:
        """Whether the panel has seen its last cell."""
        if self._seen is None:
            return False
        history = self._seen[0]
        was_over = stopped(history)
        if not was_over:
            self._flush()
        error = getattr(result, "error_in_exec", None)
        here = self._handle is not None and not self._fresh
        if here and self._swept:  # not at once: a loop that clears at each step would have as many panels
            self._handle = None
        if history.count != self._drawn or (here and (self._swept or error is not None or not was_over)):
            self._draw(_ending(error) or ("stopped" if was_over else ""))
        return was_over


def _safely(action: Callable[..., Any], *args: Any) -> Any:
    """A fault of the display is one line."""
    try:
        return action(*args)
    except Exception as error:
        print("gradnb: the display failed: " + " ".join(f"{type(error).__name__}: {error}".split())[:300], file=sys.stderr, flush=True)
        return True


def _ending(error: BaseException | None) -> str:
    if error is None:
        return ""
    return "interrupted" if isinstance(error, KeyboardInterrupt) else f"ended by {type(error).__name__}"


class TerminalPanel:
    """One line that rewrites itself; where the stream is no terminal, only the last one."""

    def __init__(self, stream: TextIO | None = None, clock: Clock = time.perf_counter):
        self._stream = sys.stderr if stream is None else stream
        self._throttle = Throttle(clock)
        self._live = self._stream.isatty()
        self._open = False

    def of(self, monitor: Any) -> None:
        """A line shows any."""

    def update(self, history: History, flags: Sequence[Flag]) -> None:
        over = stopped(history)
        if not history.count or not (over or (self._live and self._throttle.due())):
            return
        from . import text  # the first frame loads what draws

        self._throttle.begin()
        width = shutil.get_terminal_size().columns - 1 if self._live else 200
        said = text.line(history, flags, width, "stopped" if over else "")
        self._stream.write(("\r\x1b[K" if self._live else "") + said + ("\n" if over else ""))
        self._stream.flush()
        self._open = not over
        self._throttle.end()

    def clear(self) -> None:
        """Make room for a line of somebody else's."""
        if self._open and self._live:
            self._stream.write("\r\x1b[K")
            self._stream.flush()
            self._open = False


def stopped(history: History) -> bool:
    """Whether the monitor has ended."""
    return any(kind == "stopped" for _, kind, _ in history.events[-3:])


def panel_for(show: bool | None) -> Panel | None:
    """The display that fits where we run: a notebook's panel, a terminal's line, else none. False means none, True a line at least.

    Raises
    ------
    UsageError
        Where ``show`` is neither True, False nor None.
    """
    if show is not None and not isinstance(show, bool):
        raise UsageError(f"show={show!r}: give True, False, or None to show the panel in a notebook and a line in a terminal.")
    if show is False:
        return None
    shell = _notebook()
    if shell is not None:
        return NotebookPanel(shell)
    if show or sys.stderr.isatty():
        return TerminalPanel()
    return None


def _notebook() -> Any:
    """The shell of a notebook's kernel; None in a terminal and in a script."""
    if "IPython" not in sys.modules:
        return None
    from IPython.core.getipython import get_ipython

    shell = get_ipython()
    return shell if shell is not None and getattr(shell, "kernel", None) is not None else None
