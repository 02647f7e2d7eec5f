"""Which module a user means: the one behind a wrapper, and the one around a part that is called by itself."""

from __future__ import annotations

from typing import Any, Mapping

import torch

_PARALLEL = (torch.nn.parallel.DistributedDataParallel, torch.nn.DataParallel)


def unwrapped(module: torch.nn.Module) -> torch.nn.Module:
    """The user's own module behind DistributedDataParallel, DataParallel and torch.compile, which only add a name in front."""
    while True:
        if isinstance(module, _PARALLEL):
            module = module.module
        elif type(module).__name__ == "OptimizedModule" and isinstance(inner := module._modules.get("_orig_mod"), torch.nn.Module):
            module = inner
        else:
            return module


def called_as(module: torch.nn.Module, names: Mapping[str, Any]) -> tuple[str, torch.nn.Module]:
    """What a module is called where ``names`` are the local ones: its name, or the name of the module that it is a part of."""
    items = [(name, value) for name, value in list(names.items()) if not name.startswith("_")]
    for name, value in items:
        if value is module:
            return name, module
    for name, value in list(getattr(names.get("self"), "__dict__", {}).items()):
        if value is module:
            return name, module
    for name, value in items:
        if isinstance(value, torch.nn.Module) and any(part is module for part in value.modules()):
            return type(value).__name__.lower() if name == "self" else name, value
    return type(module).__name__.lower(), module
