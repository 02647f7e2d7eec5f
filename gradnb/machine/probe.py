"""Runs in a process of its own: imports torch, loads the driver, counts the devices, and says each fact as soon as it has it.

Started as a script by `child.py`; nothing of gradnb is imported. Each fact is one line, the marker and a JSON object. A crash or a
hang then leaves the facts so far, and the last stage says what was being done.
"""

from __future__ import annotations

import ctypes
import json
import sys
import warnings
from typing import Any

MARK = "gradnb-probe:"


def say(**fact: Any) -> None:
    print(MARK, json.dumps(fact), flush=True)


def no_core_file() -> None:
    """A crash must not leave a core file in the user's folder."""
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    except (ImportError, ValueError, OSError):
        pass


def driver() -> None:
    """The CUDA version that the NVIDIA driver serves; asking for it starts no device."""
    for name in ("libcuda.so.1", "nvcuda.dll"):
        try:
            library = ctypes.CDLL(name)
            version = ctypes.c_int()
            if library.cuDriverGetVersion(ctypes.byref(version)) == 0 and version.value:
                say(driver_cuda=f"{version.value // 1000}.{version.value % 1000 // 10}")
            return
        except (OSError, AttributeError):
            continue


def build(torch: Any) -> None:
    cudnn = None
    try:
        cudnn = torch.backends.cudnn.version()
    except Exception as error:  # a cuDNN that does not fit raises here
        say(complaint=f"{type(error).__name__}: {error}")
    say(torch=str(torch.__version__), cudnn=cudnn, architectures=list(torch.cuda.get_arch_list()))


def cuda_devices(torch: Any) -> None:
    kind = "rocm" if torch.version.hip else "cuda"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        available = torch.cuda.is_available()
        count = torch.cuda.device_count() if available else 0
    say(available=available, count=count)
    for warning in caught:
        say(complaint=str(warning.message))
    for index in range(count):
        say(stage=f"reading device {index}")
        found = torch.cuda.get_device_properties(index)
        say(
            device={
                "kind": kind,
                "index": index,
                "name": found.name,
                "memory": found.total_memory,
                "capability": f"{found.major}.{found.minor}",
                "processors": found.multi_processor_count,
            }
        )


def other_devices(torch: Any) -> None:
    if torch.backends.mps.is_available():
        say(device={"kind": "mps", "index": 0, "name": "Apple GPU", "memory": None, "capability": None, "processors": None})
    xpu = getattr(torch, "xpu", None)
    if xpu is not None and xpu.is_available():
        for index in range(xpu.device_count()):
            found = xpu.get_device_properties(index)
            say(
                device={
                    "kind": "xpu",
                    "index": index,
                    "name": found.name,
                    "memory": found.total_memory,
                    "capability": None,
                    "processors": None,
                }
            )


def main() -> None:
    no_core_file()
    if len(sys.argv) > 1:
        sys.path[:] = json.loads(sys.argv[1])  # the kernel's own: it must be the same torch
    say(stage="importing torch")
    import torch

    if torch.version.cuda:  # a CPU build never loads the driver: a broken one does not concern it
        say(stage="loading the driver")
        driver()
    build(torch)
    say(stage="counting devices")
    if torch.version.cuda or torch.version.hip:
        cuda_devices(torch)
    say(stage="looking for other devices")
    other_devices(torch)
    say(stage="done")


if __name__ == "__main__":
    main()
