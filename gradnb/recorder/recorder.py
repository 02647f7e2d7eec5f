"""Runs beside the user's code and notes what happens: operations, training events, gradients.

Nothing is judged here. Whatever fails in here is kept as a note and never reaches the user's code.
"""

from __future__ import annotations

import sys
import weakref
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import CodeType
from typing import Any, Iterator

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from .census import Census
from .frames import Frames, Site, user_frame
from .gradients import Gradients
from .log import Log
from .mode import RecordingMode
from .operations import Operation
from .patches import Patches, install
from .zeros import ZeroScan

MAX_OPS = 250_000  # a cell that never steps must not fill memory: about 150 MB of log at the most


@dataclass(slots=True)
class RawEvent:
    kind: str
    sites: tuple[Site, ...]
    time: int
    ok: bool = True
    error: str | None = None
    losses: tuple[int, ...] = ()
    inputs: tuple[int, ...] = ()
    optimizer: int | None = None
    full: bool = True
    shape: tuple[int, ...] | None = None
    uncleared: tuple[int, ...] = ()
    states: dict[int, tuple[str, float | None]] = field(default_factory=dict)  # parameter number -> (gradient, norm)
    number: float | None = None  # the loss, read after the run
    has_grad_fn: bool = True
    frozen: tuple[int, ...] = ()  # the optimizer's parameters that did not require grad
    skipped: bool = False


@dataclass(slots=True)
class RawOptimizer:
    reference: weakref.ref
    kind: str
    sites: tuple[Site, ...]
    time: int
    groups: list[list[int]] = field(default_factory=list)
    steps: int = 0
    key: int = 0
    empty_groups: tuple[int, ...] = ()
    failed: str | None = None


class Recorder:
    """Records one block of code. ``start()``, run it, ``stop(error)``; then ``build.build(recorder)``."""

    def __init__(self, *, steps: int, namespace: dict | None, cells: dict[str, int], runners: set[CodeType] | None = None):
        self.steps = steps
        self.cells = cells
        self.namespace = namespace
        self.frames = Frames(runners)
        self.log = Log(self.frames, MAX_OPS)
        self.mode = RecordingMode(self.log, self)
        self.census = Census(self)
        self.gradients = Gradients(self)
        self.events: list[RawEvent] = []
        self.optimizers: list[RawOptimizer] = []
        self.scans: list[ZeroScan] = []
        self.notes: list[str] = []
        self.problem: str | None = None
        self.recording = False  # operations are written
        self.watching = False  # the hooks count
        self.gradient_read = False
        self.hand_set: set[int] = set()  # parameters whose .grad was assigned by hand
        self.freezes: list[tuple[int, bool, tuple[Site, ...]]] = []
        self.counted_steps = 0
        self.error: BaseException | None = None
        self._patches: Patches | None = None
        self._hooks: list[Any] = []
        self._in_mode = False
        self._module_ids: dict[int, tuple[weakref.ref, int]] = {}
        self.modules: list[weakref.ref] = []
        self._scanned: set[tuple] = set()
        self.wanted_scan = False

    # -- life ----------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        with self.guard():
            self.census.take(first=True)
        self._patches = install(self)
        self._hooks = [register_optimizer_step_pre_hook(self._before_step), register_optimizer_step_post_hook(self._after_step)]
        self.recording = self.watching = True
        self.mode.__enter__()
        self._in_mode = True

    def stop(self, error: BaseException | None = None) -> None:
        """Put everything back. Safe to call twice, and whatever state the run ended in."""
        self.watching = False
        self.error = error
        self.recording = False
        self.mode.active = False
        self._leave_mode(final=True)
        for hook in self._hooks:
            hook.remove()
        self._hooks = []
        if self._patches is not None:
            self._patches.restore()
            self._patches = None
        with self.guard():
            self.census.dirty = True  # what the code did to its objects outside any torch call shows only now
            self.census.take()
        with self.guard():
            self.gradients.finish()

    def stop_recording(self) -> None:
        """The first steps are recorded whole; from here on only steps are counted."""
        if not self.recording:
            return
        self.recording = False
        self.mode.active = False
        if self.log.full:
            self.notes.append(f"recording stopped after {MAX_OPS} operations; what came later was only counted")
        with self.guard():
            self.census.take()
        self._leave_mode(final=False)

    def _leave_mode(self, *, final: bool) -> None:
        if not self._in_mode:
            return
        top = torch._C._len_torch_function_stack() - 1
        if top >= 0 and torch._C._get_function_stack_at(top) is self.mode:
            self.mode.__exit__(None, None, None)
            self._in_mode = False
        elif final:  # the user's own mode was left open on top of ours: take ours out from under it
            above = []
            while torch._C._len_torch_function_stack():
                mode = torch._C._pop_torch_function_stack()
                if mode is self.mode:
                    break
                above.append(mode)
            for mode in reversed(above):
                torch._C._push_on_torch_function_stack(mode)
            self._in_mode = False

    @contextmanager
    def guard(self) -> Iterator[None]:
        """What goes wrong inside gradnb is kept as a note; torch calls in here are not recorded."""
        active, self.mode.active = self.mode.active, False
        try:
            with torch._C.DisableTorchFunction():
                yield
        except Exception as error:
            if self.problem is None:
                where = error.__traceback__
                while where is not None and where.tb_next is not None:
                    where = where.tb_next
                at = f" at {where.tb_frame.f_code.co_name}:{where.tb_lineno}" if where else ""
                self.problem = f"{type(error).__name__}: {error}{at}"
        finally:
            self.mode.active = active

    # -- called by the mode and the patches ------------------------------------------------------------------------------

    def module_index(self, module: torch.nn.Module) -> int:
        entry = self._module_ids.get(id(module))
        if entry is not None and entry[0]() is module:
            return entry[1]
        index = len(self.modules)
        self.modules.append(weakref.ref(module))
        self._module_ids[id(module)] = (self.modules[-1], index)
        if self.watching and len(self.mode.modules) == 1:
            with self.guard():
                self.census.called_root(module, user_frame(self.frames, 3))
        return index

    def was_called(self, module: torch.nn.Module) -> bool:
        entry = self._module_ids.get(id(module))
        return entry is not None and entry[0]() is module

    def met_leaf(self, tensor: torch.Tensor, value: int) -> None:
        self.census.leaf(tensor, value)

    def new_leaf(self, operation: Operation, data: torch.Tensor, out: torch.Tensor) -> None:
        """``nn.Parameter(data)``: an operation only where data came out of other operations."""
        known = self.log.known(data)
        if known < 0 or self.log.values[known].op < 0:
            return
        sites, via = self.log.sites(1)
        if not sites:
            return
        value = self.log.add(out, len(self.log.ops), self.log.values[known].group)
        self.log.mark(value, leaf=True)
        self.mode._write(operation, (known,), (value,), sites, via)
        self.census.leaf(out, value)

    def flag_changed(self, tensor: torch.Tensor, trainable: bool, sites: tuple[Site, ...]) -> None:
        self.freezes.append((id(tensor), trainable, sites))
        self.census.dirty = True

    def gradient_set(self, tensor: torch.Tensor, given: bool, where: tuple) -> None:
        if given and where[0] and where[1] is None:
            self.hand_set.add(self.census.number(tensor))

    def decorated(self, depth: int) -> CodeType | None:
        """The function that ``@torch.no_grad()`` stands on, where a decorator switched gradients off."""
        frame: Any = sys._getframe(depth)
        for _ in range(6):
            if frame is None:
                return None
            if frame.f_code.co_name == "decorate_context" and frame.f_code.co_filename.endswith("_contextlib.py"):
                function = frame.f_locals.get("func")
                return getattr(function, "__code__", None)
            if self.frames.codes.get(frame.f_code) == 1:
                return None
            frame = frame.f_back
        return None

    @staticmethod
    def function_name(cls: type) -> str:
        return f"{cls.__module__}.{cls.__qualname__}" if cls.__module__.startswith("torch.") else cls.__qualname__

    # -- backward --------------------------------------------------------------------------------------------------------

    def backward(self, func: Any, args: tuple, kwargs: dict, sites: tuple[Site, ...]) -> Any:
        losses = args[0] if args else kwargs.get("tensors")
        several = [losses] if isinstance(losses, torch.Tensor) else [t for t in (losses or ()) if isinstance(t, torch.Tensor)]
        event = RawEvent("backward", sites, len(self.log.ops))
        scan = None
        with self.guard():
            self._before_backward(event, several)
            scan = self._scan(several, sites)
        try:
            return func(*args, **kwargs)
        except BaseException as error:
            event.ok, event.error = False, f"{type(error).__name__}: {error}"[:600]
            raise
        finally:
            with self.guard():
                if scan is not None:
                    scan.finish()
                self.gradients.pending = True
                self.gradients.note_none(event)

    def _before_backward(self, event: RawEvent, losses: list[torch.Tensor]) -> None:
        self.census.take()
        self.gradients.fingerprint()
        values = []
        for loss in losses:
            index = self.log.known(loss)
            values.append(index if index >= 0 else self.mode._fresh(loss, 0))
        event.losses = tuple(values)
        if losses:
            event.shape = tuple(losses[0].shape)
            event.has_grad_fn = losses[0].grad_fn is not None
            self.gradients.keep_loss(event, losses[0])
        self.events.append(event)

    def _scan(self, losses: list[torch.Tensor], sites: tuple[Site, ...]) -> ZeroScan | None:
        key = sites[:1]
        first = key not in self._scanned
        if not (first or self.wanted_scan) or len(self.scans) > 12:
            return None
        self._scanned.add(key)
        scan = ZeroScan(self, len(self.events) - 1)
        if not scan.attach(losses, 400 if not self.wanted_scan else 20_000):
            return None
        self.wanted_scan = False
        self.scans.append(scan)
        return scan

    def autograd_grad(self, operation: Operation, func: Any, args: tuple, kwargs: dict, where: tuple) -> Any:
        sites, via = where
        if torch._C._are_functorch_transforms_active() or not sites:
            return func(*args, **kwargs)
        outputs = args[0] if args else kwargs.get("outputs")
        wanted = args[1] if len(args) > 1 else kwargs.get("inputs")
        losses = [outputs] if isinstance(outputs, torch.Tensor) else [t for t in (outputs or ()) if isinstance(t, torch.Tensor)]
        targets = [wanted] if isinstance(wanted, torch.Tensor) else [t for t in (wanted or ()) if isinstance(t, torch.Tensor)]
        event = RawEvent("grad", sites, len(self.log.ops))
        with self.guard():
            self._before_backward(event, losses)
            event.inputs = tuple(self.log.value(t) for t in targets)
        try:
            out = func(*args, **kwargs)
        except BaseException as error:
            event.ok, event.error = False, f"{type(error).__name__}: {error}"[:600]
            raise
        with self.guard():
            made = tuple(self.log.add(t, len(self.log.ops), -1) for t in out if isinstance(t, torch.Tensor))
            self.mode._write(Operation("autograd.grad", "grad", False, False), event.losses + event.inputs, made, sites, via)
        return out

    # -- optimizers ------------------------------------------------------------------------------------------------------

    def before_optimizer(self, optimizer: Any, params: Any) -> RawOptimizer | None:
        raw = None
        with self.guard():
            raw = RawOptimizer(weakref.ref(optimizer), type(optimizer).__name__, self.log.sites(1)[0], len(self.log.ops), key=id(optimizer))
            raw.failed = "building"
            self.optimizers.append(raw)
        return raw

    def after_optimizer(self, optimizer: Any, raw: RawOptimizer) -> None:
        with self.guard():
            raw.failed = None
            self.census.optimizer(raw, optimizer)
            self.census.dirty = True

    def find_optimizer(self, optimizer: Any) -> int:
        for index in range(len(self.optimizers) - 1, -1, -1):
            if self.optimizers[index].reference() is optimizer:
                return index
        raw = RawOptimizer(weakref.ref(optimizer), type(optimizer).__name__, (), -1, key=id(optimizer))
        self.optimizers.append(raw)
        self.census.optimizer(raw, optimizer)
        return len(self.optimizers) - 1

    def _before_step(self, optimizer: Any, args: tuple, kwargs: dict) -> Any:
        if not self.watching:
            return None
        if not self.recording:
            self.counted_steps += 1
            with self.guard():
                self.gradients.late(optimizer, self.counted_steps)
            return None
        with self.guard():
            index = self.find_optimizer(optimizer)
            self.census.optimizer(self.optimizers[index], optimizer)
            self.census.take()
            event = RawEvent("step", self.log.sites(1)[0], len(self.log.ops), optimizer=index)
            self.optimizers[index].steps += 1
            self.events.append(event)
            self.gradients.before_step(event, self.optimizers[index])
        closure = kwargs.get("closure") if kwargs else None
        position = next((i for i, a in enumerate(args) if i and callable(a)), None)
        self.mode.active = False
        if closure is None and position is not None:
            return (*args[:position], self._open(args[position]), *args[position + 1 :]), kwargs
        if closure is not None:
            return args, {**kwargs, "closure": self._open(closure)}
        return None

    def _open(self, closure: Any) -> Any:
        """The closure of ``step(closure)`` is the user's training code: it is recorded although it runs inside step."""

        def call(*args: Any, **kwargs: Any) -> Any:
            active, self.mode.active = self.mode.active, self.recording
            try:
                return closure(*args, **kwargs)
            finally:
                self.mode.active = active

        return call

    def _after_step(self, optimizer: Any, args: tuple, kwargs: dict) -> None:
        if not self.recording:
            return
        self.mode.active = True
        with self.guard():
            self.gradients.after_step(self.optimizers[self.find_optimizer(optimizer)])
            self.log.sweep()
        if self._enough():
            self.stop_recording()

    def _enough(self) -> bool:
        """Every optimizer that still lives has made its steps, or the sum is far past it (a new optimizer an iteration)."""
        taken = [o.steps for o in self.optimizers if o.steps]
        living = [o.steps for o in self.optimizers if o.reference() is not None and o.groups]
        return sum(taken) >= 8 * self.steps or (bool(living) and min(living) >= self.steps)

    def before_call(self, kind: str, owner: Any, args: tuple) -> RawEvent | None:
        if not self.recording:
            return None
        self.mode.active = True  # a step that raised may have left it off
        event = None
        with self.guard():
            optimizer = None
            if kind == "zero_grad":
                if isinstance(owner, torch.optim.Optimizer):
                    optimizer = self.find_optimizer(owner)
                self.gradients.cleared(owner)
            elif kind == "unscale" and args and isinstance(args[0], torch.optim.Optimizer):
                optimizer = self.find_optimizer(args[0])
            event = RawEvent(kind, self.log.sites(1)[0], len(self.log.ops), optimizer=optimizer)
            if event.sites:
                self.events.append(event)
        return event

    def after_call(self, event: RawEvent, ok: bool, error: BaseException | None) -> None:
        event.ok = ok
        if error is not None:
            event.error = f"{type(error).__name__}: {error}"[:600]
