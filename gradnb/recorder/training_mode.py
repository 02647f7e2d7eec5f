"""Which modules behave differently in ``train()`` and ``eval()``, and which mode they are in when their optimizer steps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from .recorder import Recorder

_DROPOUT = torch.nn.modules.dropout._DropoutNd
_NORM = torch.nn.modules.batchnorm._NormBase


class Modes:
    def __init__(self, recorder: "Recorder"):
        self.recorder = recorder
        self._known: dict[int, list[tuple[Any, bool]]] = {}

    def now(self) -> dict[str, tuple[int, int, int]]:
        """For each root module: how many of its modules depend on the mode, how many are in eval, how many of those drop values."""
        found = {}
        for name, reference in self.recorder.census.roots.items():
            root = reference()
            if root is None:
                continue
            sensitive = self._known.get(id(root))
            if sensitive is None:
                sensitive = self._known[id(root)] = [(m, drops) for m in root.modules() for drops in (_drops(m),) if drops is not None]
            if sensitive:
                idle = [drops for module, drops in sensitive if not module.training]
                found[name] = (len(sensitive), len(idle), sum(idle))
        return found

    def forget(self) -> None:
        """Let the modules go."""
        self._known = {}


def _drops(module: torch.nn.Module) -> bool | None:
    """True for a module that drops values in training, False for one that keeps batch statistics, None where the mode is all one."""
    if isinstance(module, _DROPOUT):
        return True if module.p > 0 else None
    if isinstance(module, _NORM):
        return False if module.track_running_stats and not isinstance(module, torch.nn.modules.instancenorm._InstanceNorm) else None
    if isinstance(module, (torch.nn.RNNBase, torch.nn.MultiheadAttention)):
        return True if module.dropout else None
    if not type(module).__module__.startswith("torch."):
        code = getattr(type(module).forward, "__code__", None)
        if code is not None and "training" in code.co_names:
            return True
    return None
