"""gradnb: which parameters get no gradient, at which line, why, and what repairs it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

from . import checkpoint
from .check import check, last_report
from .diagnoses import explain
from .errors import GradientError, GradientFlowError
from .machine import environment
from .monitor import Monitor, watch
from .numeric import numeric_check
from .preflight import preflight
from .testing import assert_gradients_flow

if TYPE_CHECKING:
    from .checkpoint import Checkpointer
    from .graph.door import graph
else:
    from . import graph  # a package that can be called: importing a part of it would put it over a function of this name

__all__ = [
    "Checkpointer",
    "GradientError",
    "GradientFlowError",
    "Monitor",
    "__version__",
    "assert_gradients_flow",
    "check",
    "environment",
    "explain",
    "graph",
    "last_report",
    "load_ipython_extension",
    "numeric_check",
    "preflight",
    "unload_ipython_extension",
    "watch",
]


def __getattr__(name: str) -> Any:
    if name == "Checkpointer":  # its room is imported when it is used
        return checkpoint.Checkpointer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), "Checkpointer"})


def load_ipython_extension(ipython: Any) -> None:
    """``%load_ext gradnb``: register the magics. Loading twice is harmless.

    Parameters
    ----------
    ipython
        The shell, as IPython gives it.
    """
    from .notebook import load

    load(ipython)


def unload_ipython_extension(ipython: Any) -> None:
    """``%unload_ext gradnb``: take everything back.

    Parameters
    ----------
    ipython
        The shell, as IPython gives it.
    """
    from .notebook import unload

    unload(ipython)
