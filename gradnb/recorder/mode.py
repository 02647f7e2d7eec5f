"""The function mode: sees every torch call, runs it unchanged, and writes one line into the log.

This file is the hot path; what can wait until the run is over is not done here.
"""

from __future__ import annotations

import sys
from math import isfinite
from typing import TYPE_CHECKING, Any

import torch
from torch.overrides import TorchFunctionMode

from .log import Log, RawRegion, _sequence, said
from .operations import SKIP, Operation, describe

if TYPE_CHECKING:
    from .recorder import Recorder

_Tensor = torch.Tensor
_Parameter = torch.nn.Parameter
_grad_enabled = torch.is_grad_enabled
_FLAT = frozenset((int, bool, str, type(None), slice, type(Ellipsis), torch.dtype, torch.device, torch.Size))
_WRITERS = frozenset(("module.to", "load_state_dict", "torch.nn.init"))
_IGNORED_VIA = frozenset(("torch.optim", "clip_grad", "torch.nn.init", "module.to", "load_state_dict"))


class RecordingMode(TorchFunctionMode):
    """A function mode that writes every call into a Log."""

    def __init__(self, log: Log, recorder: "Recorder"):
        super().__init__()
        self.log = log
        self.recorder = recorder
        self.active = True
        self._known: dict[Any, Operation] = {}
        self._suspended: list[int] = []  # regions that an enable_grad interrupts

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        operation = self._known.get(func)
        if operation is None:
            operation = self._known[func] = describe(func)
        kind = operation.kind
        if kind == SKIP or not self.active:
            return func(*args, **kwargs) if kwargs else func(*args)
        if kind == "op" or kind == "cut" or kind == "inplace":
            return self._call(operation, func, args, kwargs)
        return getattr(self, "_" + kind.replace(".", "_"))(operation, func, args, kwargs or {})

    # -- ordinary calls -----------------------------------------------------------------------------------------------

    def _call(self, operation: Operation, func: Any, args: tuple, kwargs: dict | None) -> Any:
        log = self.log
        sites, via = log.sites(3)
        if via in _IGNORED_VIA or not sites:
            if via == "clip_grad":
                self.recorder.training.clip(sites)
                return func(*args, **kwargs) if kwargs else func(*args)
            out = func(*args, **kwargs) if kwargs else func(*args)
            if sites and via in _WRITERS:
                self.recorder.rewritten(args[0] if args else (kwargs or {}).get("tensor"), out, sites, via)
            return out
        inputs, numbers = self._inputs(args, kwargs)
        ops = log.ops
        call = log.calls[-1]
        module = call[2] if call[2] >= 0 else self.module()
        parent = log.parents[-1] if log.parents else -1
        grad = _grad_enabled()
        first = _sequence()
        try:
            out = func(*args, **kwargs) if kwargs else func(*args)
        except BaseException as error:
            ops.append((operation, inputs, (), grad, log.region, sites, via, module, first, first, numbers, said(error), parent, None))  # type: ignore[arg-type]
            self.recorder.autocast_at_error = autocast()
            raise
        last = _sequence()
        index = len(ops)  # only now: a custom Function that the call ran inside may have written before it
        if operation.inplace:
            target = args[0] if args else None
            outputs: tuple[int, ...] = ()
            if isinstance(target, _Tensor):
                outputs = (log.add(target, index, log.group(inputs[0])),)
        else:
            group = log.group(inputs[0]) if inputs and (operation.view or args and out is args[0]) else -1  # or relu(x, inplace=True)
            add = log.result if operation.view or operation.name == "broadcast_tensors" else log.add
            if isinstance(out, _Tensor):
                outputs = (add(out, index, group),)
            elif isinstance(out, (tuple, list)):
                outputs = tuple([add(t, index, group) for t in out if isinstance(t, _Tensor)])
            else:
                outputs = ()
        # a plain tuple in the order of RawOp: this runs for every call
        ops.append((operation, inputs, outputs, grad, log.region, sites, via, module, first, last, numbers, None, parent, None))  # type: ignore[arg-type]
        if index >= log.limit:
            log.full = True
            self.recorder.stop_recording()
        return out

    def module(self) -> int:
        """The number of the module whose forward is running, -1 outside any."""
        call = self.log.calls[-1]
        if call[2] < 0 and call[0] is not None:
            call[2] = self.recorder.module_index(call[0])
        return call[2]

    def _parent(self) -> int:
        parents = self.log.parents
        return parents[-1] if parents else -1

    def _inputs(self, args: tuple, kwargs: dict | None) -> tuple[tuple[int, ...], bool]:
        """The values among the arguments, one level of lists deep, and whether a Python number stands among them."""
        log = self.log
        ids = log._ids
        found: list[int] = []
        numbers = False
        if kwargs:
            args = args + tuple(kwargs.values())
        for position, a in enumerate(args):
            kind = type(a)
            if kind is _Tensor or kind is _Parameter:
                entry = ids.get(id(a))
                if entry is not None and entry[0]() is a:
                    found.append(entry[1])
                else:
                    found.append(self._fresh(a, position))
            elif kind in _FLAT:
                pass
            elif kind is float:
                numbers = True
            elif kind is list or kind is tuple:
                numbers = self._nested(a, position, found, 0) or numbers
            elif isinstance(a, _Tensor):
                index = log.known(a)
                found.append(index if index >= 0 else self._fresh(a, position))
            elif isinstance(a, (list, tuple)):
                numbers = self._nested(a, position, found, 0) or numbers
            elif isinstance(a, dict):
                numbers = self._nested(list(a.values()), position, found, 0) or numbers
            else:
                numbers = numbers or hasattr(a, "__array__") or hasattr(a, "__float__")
        return tuple(found), numbers

    def _nested(self, items: Any, position: int, found: list[int], depth: int) -> bool:
        numbers = False
        for a in items:
            if isinstance(a, _Tensor):
                index = self.log.known(a)
                found.append(index if index >= 0 else self._fresh(a, position))
            elif isinstance(a, (list, tuple)):
                if depth < 3:
                    numbers = self._nested(a, position, found, depth + 1) or numbers
            elif type(a) not in _FLAT:
                numbers = True
        return numbers

    def _fresh(self, tensor: torch.Tensor, position: int) -> int:
        """A tensor that no recorded call made: a parameter, an input, or one made where the mode cannot look."""
        index = self.log.add(tensor, -1, -1)
        self.log.fresh.append((index, len(self.log.ops), position))
        if tensor.requires_grad or type(tensor) is _Parameter:
            try:
                self.recorder.met_leaf(tensor, index)
            except Exception as fault:  # a tensor of a kind nobody foresaw must not stop the user's call
                self.recorder.notes.append(f"a tensor could not be followed: {type(fault).__name__}: {fault}"[:200])
        return index

    # -- values that leave torch, and come back ------------------------------------------------------------------------

    def _escape(self, operation: Operation, func: Any, args: tuple, kwargs: dict) -> Any:
        out = func(*args, **kwargs)
        sites, via = self.log.sites(3)
        if sites and via not in _IGNORED_VIA and args and isinstance(args[0], _Tensor):
            inputs, _ = self._inputs(args[:1], None)
            self._write(operation, inputs, (), sites, via)
            if out is True or out is False or out.__class__ is float and not isfinite(out):
                self.recorder.nonfinite.left_torch(args[0], inputs[0])
        return out

    def _factory(self, operation: Operation, func: Any, args: tuple, kwargs: dict) -> Any:
        sites, via = self.log.sites(3)
        if via == "clip_grad":  # a total norm of no gradients at all
            self.recorder.training.clip(sites)
        first = _sequence()
        out = func(*args, **kwargs)
        if sites and via not in _IGNORED_VIA and isinstance(out, _Tensor):
            inputs, numbers = self._inputs(args, kwargs)
            same = self.log.known(out)
            if same >= 0 and operation.name != "tensor":  # as_tensor(x) hands the same object back
                return out
            outputs = (self.log.add(out, len(self.log.ops), -1),)
            if out.requires_grad:
                self.log.mark(outputs[0], leaf=out.is_leaf)
                self.recorder.met_leaf(out, outputs[0])
            self._write(operation, inputs, outputs, sites, via, numbers=numbers, first=first)
        return out

    def _empty(self, operation: Operation, func: Any, args: tuple, kwargs: dict) -> Any:
        out = func(*args, **kwargs)
        if isinstance(out, _Tensor):
            sites, via = self.log.sites(3)
            if sites and via not in _IGNORED_VIA:
                outputs = (self.log.add(out, len(self.log.ops), -1),)
                if out.requires_grad:
                    self.log.mark(outputs[0], leaf=True)
                    self.recorder.met_leaf(out, outputs[0])
                self._write(operation, (), outputs, sites, via)
        return out

    def _gradient(self, operation: Operation, func: Any, args: tuple, kwargs: dict) -> Any:
        out = func(*args, **kwargs)
        if isinstance(out, _Tensor) and self.log.known(out) < 0:
            sites, via = self.log.sites(3)
            if sites and via not in _IGNORED_VIA:
                self._write(operation, (), (self.log.add(out, len(self.log.ops), -1),), sites, via)
        return out

    # -- leaves and flags ----------------------------------------------------------------------------------------------

    def _leaf(self, operation: Operation, func: Any, args: tuple, kwargs: dict) -> Any:
        out = func(*args, **kwargs)
        sites, via = self.log.sites(3)
        if sites and isinstance(out, _Tensor) and args and isinstance(args[0], _Tensor):
            inputs, _ = self._inputs(args[:1], None)
            outputs = (self.log.add(out, len(self.log.ops), -1),)
            self.log.mark(outputs[0], leaf=True)
            self._write(operation, inputs, outputs, sites, via)
        return out

    def _requires_grad(self, operation: Operation, func: Any, args: tuple, kwargs: dict) -> Any:
        tensor = args[0]
        before = tensor.requires_grad
        old = self.log.known(tensor)
        if old < 0 and self.log.sites(3)[0]:
            old = self._inputs(args[:1], None)[0][0]
        out = func(*args, **kwargs)
        after = tensor.requires_grad
        sites, via = self.log.sites(3)
        if before == after or not sites or via in _IGNORED_VIA:
            return out
        self.recorder.flag_changed(tensor, after, sites)
        new = self.log.add(tensor, len(self.log.ops), self.log.group(old))
        self.log.mark(new, leaf=True)
        if after:
            self.recorder.met_leaf(tensor, new)
        self._write(Operation("requires_grad_", "leaf", True, False), (old,), (new,), sites, via)
        return out

    def _set_data(self, operation: Operation, func: Any, args: tuple, kwargs: dict) -> Any:
        sites, via = self.log.sites(3)
        if not sites or via in _IGNORED_VIA:
            return func(*args, **kwargs)
        inputs, numbers = self._inputs(args, None)
        out = func(*args, **kwargs)
        target = args[0]
        leaf = self.log.values[inputs[0]][4] if inputs else False
        new = self.log.add(target, len(self.log.ops), -1)
        self.log.mark(new, leaf=leaf)
        self._write(Operation("data", "set_data", False, True), inputs, (new,), sites, via, numbers=numbers)
        return out

    def _set_grad(self, operation: Operation, func: Any, args: tuple, kwargs: dict) -> Any:
        out = func(*args, **kwargs)
        if len(args) > 1:
            self.recorder.gradient_set(args[0], args[1] is not None, self.log.sites(3))
        return out

    # -- gradients off and on ------------------------------------------------------------------------------------------

    def _grad_mode(self, operation: Operation, func: Any, args: tuple, kwargs: dict) -> Any:
        before = _grad_enabled()
        out = func(*args, **kwargs)
        after = _grad_enabled()
        if before and not after:
            if _leaving() and self._suspended:  # the end of an enable_grad inside no_grad
                self.log.region = self._suspended.pop()
            else:
                self.open_region("no_grad")
        elif after and not before:
            if not _leaving():
                self._suspended.append(self.log.region)
            self.log.region = -1
        return out

    def open_region(self, kind: str, depth: int = 4) -> None:
        sites, via = self.log.sites(depth)
        decorated = self.recorder.decorated(depth)
        self.log.regions.append(RawRegion(sites, kind, via, decorated))
        self.log.region = len(self.log.regions) - 1

    # -- backward ------------------------------------------------------------------------------------------------------

    def _backward(self, operation: Operation, func: Any, args: tuple, kwargs: dict) -> Any:
        return self.recorder.backward.run(func, args, kwargs, self.log.sites(3)[0])

    def _autograd_grad(self, operation: Operation, func: Any, args: tuple, kwargs: dict) -> Any:
        return self.recorder.backward.grad(operation, func, args, kwargs, self.log.sites(3))

    def _write(
        self,
        operation: Operation,
        inputs: tuple[int, ...],
        outputs: tuple[int, ...],
        sites: tuple,
        via: str | None,
        *,
        numbers: bool = False,
        first: int = -1,
        error: str | None = None,
        function: str | None = None,
    ) -> int:
        log = self.log
        last = _sequence() if first >= 0 else -1
        return log.append(
            (
                operation,
                inputs,
                outputs,
                _grad_enabled(),
                log.region,
                sites,
                via,
                self.module(),
                first,
                last,
                numbers,
                error,
                self._parent(),
                function,
            )
        )


def _leaving() -> bool:
    """Is it the ``__exit__`` of a grad-mode context that switches, directly or through ``set_grad_enabled``."""
    for depth in (3, 4):
        code = sys._getframe(depth).f_code
        if code.co_name == "__exit__" and code.co_filename.endswith("grad_mode.py"):
            return True
    return False


def autocast() -> str:
    """The dtype of the autocast region that runs, "" outside any."""
    for device in ("cpu", "cuda"):
        if torch.is_autocast_enabled(device):
            return str(torch.get_autocast_dtype(device)).removeprefix("torch.")
    return ""
