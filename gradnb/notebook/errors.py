"""Passes on what the user's code raised, so that one traceback shows the user's frames and Run All stops."""

from __future__ import annotations

import traceback
from types import TracebackType
from typing import Any, NoReturn

from IPython import get_ipython
from IPython.core import interactiveshell
from IPython.core.error import UsageError

from ..tracebacks import above, below, tidy_chain
from .cell import RUNNER_CODE

_SHELL = interactiveshell.__file__


def pass_on(shell: Any, error: BaseException) -> NoReturn:
    """Raise the error of the cell again, made so that IPython shows it as if gradnb were not there."""
    __tracebackhide__ = True
    frames = below(error.__traceback__, RUNNER_CODE)
    if isinstance(error, UsageError | SystemExit):
        raise error.with_traceback(frames)  # IPython shows these in one line anyway
    if isinstance(error, SyntaxError) or _has_group(error):
        # IPython formats these itself, with every frame of its own and ours: another type with the same name goes instead.
        stand_in = _stand_in(shell, error, frames)
        raise stand_in.with_traceback(frames) from None
    tidy_chain(error)
    _render_as(error, lambda: _lines(shell, error, frames))
    raise error.with_traceback(frames)


def raise_plain(shell: Any, error: BaseException) -> NoReturn:
    """Raise an error of gradnb's own on purpose, shown as its one line."""
    __tracebackhide__ = True
    _render_as(error, lambda: shell.InteractiveTB.get_exception_only(type(error), error))
    raise error


def users_frames(error: BaseException) -> list[str]:
    """``_render_traceback_`` of an error that gradnb raises on purpose: the user's lines, then the message, which says what led to it."""
    shell = get_ipython()
    frames = above(error.__traceback__)
    while frames is not None and frames.tb_frame.f_code.co_filename == _SHELL:  # IPython's own frame, which runs the cell
        frames = frames.tb_next
    chain = error.__cause__, error.__context__, error.__suppress_context__
    error.__cause__ = error.__context__ = None
    try:
        return _lines(shell, error, frames)
    finally:
        error.__cause__, error.__context__, error.__suppress_context__ = chain


def _render_as(error: BaseException, render: Any) -> None:
    try:
        error._render_traceback_ = render  # type: ignore[attr-defined]
    except Exception:  # an exception class may refuse attributes; then IPython shows our frames too, and nothing is lost
        pass


def _lines(shell: Any, error: BaseException, frames: TracebackType | None) -> list[str]:
    if frames is None:
        return shell.InteractiveTB.get_exception_only(type(error), error)
    return shell.InteractiveTB.structured_traceback(type(error), error, frames, tb_offset=0)


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
