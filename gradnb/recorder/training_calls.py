"""Wraps the calls of a training loop that torch gives no hook for: zero_grad, GradScaler, optimizer construction, train and eval."""

from __future__ import annotations

import functools
import sys
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from .patches import Patches
    from .recorder import Recorder


def training_calls(patches: "Patches", recorder: "Recorder") -> None:
    """Install the wrappers; each notes an event around the unchanged call."""

    def event(owner: type, name: str, kind: str) -> None:
        original = getattr(owner, name)

        def call(self: Any, *args: Any, **kwargs: Any) -> Any:
            ok, out = False, None
            mine = recorder.watching and recorder.here()
            noted = recorder.training.before_call(kind, self, args or tuple(kwargs.values())) if mine else None
            aside = kind == "zero_grad" and noted is not None and recorder.step_aside()
            try:
                out = original(self, *args, **kwargs)
                ok = True
                return out
            finally:
                if aside:
                    recorder.step_back()
                if noted is not None:
                    recorder.training.after_call(noted, ok, None if ok else sys.exc_info()[1], out)

        call.__name__, call.__qualname__, call.__doc__ = name, original.__qualname__, original.__doc__
        patches.set(owner, name, call)

    event(torch.optim.Optimizer, "zero_grad", "zero_grad")
    event(torch.nn.Module, "zero_grad", "zero_grad")
    scaler = torch.amp.GradScaler
    event(scaler, "scale", "scale")
    event(scaler, "unscale_", "unscale")
    event(scaler, "step", "scaler.step")
    event(scaler, "update", "update")
    event(scaler, "get_scale", "get_scale")
    event(torch.nn.Module, "train", "mode")

    build = torch.optim.Optimizer.__init__

    def __init__(self: Any, params: Any, defaults: Any, *args: Any, **kwargs: Any) -> None:
        noted = recorder.training.before_optimizer(self, params) if recorder.watching and recorder.here() else None
        build(self, params, defaults, *args, **kwargs)
        if noted is not None:
            recorder.training.after_optimizer(self, noted)
        recorder.compiled.install()  # building an optimizer imports torch's compiler

    patches.set(torch.optim.Optimizer, "__init__", __init__)

    compiler = torch.compile

    @functools.wraps(compiler)
    def compile(*args: Any, **kwargs: Any) -> Any:
        out = compiler(*args, **kwargs)
        recorder.compiled.install()
        return out

    patches.set(torch, "compile", compile)
