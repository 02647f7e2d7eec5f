"""What the kernel runs on: Python, torch's build, driver, devices, packages, and what of it does not fit together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import UsageError

if TYPE_CHECKING:
    from .result import Environment

__all__ = ["environment"]


def environment(*, timeout: float = 30.0) -> Environment:
    """What this kernel runs on, and what of it does not fit together.

    Driver and devices are looked at in a process beside this one: a driver that crashes or hangs is reported and does not take the kernel
    down, and CUDA is not started in this process. Takes a few seconds, because that process imports torch.

    Parameters
    ----------
    timeout
        Seconds that the other process may take.

    Returns
    -------
    Environment
        It shows itself; ``to_dict()`` is JSON-ready.

    Raises
    ------
    UsageError
        For a ``timeout`` that is no positive number below 86400.
    """
    from . import child, facts, failures, mismatches
    from .driver import driver
    from .result import Environment

    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not 0 < timeout < 86400:
        raise UsageError(f"timeout={timeout!r} given; a number of seconds above 0 is expected: environment(timeout=30)")
    found = Environment(
        python=facts.python(),
        torch=facts.build(),
        system=facts.system(),
        settings=facts.settings(),
        packages=facts.packages(),
        driver=driver(),
        probe=child.look(timeout),
    )
    found.torch["cudnn"] = found.probe.facts.get("cudnn")
    order = ("error", "warning", "info")
    remarks = [*failures.remarks(found, timeout), *mismatches.remarks(found)]
    found.remarks = sorted(remarks, key=lambda remark: order.index(remark.severity))
    return found
