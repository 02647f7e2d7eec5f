"""How the user's function is called again: the same random numbers each time, in double precision, nothing left behind."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

from ..check import unrecorded


class RandomState:
    """Every random stream that a function of torch's, Python's or NumPy's can draw from."""

    def __init__(self, devices: set[torch.device], generators: list[torch.Generator]):
        self._cpu = torch.get_rng_state()
        self._cuda = {d: torch.cuda.get_rng_state(d) for d in devices if d.type == "cuda"}
        self._python = random.getstate()
        numpy = sys.modules.get("numpy")
        self._numpy = numpy.random.get_state() if numpy is not None else None
        self._generators = [(g, g.get_state()) for g in generators]

    def rewind(self) -> None:
        """Put every stream back to where it was."""
        torch.set_rng_state(self._cpu)
        for device, state in self._cuda.items():
            torch.cuda.set_rng_state(state, device)
        random.setstate(self._python)
        if self._numpy is not None:
            sys.modules["numpy"].random.set_state(self._numpy)
        for generator, state in self._generators:
            generator.set_state(state)


@contextmanager
def conditions(devices: set[torch.device], dtype: torch.dtype, generators: list[torch.Generator]) -> Iterator[RandomState]:
    """Gradients on, autocast off, ``dtype`` as the default, no recording; all as it was afterwards, whatever happens."""
    with ExitStack() as stack:
        stack.enter_context(unrecorded())
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        for kind in sorted({"cpu", *(device.type for device in devices)}):
            if torch.amp.is_autocast_available(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        state = RandomState(devices, generators)
        stack.callback(state.rewind)
        default = torch.get_default_dtype()
        stack.callback(torch.set_default_dtype, default)
        # A function that makes a tensor of its own (torch.zeros(n)) makes it in the default precision.
        torch.set_default_dtype(dtype)
        yield state


def generators_in(value: Any) -> list[torch.Generator]:
    """The generators among the arguments."""
    if isinstance(value, torch.Generator):
        return [value]
    if isinstance(value, dict):
        return [g for part in value.values() for g in generators_in(part)]
    return [g for part in value for g in generators_in(part)] if isinstance(value, list | tuple) else []
