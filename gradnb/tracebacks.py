"""Takes out of a traceback the frames that are there only because gradnb runs and watches the code."""

from __future__ import annotations

import os
from collections.abc import Collection
from types import CodeType, TracebackType

_OWN = os.path.join(os.path.dirname(os.path.abspath(__file__)), "")
_OVERRIDES = os.path.join("torch", "overrides.py")


def below(whole: TracebackType | None, runners: Collection[CodeType]) -> TracebackType | None:
    """What lies below the frame that ran the user's code; None where that frame is missing: nothing of the user's ran."""
    at = whole
    while at is not None and at.tb_frame.f_code not in runners:
        at = at.tb_next
    return without_watchers(at)


def above(whole: TracebackType | None) -> TracebackType | None:
    """What led to the first frame of gradnb: for an error that it raises on purpose, the rest is no news to the user."""
    kept: list[TracebackType] = []
    while whole is not None and not whole.tb_frame.f_code.co_filename.startswith(_OWN):
        kept.append(whole)
        whole = whole.tb_next
    return _chained(kept)


def users_own(whole: TracebackType | None) -> TracebackType | None:
    """What lies below the import machinery, where the user's code runs because it is imported; else nothing."""
    at, last = whole, None
    while at is not None:
        if at.tb_frame.f_code.co_filename.startswith("<frozen importlib"):
            last = at
        elif last is not None:
            break
        at = at.tb_next
    return without_watchers(at)


def without_watchers(at: TracebackType | None) -> TracebackType | None:
    """The same traceback without gradnb's own frames, and without those of torch that call them."""
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
    return _chained(kept)


def _chained(parts: list[TracebackType]) -> TracebackType | None:
    result = None
    for part in reversed(parts):
        result = TracebackType(result, part.tb_frame, part.tb_lasti, part.tb_lineno)
    return result


def tidy_chain(error: BaseException) -> None:
    """The errors that this one was raised from are printed too."""
    seen = {id(error)}
    waiting = [error.__cause__, error.__context__]
    while waiting:
        link = waiting.pop()
        if link is not None and id(link) not in seen:
            seen.add(id(link))
            link.__traceback__ = without_watchers(link.__traceback__)
            waiting += [link.__cause__, link.__context__]
