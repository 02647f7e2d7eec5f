"""How a notebook talks to gradnb: the magics, and running a cell under its own name and lines."""

from __future__ import annotations

from typing import Any

from .cell import RUNNER_CODE
from .cells import cell_numbers

__all__ = ["RUNNER_CODE", "cell_numbers", "load", "unload"]

_CLASSES = ("GradnbMagics", "WatchMagics", "CheckpointMagics")


def load(ipython: Any) -> None:
    """Register the magics. Doing it twice only replaces them."""
    from .gradckpt import CheckpointMagics
    from .gradwatch import WatchMagics
    from .magics import GradnbMagics

    ipython.register_magics(GradnbMagics(ipython), WatchMagics(ipython), CheckpointMagics(ipython))


def unload(ipython: Any) -> None:
    """Take the magics away again; nothing else was added."""
    manager = ipython.magics_manager
    for mine in [manager.registry.pop(name, None) for name in _CLASSES]:
        for kind, table in manager.magics.items():
            for name in list(mine.magics[kind]) if mine is not None else ():
                table.pop(name, None)
