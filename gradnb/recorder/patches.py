"""What has no hook of its own is wrapped while recording, and put back whatever happens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from .frames import MODULE
from .log import RawOp, RawRegion, _sequence
from .operations import Operation
from .training_calls import training_calls

if TYPE_CHECKING:
    from .recorder import Recorder

_MISSING = object()


class Patches:
    """A set of attribute replacements and hooks that can be undone exactly, and lifted for a while."""

    def __init__(self) -> None:
        self._undo: list[tuple[Any, str, Any, Any]] = []
        self._hooks: list[tuple[Callable, Callable]] = []
        self._handles: list[Any] = []

    def set(self, owner: Any, name: str, value: Any) -> None:
        self._undo.append((owner, name, vars(owner).get(name, _MISSING), value))
        setattr(owner, name, value)

    def hook(self, register: Callable, function: Callable) -> None:
        self._hooks.append((register, function))
        self._handles.append(register(function))

    def suspend(self) -> None:
        """Put everything back for a while; ``resume`` installs it again."""
        while self._handles:
            self._handles.pop().remove()
        for owner, name, old, ours in reversed(self._undo):
            if vars(owner).get(name) is not ours:
                continue  # the user patched it too, over ours: theirs stays
            if old is _MISSING:
                delattr(owner, name)
            else:
                setattr(owner, name, old)

    def resume(self) -> None:
        for owner, name, old, ours in self._undo:
            if vars(owner).get(name, _MISSING) is old:
                setattr(owner, name, ours)
        self._handles = [register(function) for register, function in self._hooks]

    def restore(self) -> None:
        self.suspend()
        self._undo, self._hooks = [], []


def install(recorder: "Recorder") -> Patches:
    """Wrap everything that the recorder must see and that torch gives no hook for."""
    patches = Patches()
    try:
        _modules(patches, recorder)
        _parameters(patches, recorder)
        _functions(patches, recorder)
        _inference_mode(patches, recorder)
        training_calls(patches, recorder)
        patches.hook(register_optimizer_step_pre_hook, recorder.training.before_step)
        patches.hook(register_optimizer_step_post_hook, recorder.training.after_step)
    except BaseException:
        patches.restore()
        raise
    return patches


def _modules(patches: Patches, recorder: "Recorder") -> None:
    original = torch.nn.Module.__call__
    calls = recorder.log.calls
    torch_containers = {torch.nn.Sequential, torch.nn.TransformerEncoder, torch.nn.TransformerEncoderLayer, torch.nn.TransformerDecoder}
    torch_containers |= {torch.nn.TransformerDecoderLayer, torch.nn.Transformer}

    def __call__(self: torch.nn.Module, *args: Any, **kwargs: Any) -> Any:
        if not recorder.recording or not recorder.here():
            return original(self, *args, **kwargs)
        above = calls[-1]
        if above[0] is None:
            recorder.called_root(self)
            calls.append([self, None, -1])
        else:
            # between a container of torch's and its child stands no frame of the user's (unless a hook of the user's ran)
            caller = above[0]
            plain = type(caller) in torch_containers and not caller._forward_hooks and not caller._forward_pre_hooks
            calls.append([self, above[1] if plain else None, -1])
        try:
            return original(self, *args, **kwargs)
        finally:
            calls.pop()

    recorder.frames.mark(__call__.__code__, MODULE)
    patches.set(torch.nn.Module, "__call__", __call__)


def _parameters(patches: Patches, recorder: "Recorder") -> None:
    original = torch.nn.Parameter.__new__
    operation = Operation("Parameter", "leaf", False, False)

    def __new__(cls: type, data: Any = None, requires_grad: bool = True, *args: Any, **kwargs: Any) -> Any:
        out: Any = original(cls, data, requires_grad, *args, **kwargs)
        if recorder.recording and recorder.here() and isinstance(data, torch.Tensor) and cls is torch.nn.Parameter:
            with recorder.guard():
                recorder.new_leaf(operation, data, out)
        return out

    patches.set(torch.nn.Parameter, "__new__", staticmethod(__new__))


def _functions(patches: Patches, recorder: "Recorder") -> None:
    holder = torch.autograd.Function
    original = vars(holder)["apply"] if "apply" in vars(holder) else None
    if not isinstance(original, classmethod):
        return
    call: Callable = original.__func__

    def apply(cls: type, *args: Any, **kwargs: Any) -> Any:
        if not recorder.recording or not recorder.here() or torch._C._are_functorch_transforms_active():
            return call(cls, *args, **kwargs)
        if recorder.observer is not None:
            with recorder.guard():
                recorder.observer(cls, args)
        log, mode = recorder.log, recorder.mode
        sites, via = log.sites(2)
        inputs, numbers = mode._inputs(args, kwargs)
        index = log.append(None)  # type: ignore[arg-type]
        region, first, grad = log.region, _sequence(), torch.is_grad_enabled()
        if grad:
            log.regions.append(RawRegion(sites, "function", None, None))
            log.region = len(log.regions) - 1
        log.parents.append(index)
        outputs: tuple[int, ...] = ()
        error = None
        try:
            out = call(cls, *args, **kwargs)
            several = out if isinstance(out, (tuple, list)) else (out,)
            outputs = tuple(log.add(t, index, -1) for t in several if isinstance(t, torch.Tensor))
            return out
        except BaseException as raised:
            error = f"{type(raised).__name__}: {raised}"[:400]
            raise
        finally:
            log.parents.pop()
            log.region = region
            operation = Operation("apply", "function", False, False)
            log.ops[index] = RawOp(  # type: ignore[call-overload]
                operation,
                inputs,
                outputs,
                grad,
                region,
                sites,
                via,
                mode.module(),
                first,
                _sequence(),
                numbers,
                error,
                log.parents[-1] if log.parents else -1,
                recorder.function_name(cls),
            )

    patches.set(holder, "apply", classmethod(apply))


def _inference_mode(patches: Patches, recorder: "Recorder") -> None:
    cls = torch.autograd.grad_mode.inference_mode
    enter, leave = cls.__enter__, cls.__exit__
    before: list[int] = []

    def __enter__(self: Any) -> Any:
        out = enter(self)
        if recorder.recording and recorder.here():
            before.append(recorder.log.region)
            if self.mode and recorder.log.region < 0:
                recorder.mode.open_region("inference_mode", 3)
        return out

    def __exit__(self: Any, *error: Any) -> Any:
        if before and recorder.here():
            recorder.log.region = before.pop()
        return leave(self, *error)

    patches.set(cls, "__enter__", __enter__)
    patches.set(cls, "__exit__", __exit__)
