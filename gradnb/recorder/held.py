"""An exception that is about numbers: what its text says, and the tensors that its frames still hold."""

from __future__ import annotations

import linecache
import re
from types import TracebackType
from typing import Any

import torch

from .frames import USER, Frames

_SAYS_SO = re.compile(
    r"\b(nan|nans|inf|infs|infinit\w*|non-?finite|finite|isnan|isinf|isfinite|diverg\w*|ill-conditioned|invalid values|constraint|"
    r"probability tensor|not positive-definite|failed to converge|singular)\b",
    re.IGNORECASE,
)
_TESTS = re.compile(r"\b(isnan|isinf|isfinite|nan)\b")


def about_numbers(error: BaseException, frames: Frames) -> bool:
    """Does the message, or a line of the user's that it came through, speak of NaN, infinity or a refused value."""
    said = f"{type(error).__name__}: {error}"
    tests = False
    traceback: TracebackType | None = error.__traceback__
    while traceback is not None:
        code = traceback.tb_frame.f_code
        if frames.codes.get(id(code)) == USER:
            tests = tests or _TESTS.search(linecache.getline(code.co_filename, traceback.tb_lineno)) is not None
        traceback = traceback.tb_next
    return tests or _SAYS_SO.search(said) is not None


def held(error: BaseException) -> list[torch.Tensor]:
    """The tensors among the local variables of the exception's frames, those of the innermost frame first."""
    found: list[torch.Tensor] = []
    traceback: TracebackType | None = error.__traceback__
    while traceback is not None:
        for value in list(traceback.tb_frame.f_locals.values()):
            found.extend(_tensors(value, 0))
        traceback = traceback.tb_next
    return found[::-1]


def _tensors(value: Any, depth: int) -> list[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return [value]
    if depth < 2 and isinstance(value, (list, tuple)):
        return [t for item in list(value)[:32] for t in _tensors(item, depth + 1)]
    if depth < 2 and isinstance(value, dict):
        return [t for item in list(value.values())[:32] for t in _tensors(item, depth + 1)]
    if depth < 1 and isinstance(value, torch.distributions.Distribution):
        return [t for item in list(vars(value).values()) for t in _tensors(item, depth + 1)]
    return []
