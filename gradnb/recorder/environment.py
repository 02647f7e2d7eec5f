"""Versions and device, as a report states them."""

from __future__ import annotations

import platform
import sys

import torch


def environment() -> dict[str, str | None]:
    ipython = sys.modules.get("IPython")
    from .. import __version__

    cuda = torch.cuda.is_initialized()  # asking is_available() could start the driver in the user's process
    return {
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "ipython": getattr(ipython, "__version__", None),
        "gradnb": __version__,
        "device": torch.cuda.get_device_name() if cuda else "cpu",
    }
