"""The NVIDIA driver as the system knows it, without loading it into this process."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from .child import run

LIMIT = 10.0  # seconds for nvidia-smi, which hangs when a GPU has fallen off its bus
PROC = Path("/proc/driver/nvidia/version")
WSL = Path("/usr/lib/wsl/lib")


@dataclass(slots=True)
class Gpu:
    """One GPU as nvidia-smi lists it."""

    index: str  #: its number among the GPUs, from 0
    name: str  #: the model
    total: int | None  #: memory in MiB (2**20 bytes)
    used: int | None  #: memory in use, in MiB (2**20 bytes)


@dataclass(slots=True)
class Driver:
    """``present`` is certain: a loaded kernel module, or GPUs that nvidia-smi lists."""

    present: bool = False
    version: str | None = None  #: the driver's own
    gpus: list[Gpu] = field(default_factory=list)  #: what nvidia-smi lists
    complaint: str | None = None  #: what nvidia-smi said instead of an answer


def driver() -> Driver:
    """Ask nvidia-smi, and the kernel where that is not there."""
    found = Driver()
    try:
        match = re.search(r"Kernel Module(?: for \S+)?\s+([\d.]+)", PROC.read_text(errors="replace"))
    except OSError:
        match = None
    if match:
        found.present, found.version = True, match.group(1)
    command = shutil.which("nvidia-smi") or shutil.which("nvidia-smi", path=str(WSL))
    if command is None:
        return found
    ended = run([command, "--query-gpu=index,name,driver_version,memory.total,memory.used", "--format=csv,noheader,nounits"], LIMIT)
    if ended.state != "ended" or ended.code:
        said = " ".join((ended.out + " " + ended.err).split())[:200]
        found.complaint = said or (f"no answer within {LIMIT:g} s" if ended.state == "timeout" else f"exit status {ended.code}")
        return found
    for line in ended.out.splitlines():
        cells = [cell.strip() for cell in line.split(",")]
        if len(cells) == 5 and cells[0].isdigit():
            found.present, found.version = True, cells[2]
            found.gpus.append(Gpu(cells[0], cells[1], _number(cells[3]), _number(cells[4])))
    return found


def _number(text: str) -> int | None:
    return int(text) if text.isdigit() else None
