"""What a GradScaler is doing, seen from outside: its scale, whether it unscaled an optimizer's gradients, the steps it left out."""

from __future__ import annotations

import functools
import gc
import sys
from types import FrameType
from typing import Any

import torch
from torch import Tensor
from torch.amp.grad_scaler import GradScaler, OptState

_STEPS = {id(GradScaler.step.__code__), id(GradScaler._maybe_opt_step.__code__)}  # the hash of a code object reads all of it
_NEAR = 14  # frames between a hook of ours and GradScaler.step, wrappers of torch's included


class Scaling:
    """Reads a scaler; never calls or changes it. Without a scaler everything is unscaled."""

    def __init__(self, scaler: Any = None):
        self.scaler = scaler
        self._period = self._states()
        self._stepped: set[int] = set()

    @property
    def on(self) -> bool:
        return self.scaler is not None and self.scaler.is_enabled()

    def _states(self) -> Any:
        return self.scaler._per_optimizer_states if self.on else None  # a disabled one has none

    def look(self, frame: FrameType | None) -> None:
        """Take up the scaler that is calling ``optimizer.step`` now, where none is known."""
        if self.scaler is None:
            for _ in range(_NEAR):
                if frame is None:
                    return
                if id(frame.f_code) in _STEPS:
                    self.scaler = frame.f_locals.get("self")
                    self._period = self._states()
                    return
                frame = frame.f_back

    def scale(self) -> Tensor | None:
        """The scale as a 0-dim tensor that lives where the scaler keeps it; None while there is none."""
        found = getattr(self.scaler, "_scale", None) if self.on else None
        return found.clone() if found is not None else None  # update() changes it in place

    def unscaled(self, optimizer: torch.optim.Optimizer) -> bool:
        """Whether the scaler has unscaled this optimizer's gradients since its last update()."""
        if not self.on:
            return False
        state = self.scaler._per_optimizer_states.get(id(optimizer))
        return state is not None and state["stage"] is OptState.UNSCALED

    def stepped(self, optimizer: torch.optim.Optimizer) -> None:
        """The optimizer's step really ran."""
        self._stepped.add(id(optimizer))

    def skipped(self, known: set[int]) -> int:
        """How many steps of the known optimizers (of any, when none is known) the last update() closed without their having run."""
        if not self.on or self.scaler._per_optimizer_states is self._period:
            return 0
        closed, self._period = self._period, self.scaler._per_optimizer_states
        done = [key for key, state in closed.items() if state["stage"] is OptState.STEPPED and (not known or key in known)]
        missed = [key for key in done if key not in self._stepped]
        self._stepped.clear()
        return len(missed)


@functools.cache
def writes_of_unscaling() -> int:
    """By how much unscaling raises a gradient's version counter; torch releases differ."""
    probe = torch.ones(1)
    torch._amp_foreach_non_finite_check_and_unscale_([probe], torch.zeros(1), torch.ones(1))
    return probe._version


def in_use(near: FrameType | None) -> GradScaler | None:
    """The enabled scaler among the global variables where ``watch`` was called, when there is one only.

    Local ones are left alone: to read a frame's locals makes it hold on to them.
    """
    names = dict(near.f_globals) if near is not None else {}
    found = [value for value in names.values() if issubclass(type(value), GradScaler) and value.is_enabled()]
    return found[-1] if len({id(one) for one in found}) == 1 else None


def any_in_use() -> bool:
    """Whether the process holds a scaler that has scaled something: a look at everything, hence done at most once."""
    if "torch.amp.grad_scaler" not in sys.modules:
        return False
    return any(issubclass(type(one), GradScaler) and one._enabled and one._scale is not None for one in gc.get_objects())
