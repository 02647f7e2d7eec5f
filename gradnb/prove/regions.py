"""Regions without gradient that torch switches in C: ``inference_mode``."""

from __future__ import annotations

import sys
from typing import Any

import torch

from .claim import Kind
from .repair import Repair, decorated


def leaving() -> bool:
    """Is it the end of a grad-mode region that switches."""
    for depth in range(2, 9):
        try:
            code = sys._getframe(depth).f_code
        except ValueError:
            return False
        if code.co_name == "__exit__" and code.co_filename.endswith("grad_mode.py"):
            return True
    return False


def install(repair: Repair) -> None:
    """Let ``inference_mode`` at a spot leave gradients on. For a process that is thrown away."""
    cls: Any = torch.autograd.grad_mode.inference_mode
    enter = cls.__enter__

    def __enter__(self: Any) -> Any:
        spot = repair.here(Kind.NO_GRAD) or decorated(repair)
        if spot is None or Kind.NO_GRAD not in spot.kinds or not self.mode:
            return enter(self)
        repair.hit(Kind.NO_GRAD)
        self.mode = False
        try:
            return enter(self)
        finally:
            self.mode = True  # a decorator makes a new one for each call, a `with` may use it again

    cls.__enter__ = __enter__
