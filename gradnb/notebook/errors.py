"""Passes on what the user's code raised, so that one traceback shows the user's frames and Run All stops."""

from __future__ import annotations

import os
import traceback
from types import TracebackType
from typing import Any, NoReturn

from IPython.core.error import UsageError

from .cell import RUNNER_CODE

_OWN = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "")
_OVERRIDES = os.path.join("torch", "overrides.py")


def pass_on(shell: Any, error: BaseException) -> NoReturn:
    """Raise the error of the cell again, made so that IPython shows it as if gradnb were not there."""
    __tracebackhide__ = True
    frames = user_traceback(error.__traceback__)
    if isinstance(error, UsageError | SystemExit):
        raise error.with_traceback(frames)  # IPython shows these in one line anyway
    if isinstance(error, SyntaxError) or _has_group(error):
        # IPython formats these itself, with every frame of its own and ours: another type with the same name goes instead.
        stand_in = _stand_in(shell, error, frames)
        raise stand_in.with_traceback(frames) from None
    _tidy_chain(error)
    _render_as(error, lambda: _lines(shell, error, frames))
    raise error.with_traceback(frames)


def raise_plain(shell: Any, error: BaseException) -> NoReturn:
    """Raise an error of gradnb's own on purpose, shown as its one line."""
    __tracebackhide__ = True
    _render_as(error, lambda: shell.InteractiveTB.get_exception_only(type(error), error))
    raise error


def user_traceback(whole: TracebackType | None) -> TracebackType | None:
    """The traceback below the runner, without the frames that are there only because gradnb is watching."""
    at = whole
    while at is not None and at.tb_frame.f_code not in RUNNER_CODE:
        at = at.tb_next
    # Nothing of the user's ran where the runner is missing: a cell that does not compile has no traceback.
    return _without_watchers(at)


def _without_watchers(at: TracebackType | None) -> TracebackType | None:
    kept: list[TracebackType] = []
    while at is not None:
        name = at.tb_frame.f_code.co_filename
        if name.startswith(_OWN):
            # torch's Python functions hand themselves to a watcher first: [function, overrides.py, gradnb, function again].
            if kept and kept[-1].tb_frame.f_code.co_filename.endswith(_OVERRIDES):
                del kept[-2:]
        else:
            kept.append(at)
        at = at.tb_next
    result = None
    for part in reversed(kept):
        result = TracebackType(result, part.tb_frame, part.tb_lasti, part.tb_lineno)
    return result


def _render_as(error: BaseException, render: Any) -> None:
    try:
        error._render_traceback_ = render  # type: ignore[attr-defined]
    except Exception:  # an exception class may refuse attributes; then IPython shows our frames too, and nothing is lost
        pass


def _lines(shell: Any, error: BaseException, frames: TracebackType | None) -> list[str]:
    if frames is None:
        return shell.InteractiveTB.get_exception_only(type(error), error)
    return shell.InteractiveTB.structured_traceback(type(error), error, frames, tb_offset=0)


def _tidy_chain(error: BaseException) -> None:
    """The errors that this one was raised from are printed too."""
    seen = {id(error)}
    waiting = [error.__cause__, error.__context__]
    while waiting:
        link = waiting.pop()
        if link is not None and id(link) not in seen:
            seen.add(id(link))
            link.__traceback__ = _without_watchers(link.__traceback__)
            waiting += [link.__cause__, link.__context__]


def _has_group(error: BaseException | None) -> bool:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, BaseExceptionGroup):
            return True
        seen.add(id(error))
        error = error.__context__
    return False


def _stand_in(shell: Any, error: BaseException, frames: TracebackType | None) -> Exception:
    if isinstance(error, SyntaxError):
        lines = shell.SyntaxTB.structured_traceback(type(error), error, traceback.extract_tb(frames))
    else:
        lines = "".join(traceback.format_exception(type(error), error, frames)).splitlines()
    text = str(error)
    kind = type(type(error).__name__, (Exception,), {"__str__": lambda self: text, "error": error})
    result: Exception = kind(text)
    _render_as(result, lambda: lines)
    return result
