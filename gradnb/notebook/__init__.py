"""How a notebook talks to gradnb: the magics, and running a cell under its own name and lines."""

from __future__ import annotations

from typing import Any

from .cell import RUNNER_CODE
from .cells import cell_numbers

__all__ = ["RUNNER_CODE", "cell_numbers", "load", "unload"]

_CLASS = "GradnbMagics"


def load(ipython: Any) -> None:
    """Register the magics. Doing it twice only replaces them."""
    from .magics import GradnbMagics

    ipython.register_magics(GradnbMagics(ipython))


def unload(ipython: Any) -> None:
    """Take the magics away again; nothing else was added."""
    manager = ipython.magics_manager
    mine = manager.registry.pop(_CLASS, None)
    for kind, table in manager.magics.items():
        for name in list(mine.magics[kind]) if mine is not None else ():
            table.pop(name, None)
