"""Runs beside the user's code and notes what happens: operations, training events, gradients.

Nothing is judged here. Whatever fails in here is kept as a note and never reaches the user's code.
"""

from __future__ import annotations

import sys
import weakref
from _thread import get_ident as _thread
from contextlib import contextmanager, nullcontext
from types import CodeType
from typing import Any, Callable, Iterator

import torch
from torch.utils._python_dispatch import _disable_current_modes

from .backward import Backward
from .census import Census
from .compiled import Compiled
from .events import RawEvent
from .frames import Frames, Site, user_frame
from .gradients import Gradients
from .log import Log
from .mode import RecordingMode
from .nonfinite import NonFiniteWatch
from .operations import Operation
from .patches import Patches, install
from .postmortem import RawAbsent, RawSpoiled, absent
from .steps import Steps

MAX_WRITES = 20_000
MAX_OPS = 250_000  # a cell that never steps must not fill memory: about 150 MB of log at the most


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
        self.nonfinite = NonFiniteWatch(self)
        self.backward = Backward(self)
        self.training = Steps(self)
        self.compiled = Compiled(self)
        self.thread = _thread()
        self.events: list[RawEvent] = []
        self.notes: list[str] = []
        self.problem: str | None = None
        self.recording = False  # operations are written
        self.watching = False  # the hooks count
        self.hand_set: set[int] = set()  # parameters whose .grad was assigned by hand
        self.freezes: list[tuple[int, bool, tuple[Site, ...]]] = []
        self.casts: dict[int, tuple[torch.dtype, tuple[Site, ...]]] = {}  # parameter -> dtype that Module.to gave it, and where
        self.writes: list[tuple[int, int, tuple[Site, ...]]] = []  # parameter, time and place where load_state_dict wrote it
        self._inits: list[tuple[weakref.ref | None, int, tuple[Site, ...]]] = []
        self.spoiled: list[RawSpoiled] = []
        self.absent: list[RawAbsent] = []
        self.autocast_at_error = ""
        self.error: BaseException | None = None
        self.observer: Callable[[type, tuple], None] | None = None  # is shown the arguments of each custom Function before it runs
        self._patches: Patches | None = None
        self._in_mode = False
        self._module_ids: dict[int, tuple[weakref.ref, int]] = {}
        self.modules: list[weakref.ref] = []

    # -- life ----------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        with self.guard():
            self.census.take(first=True)
        self._patches = install(self)
        self.compiled.install()
        self.recording = self.watching = True
        self.mode.__enter__()
        self._in_mode = True

    def stop(self, error: BaseException | None = None) -> None:
        """Put everything back and take the last look. Safe to call twice, and whatever state the run ended in."""
        self.error = error
        self.release()
        with self.guard():
            self.census.dirty = True  # what the code did to its objects outside any torch call shows only now
            self.census.take()
        with self.guard():
            self.gradients.finish()
            self.nonfinite.finish(error)
            self.training.modes.forget()
        with self.guard():
            self.absent = absent(self, error) if error is not None else []

    def release(self) -> None:
        """Put everything back, and look at nothing any more."""
        self.recording = self.watching = self.mode.active = False
        self._leave_mode(final=True)
        self.compiled.restore()
        if self._patches is not None:
            self._patches.restore()
            self._patches = None

    def suspend(self) -> None:
        """Put back what is patched while code runs that must not meet it."""
        if self._patches is not None:
            self._patches.suspend()

    def resume(self) -> None:
        if self._patches is not None:
            self._patches.resume()

    def here(self) -> bool:
        """Is this the thread that is recorded."""
        return _thread() == self.thread

    @contextmanager
    def paused(self) -> Iterator[None]:
        """What runs inside is not recorded."""
        before = self.recording, self.watching, self.mode.active
        self.recording = self.watching = self.mode.active = False
        try:
            yield
        finally:
            self.recording, self.watching, self.mode.active = before

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

    def resume_recording(self) -> None:
        """Another stage of training begins (a new optimizer): record its first steps whole, too."""
        if self.recording or not self.watching or self.log.full:
            return
        self.events.append(RawEvent("gap", (), len(self.log.ops)))
        self.recording = self.mode.active = True
        self.census.dirty = True
        self.gradients.forget_late()
        self.step_back()

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
            # the user's own modes (a FakeTensorMode, a counting one) must not see what gradnb computes
            quiet = _disable_current_modes() if torch._C._len_torch_dispatch_stack() else nullcontext()
            with torch._C.DisableTorchFunction(), quiet:
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
        return index

    def called_root(self, module: torch.nn.Module) -> None:
        """The user's code calls a module that is not called by another one."""
        if not self.was_called(module):
            self.module_index(module)
            with self.guard():
                self.census.called_root(module, user_frame(self.frames, 3))

    def step_aside(self) -> bool:
        """Take the mode off the stack while torch's own code runs, where it is on top: cheaper than looking away."""
        top = torch._C._len_torch_function_stack() - 1
        if self._in_mode and top >= 0 and torch._C._get_function_stack_at(top) is self.mode:
            torch._C._pop_torch_function_stack()
            self._in_mode = False
            return True
        return False

    def step_back(self) -> None:
        if not self._in_mode and self.recording:
            torch._C._push_on_torch_function_stack(self.mode)
            self._in_mode = True

    def was_called(self, module: torch.nn.Module) -> bool:
        entry = self._module_ids.get(id(module))
        return entry is not None and entry[0]() is module

    def met_leaf(self, tensor: torch.Tensor, value: int) -> None:
        self.census.leaf(tensor, value)

    def new_leaf(self, operation: Operation, data: torch.Tensor, out: torch.Tensor) -> None:
        """``nn.Parameter(data)``: an operation only where data came out of other operations."""
        known = self.log.known(data)
        if known < 0 or self.log.values[known][0] < 0:
            return
        sites, via = self.log.sites(1)
        if not sites:
            return
        value = self.log.add(out, len(self.log.ops), self.log.group(known))
        self.log.mark(value, leaf=True)
        self.mode._write(operation, (known,), (value,), sites, via)
        self.census.leaf(out, value)

    def flag_changed(self, tensor: torch.Tensor, trainable: bool, sites: tuple[Site, ...]) -> None:
        self.freezes.append((id(tensor), trainable, sites))
        self.census.dirty = True

    def gradient_set(self, tensor: torch.Tensor, given: bool, where: tuple) -> None:
        if where[0] and where[1] is None:
            with self.guard():
                if given:
                    self.hand_set.add(self.census.number(tensor))
                else:
                    self.training.gradient_cleared(tensor, where[0])

    def rewritten(self, tensor: Any, out: Any, sites: tuple[Site, ...], via: str) -> None:
        """``module.half()`` and ``module.to(dtype)`` cast a parameter, ``load_state_dict`` and ``torch.nn.init`` write it in place."""
        if via == "torch.nn.init":
            self._initialised(tensor, sites)
        elif isinstance(tensor, torch.nn.Parameter) and isinstance(out, torch.Tensor):
            with self.guard():
                if out.dtype != tensor.dtype:
                    number = self.census.number(tensor)
                    self.casts[number] = (out.dtype, sites)
                    self.census.people[number].dtype = str(out.dtype).removeprefix("torch.")
                elif out is tensor and len(self.writes) < MAX_WRITES:
                    self.writes.append((self.census.number(tensor), len(self.log.ops), sites))

    def _initialised(self, tensor: Any, sites: tuple[Site, ...]) -> None:
        """A parameter was filled, or a view into one."""
        if isinstance(tensor, torch.Tensor) and len(self._inits) < MAX_WRITES:
            parameter = isinstance(tensor, torch.nn.Parameter)
            self._inits.append((weakref.ref(tensor) if parameter else None, -1 if parameter else self.log.known(tensor), sites))

    def inits(self) -> Iterator[tuple[int, tuple[Site, ...]]]:
        """Which parameter was filled where, in order."""
        groups = {self.log.group(v): p.number for p in self.census.people for v in p.values}
        for reference, value, sites in self._inits:
            tensor = reference() if reference is not None else None
            number = self.census.number(tensor) if tensor is not None else groups.get(self.log.group(value), -1) if value >= 0 else -1
            if 0 <= number < len(self.census.people):
                yield number, sites

    def decorated(self, depth: int) -> CodeType | None:
        """The function that ``@torch.no_grad()`` stands on, where a decorator switched gradients off."""
        frame: Any = sys._getframe(depth)
        for _ in range(6):
            if frame is None:
                return None
            if frame.f_code.co_name == "decorate_context" and frame.f_code.co_filename.endswith("_contextlib.py"):
                function = frame.f_locals.get("func")
                return getattr(function, "__code__", None)
            if self.frames.codes.get(id(frame.f_code)) == 1:
                return None
            frame = frame.f_back
        return None

    @staticmethod
    def function_name(cls: type) -> str:
        return f"{cls.__module__}.{cls.__qualname__}" if cls.__module__.startswith("torch.") else cls.__qualname__
