"""The random states that belong to the process: Python, NumPy, torch on the CPU and on every device that is in use."""

from __future__ import annotations

import random
import sys
from collections.abc import Mapping
from typing import Any

import torch

from .encode_generators import set_state, state, tensor_of, tensor_text
from .errors import DamagedError


def capture() -> dict[str, Any]:
    """All of them as JSON. Draws nothing, imports nothing, and starts no device that is not in use."""
    tree: dict[str, Any] = {"python": state(_python()), "torch": tensor_text(torch.get_rng_state())}
    if sys.modules.get("numpy.random") is not None:
        tree["numpy"] = state(_numpy())
    if torch.cuda.is_initialized():
        tree["cuda"] = [tensor_text(torch.cuda.get_rng_state(i)) for i in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        tree["mps"] = tensor_text(torch.mps.get_rng_state())
    return tree


def restore(tree: Mapping[str, Any]) -> list[str]:
    """Set all that ``capture`` returned; gives notes on what this machine has not. DamagedError where it is no tree of ``capture``."""
    notes: list[str] = []
    try:
        set_state(_python(), tree["python"])
        if "numpy" in tree:
            set_state(_numpy(), tree["numpy"])
        torch.set_rng_state(tensor_of(tree["torch"]))
        devices = [tensor_of(text) for text in tree.get("cuda", [])]
        present = torch.cuda.device_count() if devices else 0
        for i, device in enumerate(devices[:present]):
            torch.cuda.set_rng_state(device, i)  # waits for the first use of CUDA by itself
        if present < len(devices):
            there = f"random states of {len(devices)} CUDA devices were saved, {present} devices are here"
            notes.append(f"{there}: random numbers on the others begin anew")
        if "mps" in tree:
            if torch.backends.mps.is_available():
                torch.mps.set_rng_state(tensor_of(tree["mps"]))
            else:
                notes.append("the random state of MPS was saved, and MPS is not here")
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        if isinstance(error, DamagedError):
            raise
        raise DamagedError(f"The checkpoint's random states cannot be read ({type(error).__name__}: {error}).") from error
    return notes


def _python() -> Any:
    """The generator behind the functions of ``random``."""
    return random._inst  # type: ignore[attr-defined]


def _numpy() -> Any:
    """The generator behind the functions of ``numpy.random``."""
    import numpy as np

    return np.random.mtrand._rand
