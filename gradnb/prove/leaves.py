"""Parameters made, copied, frozen or sampled at a spot, where torch's function mode cannot look."""

from __future__ import annotations

import difflib
import sys
from typing import Any

import torch

from .claim import Kind
from .repair import Repair
from .tensors import live, same


def install(repair: Repair) -> None:
    """Wrap what makes and marks leaves. For a process that is thrown away: nothing is put back."""
    if Kind.REPARAMETER in repair.kinds:
        _reparameter(repair)
    if Kind.FROZEN in repair.kinds:
        _attributes(repair)
    if Kind.ROUND in repair.kinds:
        _samples(repair)


def _reparameter(repair: Repair) -> None:
    """``nn.Parameter(x)`` and ``deepcopy`` hand on what they were given."""
    parameter: Any = torch.nn.Parameter
    new, copied = parameter.__new__, parameter.__deepcopy__
    instead: list[torch.Tensor] = []

    def __new__(cls: type, data: Any = None, requires_grad: bool = True, *args: Any, **kwargs: Any) -> Any:
        if live(data) and data.grad_fn is not None and repair.here(Kind.REPARAMETER):
            repair.hit(Kind.REPARAMETER)
            instead.append(repair.passed(same(data)))
            return instead[-1]
        return new(cls, data, requires_grad, *args, **kwargs)

    def __deepcopy__(self: Any, memo: dict) -> Any:
        if self.requires_grad and repair.here(Kind.REPARAMETER):
            repair.hit(Kind.REPARAMETER)
            memo[id(self)] = self
            return self
        return copied(self, memo)

    parameter.__new__, parameter.__deepcopy__ = staticmethod(__new__), __deepcopy__
    module: Any = torch.nn.Module
    set_on_module = module.__setattr__

    def __setattr__(self: Any, name: str, value: Any) -> None:
        if any(value is tensor for tensor in instead):
            self._parameters.pop(name, None)  # what is no parameter may take the place of one only where none is
        set_on_module(self, name, value)

    module.__setattr__ = __setattr__


def _attributes(repair: Repair) -> None:
    """A misspelled ``requires_grad`` on a parameter and one on a module mean what they say."""

    def __setattr__(self: Any, name: str, value: Any) -> None:
        spot = repair.here(Kind.FROZEN) if value is True else None
        if spot is not None and name != "requires_grad" and difflib.SequenceMatcher(None, name, "requires_grad").ratio() > 0.9:
            repair.hit(Kind.FROZEN)
            self.requires_grad = True
        else:
            object.__setattr__(self, name, value)

    torch.nn.Parameter.__setattr__ = __setattr__  # type: ignore[method-assign, assignment]
    module: Any = torch.nn.Module
    set_on_module = module.__setattr__

    def __setattr_on_module__(self: Any, name: str, value: Any) -> None:
        if name == "requires_grad" and value is True and repair.here(Kind.FROZEN):
            repair.hit(Kind.FROZEN)
            self.requires_grad_(True)
        else:
            set_on_module(self, name, value)

    module.__setattr__ = __setattr_on_module__


def _samples(repair: Repair) -> None:
    """``sample()`` of a distribution that can do it becomes ``rsample()``."""
    if "torch.distributions" not in sys.modules:
        return
    for cls in _subclasses(sys.modules["torch.distributions"].Distribution):
        original = vars(cls).get("sample")
        if original is not None:
            cls.sample = _sampled(repair, original)


def _subclasses(cls: Any) -> list[Any]:
    return [cls, *(found for below in cls.__subclasses__() for found in _subclasses(below))]


def _sampled(repair: Repair, original: Any) -> Any:
    def sample(self: Any, *args: Any, **kwargs: Any) -> Any:
        if self.has_rsample and torch.is_grad_enabled() and repair.here(Kind.ROUND):
            out = self.rsample(*args, **kwargs)
            if live(out):
                repair.hit(Kind.ROUND)
                return repair.passed(out)
        return original(self, *args, **kwargs)

    return sample
