"""One file a kind of tracked thing; ``item`` chooses among them."""

from __future__ import annotations

from collections import Counter, OrderedDict, defaultdict, deque
from typing import Any

import torch
from torch import Tensor

from ...errors import UsageError
from ..encode import Packer, Place
from ..encode_arrays import is_array
from ..encode_generators import is_generator
from .generators import Generator
from .item import Item
from .modules import Module
from .optimizers import Optimizer
from .stateful import Stateful
from .values import Value

_IN_PLACE = (list, dict, OrderedDict, defaultdict, Counter, set, deque, bytearray)


def item(name: str, thing: Any) -> Item | None:
    """The item of a thing that has a state of its own or can be restored in place; None for others. UsageError for half a protocol."""
    one = type(thing)
    if issubclass(one, torch.nn.Module):
        return Module(name, thing)
    if issubclass(one, torch.optim.Optimizer):
        return Optimizer(name, thing)
    if is_generator(one):
        return Generator(name, thing)
    saves, loads = (callable(getattr(one, method, None)) for method in ("state_dict", "load_state_dict"))
    if saves and loads:
        return Stateful(name, thing, item)
    if saves or loads:
        raise UsageError(f"{name} ({one.__name__}) has only one of state_dict() and load_state_dict(); a checkpoint needs both.")
    if one in _IN_PLACE or issubclass(one, Tensor) or is_array(one):
        return Value(name, thing, item)
    return None


def inner(packer: Packer, thing: Any, place: Place) -> dict[str, Any]:
    """The record of an object that stands inside a container: for ``Packer(objects=...)``."""
    chosen = item(str(place), thing)
    assert chosen is not None
    return {"kind": chosen.kind, **chosen.save(packer, place)}


__all__ = ["Item", "inner", "item"]
