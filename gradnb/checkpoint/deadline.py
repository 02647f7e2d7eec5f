"""Calls that may hang for ever (a mount, a dead file system) get a time limit: they run in a thread of their own."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


def within(seconds: float, action: Callable[[], T]) -> T:
    """``action()``, its result or its error.

    TimeoutError when it has not ended after ``seconds``: its thread is left behind, and ends with the process.
    """
    outcome: dict[str, Any] = {}

    def run() -> None:
        try:
            outcome["result"] = action()
        except BaseException as error:
            outcome["error"] = error

    # The caller's context goes along, because IPython finds the cell's output by it.
    thread = threading.Thread(target=contextvars.copy_context().run, args=(run,), name="gradnb time limit", daemon=True)
    thread.start()
    thread.join(seconds)
    if "error" in outcome:
        raise outcome["error"]
    if "result" not in outcome:
        raise TimeoutError(f"no answer after {seconds:.0f} s")
    return outcome["result"]
