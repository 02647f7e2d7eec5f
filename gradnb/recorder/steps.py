"""Optimizers and the calls around them: construction, steps with and without closure, zero_grad, GradScaler."""

from __future__ import annotations

import sys
import weakref
from typing import TYPE_CHECKING, Any

import torch

from .events import RawEvent, RawOptimizer
from .frames import CLOSURE
from .mode import autocast
from .training_mode import Modes

if TYPE_CHECKING:
    from .recorder import Recorder

LATE = 5_000  # events, above which changes of the mode are not noted any more
ROUNDS = 8  # with a new optimizer an iteration, the sum of steps ends the full recording at this many times ``steps``


class Steps:
    """What happens at and around ``optimizer.step()``."""

    def __init__(self, recorder: "Recorder"):
        self.recorder = recorder
        self.optimizers: list[RawOptimizer] = []
        self.counted = 0
        self._open_step: tuple[RawEvent, RawOptimizer] | None = None  # a step that is running its closure
        self.modes = Modes(recorder)
        self._mode_changed = False
        self.scalers: list[weakref.ref] = []
        self._open_scaler: RawEvent | None = None  # a GradScaler.step that is running

    def before_optimizer(self, optimizer: Any, params: Any) -> RawOptimizer | None:
        raw = None
        if self.counted and sum(o.steps for o in self.optimizers) < ROUNDS * self.recorder.steps:
            self.recorder.resume_recording()
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
        if not self.recorder.watching or not self.recorder.here():
            return None
        if not self.recorder.recording:
            self.counted += 1
            with self.recorder.guard():
                self._late_mode(optimizer)
                self.optimizers[self.find(optimizer)].late_steps += 1
                self.recorder.gradients.late(optimizer, self.counted)
                self.recorder.nonfinite.late(self.find(optimizer))
            return None
        closure, position = None, None
        with self.recorder.guard():
            index = self.find(optimizer)
            self.recorder.census.optimizer(self.optimizers[index], optimizer)
            self.recorder.census.take()
            event = RawEvent("step", self.recorder.log.sites(1)[0], len(self.recorder.log.ops), optimizer=index)
            event.inner = self._open_scaler is not None
            event.modes = self.modes.now()
            event.autocast = autocast()
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

    def _late_mode(self, optimizer: Any) -> None:
        """After the fully recorded steps: the mode is looked at again once ``train()`` or ``eval()`` was called."""
        if self._mode_changed:
            self._mode_changed = False
            event = RawEvent("late_step", self.recorder.log.sites(2)[0], len(self.recorder.log.ops), optimizer=self.find(optimizer))
            event.modes, event.full = self.modes.now(), False
            self.recorder.events.append(event)

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

        self.recorder.frames.mark(call.__code__, CLOSURE)
        return call

    def after_step(self, optimizer: Any, args: tuple, kwargs: dict) -> None:
        if not self.recorder.recording or not self.recorder.here():
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
        enough = sum(taken) >= ROUNDS * self.recorder.steps or (bool(living) and min(living) >= self.recorder.steps)
        # what grows from step to step may be about to overflow: look on for a while
        return enough and not (sum(taken) < ROUNDS * self.recorder.steps and self.recorder.nonfinite.growing())

    def before_call(self, kind: str, owner: Any, args: tuple) -> RawEvent | None:
        if not self.recorder.recording:
            if kind == "mode" and len(self.recorder.events) < LATE:
                with self.recorder.guard():
                    self._mode_changed = True
                    self._mode(RawEvent(kind, self.recorder.log.sites(1)[0], len(self.recorder.log.ops), full=False), owner, args)
            return None
        self.recorder.mode.active = True  # a step that raised may have left it off
        self.recorder.step_back()
        event = None
        with self.recorder.guard():
            event = RawEvent(kind, self.recorder.log.sites(1)[0], len(self.recorder.log.ops))
            if kind == "mode":
                self._mode(event, owner, args)
                return None
            if kind == "zero_grad":
                if isinstance(owner, torch.optim.Optimizer):
                    event.optimizer = self.find(owner)
                else:
                    event.numbers = tuple(self.recorder.census.number(p) for p in owner.parameters())
                self.recorder.gradients.cleared(owner)
            else:
                event.scaler, event.enabled = self._scaler(owner), owner.is_enabled()
                event.inner = self._open_scaler is not None
                if args and isinstance(args[0], torch.optim.Optimizer):
                    event.optimizer = self.find(args[0])
            if event.sites and not (kind == "get_scale" and event.inner):
                self.recorder.events.append(event)
            if kind == "scaler.step":
                self._open_scaler = event
        return event

    def _mode(self, event: RawEvent, module: torch.nn.Module, args: tuple) -> None:
        """``train()`` or ``eval()`` of a module; the calls that it makes on its children are part of it."""
        event.training = bool(args[0]) if args else True
        last = self.recorder.events[-1] if self.recorder.events else None
        if not event.sites or module.training == event.training or last is not None and last.kind == "mode" and last.sites == event.sites:
            return
        event.owner = weakref.ref(module)
        self.recorder.events.append(event)

    def _scaler(self, scaler: Any) -> int:
        for index in range(len(self.scalers) - 1, -1, -1):
            if self.scalers[index]() is scaler:
                return index
        self.scalers.append(weakref.ref(scaler))
        return len(self.scalers) - 1

    def clip(self, sites: tuple) -> None:
        """Gradient clipping has no hook: its own torch calls give it away, several for one call."""
        last = self.recorder.events[-1] if self.recorder.events else None
        if not sites or last is not None and last.kind == "clip" and last.sites == sites:
            return
        event = RawEvent("clip", sites, len(self.recorder.log.ops))
        self.recorder.events.append(event)
        with self.recorder.guard():
            grads = _clipped()
            if grads is not None:
                mine = {id(g) for g in grads}
                event.numbers = tuple(
                    n for n, t in self.recorder.census.living() if t.is_leaf and t.grad is not None and id(t.grad) in mine
                )

    def gradient_cleared(self, tensor: torch.Tensor, sites: tuple) -> None:
        """``p.grad = None``, once for all parameters that one line clears."""
        number = self.recorder.census.number(tensor)
        last = self.recorder.events[-1] if self.recorder.events else None
        if last is not None and last.kind == "zero_grad" and last.sites == sites and last.optimizer is None:
            last.numbers = (*last.numbers, number)
        else:
            self.recorder.events.append(RawEvent("zero_grad", sites, len(self.recorder.log.ops), numbers=(number,)))

    def after_call(self, event: RawEvent, ok: bool, error: BaseException | None, out: Any) -> None:
        event.ok = ok
        if error is not None:
            event.error = f"{type(error).__name__}: {error}"[:600]
        with self.recorder.guard():
            if event.kind == "scale" and ok:
                several = out if isinstance(out, (list, tuple)) else [out]
                event.losses = tuple(self.recorder.log.known(t) for t in several if isinstance(t, torch.Tensor))
            elif event.kind == "scaler.step":
                self._open_scaler = None
                self._after_scaler_step(event, ok, error)

    def _after_scaler_step(self, event: RawEvent, ok: bool, error: BaseException | None) -> None:
        if event.optimizer is None:
            return
        at = self.recorder.events.index(event) if event in self.recorder.events else 0
        event.skipped = ok and not any(e.kind == "step" and e.optimizer == event.optimizer for e in self.recorder.events[at:])
        if isinstance(error, AssertionError):  # it found no gradient: what an optimizer step would have seen
            refused = RawEvent("step", event.sites, event.time, False, event.error, optimizer=event.optimizer, inner=True)
            self.recorder.events.append(refused)
            self.recorder.gradients.before_step(refused, self.optimizers[event.optimizer])


def _clipped() -> list | None:
    """The gradients that torch's own clipping is about to change, read from its frame."""
    frame: Any = sys._getframe(2)
    for _ in range(16):
        if frame is None:
            return None
        if frame.f_code.co_name in ("clip_grad_norm_", "clip_grad_value_", "clip_grads_with_norm_"):
            grads = frame.f_locals.get("grads")
            return list(grads) if isinstance(grads, (list, tuple)) else None
        frame = frame.f_back
    return None
