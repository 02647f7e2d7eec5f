"""gradnb: which parameters get no gradient, at which line, why, and what repairs it."""

from __future__ import annotations

from typing import Any

__version__ = "0.1.0"

from .check import check, last_report
from .diagnoses import explain
from .errors import GradientError

__all__ = ["GradientError", "__version__", "check", "explain", "last_report", "load_ipython_extension", "unload_ipython_extension"]


def load_ipython_extension(ipython: Any) -> None:
    """``%load_ext gradnb``: register the magics. Loading twice is harmless."""
    from .notebook import load

    load(ipython)


def unload_ipython_extension(ipython: Any) -> None:
    """``%unload_ext gradnb``: take everything back."""
    from .notebook import unload

    unload(ipython)
