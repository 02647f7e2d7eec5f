"""Regions under ``torch.compile``: the recorder steps out of the way, and writes each region down as one operation.

Dynamo traces whatever stands around a compiled call, a function mode and wrapped methods included: it would compile the
recorder, break the user's graph, or fail. So while compiled code runs nothing of the recorder is installed, and what was
compiled before the recording is found again.
"""

from __future__ import annotations

import sys
import threading
from types import FrameType
from typing import TYPE_CHECKING, Any, Callable, Iterator

import torch

from .log import _sequence
from .operations import Operation

if TYPE_CHECKING:
    from .recorder import Recorder

_REGION = Operation("compiled region", "op", False, False)
_UNSEEN = "a function under torch.compile uses an optimizer: what it does there (its steps, a backward pass) is not seen"


class Compiled:
    def __init__(self, recorder: "Recorder"):
        self.recorder = recorder
        self._module: Any = None  # torch's module that switches compiled code on and off
        self._real: Callable | None = None
        self._ours: Callable | None = None
        self._frame: FrameType | None = None  # torch's frame that runs the region, None outside one
        self._aside = False
        self._first = -1
        self._called: set[int] = set()  # modules that are known to run in regions

    def install(self) -> None:
        """Watch compiled code, as soon as torch's compiler is imported (building the first optimizer imports it)."""
        module = sys.modules.get("torch._dynamo.eval_frame")
        if self._module is not None or not hasattr(module, "_maybe_set_eval_frame"):
            return
        real, thread = module.set_eval_frame, threading.get_ident()  # type: ignore[union-attr]

        def set_eval_frame(callback: Any) -> Any:
            if threading.get_ident() != thread:
                return real(callback)
            if callback is not None and self._frame is None:
                self._enter(sys._getframe(1))
                return real(callback)  # from here on every new frame is compiled
            before = real(callback)
            if callback is None and self._frame is not None and _ends(self._frame, sys._getframe(1)):
                self._leave()
            return before

        self._module, self._real, self._ours = module, real, set_eval_frame
        module.set_eval_frame = module._maybe_set_eval_frame = set_eval_frame  # type: ignore[union-attr]

    def restore(self) -> None:
        for name in ("set_eval_frame", "_maybe_set_eval_frame"):
            if self._module is not None and getattr(self._module, name) is self._ours:
                setattr(self._module, name, self._real)
        self._module = self._real = self._ours = self._frame = None

    # -- a region --------------------------------------------------------------------------------------------------------

    def _enter(self, frame: FrameType) -> None:
        self._frame = frame
        self._aside = self.recorder.step_aside()
        self.recorder.suspend()
        self._first = _sequence()

    def _leave(self) -> None:
        frame, self._frame = self._frame, None
        self.recorder.resume()
        if self._aside:
            self.recorder.step_back()
        if frame is not None and self.recorder.recording:
            with self.recorder.guard():
                self._write(frame.f_locals)

    def _write(self, names: dict[str, Any]) -> None:
        """The region as an operation, from the names of torch's frame that ran it: ``fn``, ``args``, ``kwargs``, ``result``."""
        recorder, mode = self.recorder, self.recorder.mode
        sites, via = recorder.log.sites(4)
        if "result" not in names or not sites:
            return
        held = list(dict.fromkeys(_held(names.get("fn"), 0)))
        tensors = [t for t in held if isinstance(t, torch.Tensor)]
        for module in held:
            if isinstance(module, torch.nn.Module):
                self._note(module)
                tensors.extend([*module.parameters(), *module.buffers()])
        if any(isinstance(h, torch.optim.Optimizer) for h in held) and _UNSEEN not in recorder.notes:
            recorder.notes.append(_UNSEEN)
        arguments = (*names.get("args", ()), *names.get("kwargs", {}).values())
        inputs, numbers = mode._inputs((*arguments, list({id(t): t for t in tensors}.values())), None)
        index = len(recorder.log.ops)
        outputs = tuple(recorder.log.add(t, index, -1) for t in _tensors(names["result"], 0) if recorder.log.known(t) < 0)
        mode._write(_REGION, inputs, outputs, sites, via, numbers=numbers, first=self._first)

    def _note(self, module: torch.nn.Module) -> None:
        """The modules of a region count as called."""
        if id(module) not in self._called:
            self._called.add(id(module))
            for inner in module.modules():
                self.recorder.module_index(inner)
            self.recorder.census.dirty = True


def _ends(region: FrameType, frame: FrameType) -> bool:
    """Does the region end here: in the frame that began it, or in the ``__exit__`` of the context whose ``__enter__`` did."""
    if region.f_code.co_name == "__enter__":
        return frame.f_code.co_name == "__exit__" and frame.f_locals.get("self") is region.f_locals.get("self")
    return frame is region


def _held(value: Any, depth: int) -> Iterator[Any]:
    """The modules, tensors and optimizers that a compiled callable reads without being given them."""
    if isinstance(value, (torch.nn.Module, torch.Tensor, torch.optim.Optimizer)):
        yield value
        return
    if depth > 3:
        return
    if isinstance(value, (list, tuple)) and len(value) < 64:
        for item in value:
            yield from _held(item, depth + 1)
        return
    yield from _held(getattr(value, "__self__", None), depth + 1)
    for wrapped in (getattr(value, "__wrapped__", None), getattr(value, "__func__", None), getattr(value, "func", None)):
        if wrapped is not None:
            yield from _held(wrapped, depth + 1)
    code = getattr(value, "__code__", None)
    if code is None:
        return
    for cell in value.__closure__ or ():
        try:
            yield from _held(cell.cell_contents, depth + 1)
        except ValueError:  # still empty
            pass
    for name in code.co_names:
        yield from _held(value.__globals__.get(name), depth + 1)


def _tensors(value: Any, depth: int) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif depth < 4 and isinstance(value, (list, tuple, dict)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _tensors(item, depth + 1)
    elif depth < 4 and hasattr(value, "__dataclass_fields__"):  # the output of a library's model
        for name in value.__dataclass_fields__:
            yield from _tensors(getattr(value, name, None), depth + 1)
