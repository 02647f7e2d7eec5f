"""What to say when the devices could not be looked at, and what to try."""

from __future__ import annotations

import os
from collections.abc import Iterator

from . import child
from .result import Environment, Remark

HIDE = {"CUDA_VISIBLE_DEVICES": "", "HIP_VISIBLE_DEVICES": ""}
TOUCH = ("loading the driver", "counting devices", "reading device")  # stages in which a driver is at work


def remarks(environment: Environment, limit: float) -> Iterator[Remark]:
    """One remark where the probe did not come to its end."""
    probe = environment.probe
    if probe.state == "ok":
        return
    at_driver = probe.stage.startswith(TOUCH)
    if probe.state == "crashed" and at_driver:
        why = ", ".join(part for part in (probe.signal, probe.message) if part)
        yield Remark(
            "error",
            f"the driver crashed {_while(probe.stage)}: {why}",
            "It happened in a process beside this one; the kernel is unharmed. torch.cuda.is_available(), .cuda() and .to('cuda') in a "
            "cell can take the kernel down in the same way.",
            [*_hidden(limit), *_driver(environment)],
        )
    elif probe.state == "crashed":
        why = ", ".join(part for part in (probe.signal, probe.message) if part)
        killed = "The system most likely ran out of memory." if probe.signal and "SIGKILL" in probe.signal else ""
        yield Remark(
            "error", f"the process that looks at the devices crashed {_while(probe.stage)}: {why}", f"The kernel is unharmed. {killed}"
        )
    elif probe.state == "timeout":
        left = " It waits inside the driver and could not be ended; a restart of the machine removes it." if probe.left_behind else ""
        yield Remark(
            "error" if at_driver else "warning",
            f"{'the driver gave' if at_driver else 'there was'} no answer within {limit:g} s {_while(probe.stage)}",
            f"The question was asked in a process beside this one; the kernel is unharmed.{left}",
            [*(_driver(environment) if at_driver else []), f"On a slow machine: gradnb.environment(timeout={max(60, 4 * limit):g})"],
        )
    elif probe.state == "not-started":
        yield Remark("warning", f"the devices were not looked at: {probe.message}", "Nothing is known about them.")
    else:
        yield Remark(
            "warning", f"the process that looks at the devices failed {_while(probe.stage)}: {probe.message}", "The kernel is unharmed."
        )


def _while(stage: str) -> str:
    """The stage as a phrase: "while devices were counted"."""
    known = {
        "loading the driver": "while it was loaded",
        "importing torch": "while torch was imported",
        "counting devices": "while devices were counted",
        "looking for other devices": "while other devices were looked for",
        "done": "at its end",
        "": "before it began",
    }
    return known.get(stage) or f"while {stage}"


def _hidden(limit: float) -> list[str]:
    """Advice that was tried: does the same look survive with the devices hidden?"""
    if os.environ.get("CUDA_VISIBLE_DEVICES") == "":
        return []
    again = child.look(limit, HIDE)
    first = "import os; os.environ['CUDA_VISIBLE_DEVICES'] = ''"
    if again.state == "ok":
        return [f"To work on the CPU: {first} in the first cell of a new kernel (tried: nothing crashes then)."]
    return ["To work on the CPU: install the CPU build of torch (hiding the GPU with CUDA_VISIBLE_DEVICES was tried and does not help)."]


def _driver(environment: Environment) -> list[str]:
    if environment.system["wsl"]:
        return [
            "Under WSL2 the driver belongs to Windows: update it there, run wsl --update and then wsl --shutdown in a Windows terminal, "
            "and remove every NVIDIA driver package from inside Linux."
        ]
    return ["Run nvidia-smi in a terminal. If it fails too, restart the machine or update the driver."]
