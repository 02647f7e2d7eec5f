"""Optimizers and the calls around them: construction, steps with and without closure, zero_grad, GradScaler."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

import torch

from .events import RawEvent, RawOptimizer

if TYPE_CHECKING:
    from .recorder import Recorder

ROUNDS = 8  # with a new optimizer an iteration, the sum of steps ends the full recording at this many times ``steps``


class Steps:
    """What happens at and around ``optimizer.step()``."""

    def __init__(self, recorder: "Recorder"):
        self.recorder = recorder
        self.optimizers: list[RawOptimizer] = []
        self.counted = 0
        self._open_step: tuple[RawEvent, RawOptimizer] | None = None  # a step that is running its closure

    def before_optimizer(self, optimizer: Any, params: Any) -> RawOptimizer | None:
        raw = None
        with self.recorder.guard():
            raw = RawOptimizer(
                weakref.ref(optimizer),
                type(optimizer).__name__,
                self.recorder.log.sites(1)[0],
                len(self.recorder.log.ops),
                key=id(optimizer),
            )
            raw.failed = "building"
            self.optimizers.append(raw)
        return raw

    def after_optimizer(self, optimizer: Any, raw: RawOptimizer) -> None:
        with self.recorder.guard():
            raw.failed = None
            self.recorder.census.optimizer(raw, optimizer)
            self.recorder.census.dirty = True

    def find(self, optimizer: Any) -> int:
        for index in range(len(self.optimizers) - 1, -1, -1):
            if self.optimizers[index].reference() is optimizer:
                return index
        raw = RawOptimizer(weakref.ref(optimizer), type(optimizer).__name__, (), -1, key=id(optimizer))
        self.optimizers.append(raw)
        self.recorder.census.optimizer(raw, optimizer)
        return len(self.optimizers) - 1

    def before_step(self, optimizer: Any, args: tuple, kwargs: dict) -> Any:
        if not self.recorder.watching:
            return None
        if not self.recorder.recording:
            self.counted += 1
            with self.recorder.guard():
                self.optimizers[self.find(optimizer)].late_steps += 1
                self.recorder.gradients.late(optimizer, self.counted)
            return None
        closure, position = None, None
        with self.recorder.guard():
            index = self.find(optimizer)
            self.recorder.census.optimizer(self.optimizers[index], optimizer)
            self.recorder.census.take()
            event = RawEvent("step", self.recorder.log.sites(1)[0], len(self.recorder.log.ops), optimizer=index)
            self.optimizers[index].steps += 1
            closure = kwargs.get("closure") if kwargs else None
            position = next((i for i, a in enumerate(args) if i and callable(a)), None)
            if closure is None and position is None:
                self.recorder.events.append(event)
                self.recorder.gradients.before_step(event, self.optimizers[index])
            else:  # the gradients come out of the closure, so the step comes after them
                self._open_step = (event, self.optimizers[index])
        self.recorder.mode.active = False
        self.recorder.step_aside()
        if closure is None and position is not None:
            return (*args[:position], self._open(args[position]), *args[position + 1 :]), kwargs
        if closure is not None:
            return args, {**kwargs, "closure": self._open(closure)}
        return None

    def _open(self, closure: Any) -> Any:
        """The closure of ``step(closure)`` is the user's training code: it is recorded although it runs inside step."""

        def call(*args: Any, **kwargs: Any) -> Any:
            active, self.recorder.mode.active = self.recorder.mode.active, self.recorder.recording
            self.recorder.step_back()
            try:
                return closure(*args, **kwargs)
            finally:
                with self.recorder.guard():
                    if self._open_step is not None:
                        self.recorder.gradients.before_step(*self._open_step)
                self.recorder.step_aside()
                self.recorder.mode.active = active

        return call

    def after_step(self, optimizer: Any, args: tuple, kwargs: dict) -> None:
        if not self.recorder.recording:
            return
        self.recorder.mode.active = True
        self.recorder.step_back()
        with self.recorder.guard():
            if self._open_step is not None:
                self._open_step[0].time = len(self.recorder.log.ops)
                self.recorder.events.append(self._open_step[0])
                self._open_step = None
            self.recorder.gradients.after_step(self.optimizers[self.find(optimizer)])
            self.recorder.log.sweep()
        if self._enough():
            self.recorder.stop_recording()

    def _enough(self) -> bool:
        """Every optimizer that still lives has made its steps, or the sum is far past it (a new optimizer an iteration)."""
        taken = [o.steps for o in self.optimizers if o.steps]
        living = [o.steps for o in self.optimizers if o.reference() is not None and o.groups]
        return sum(taken) >= ROUNDS * self.recorder.steps or (bool(living) and min(living) >= self.recorder.steps)

    def before_call(self, kind: str, owner: Any, args: tuple) -> RawEvent | None:
        if not self.recorder.recording:
            return None
        self.recorder.mode.active = True  # a step that raised may have left it off
        self.recorder.step_back()
        event = None
        with self.recorder.guard():
            optimizer = None
            if kind == "zero_grad":
                if isinstance(owner, torch.optim.Optimizer):
                    optimizer = self.find(owner)
                self.recorder.gradients.cleared(owner)
            elif kind == "unscale" and args and isinstance(args[0], torch.optim.Optimizer):
                optimizer = self.find(args[0])
            event = RawEvent(kind, self.recorder.log.sites(1)[0], len(self.recorder.log.ops), optimizer=optimizer)
            if event.sites:
                self.recorder.events.append(event)
        return event

    def clip(self, sites: tuple) -> None:
        """Gradient clipping has no hook: its own torch calls give it away, several for one call."""
        last = self.recorder.events[-1] if self.recorder.events else None
        if sites and not (last is not None and last.kind == "clip" and last.sites == sites):
            self.recorder.events.append(RawEvent("clip", sites, len(self.recorder.log.ops)))

    def after_call(self, event: RawEvent, ok: bool, error: BaseException | None) -> None:
        event.ok = ok
        if error is not None:
            event.error = f"{type(error).__name__}: {error}"[:600]
