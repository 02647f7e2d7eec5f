"""What every kind of tracked thing can do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ..encode import Packer, Place, Unpacker


class Item:
    """One tracked thing: saved into a record, checked against one, loaded from one."""

    kind = ""
    order = 0
    """When it is loaded. What runs code of others comes first, so that the exact states of modules and optimizers have the last word."""

    def __init__(self, name: str, thing: Any):
        self.name, self.thing = name, thing

    def save(self, packer: Packer, place: Place) -> dict[str, Any]:
        """The fields of its record, JSON-ready; tensors go to the packer."""
        raise NotImplementedError

    def check(self, record: Mapping[str, Any], unpacker: Unpacker) -> list[str]:
        """What keeps the record from being loaded, a sentence each. Touches nothing."""
        raise NotImplementedError

    def load(self, record: Mapping[str, Any], unpacker: Unpacker) -> list[str]:
        """Put the record into the thing; gives notes on what the user may not expect. Only called where ``check`` found nothing."""
        raise NotImplementedError

    def parameters(self) -> dict[str, Tensor]:
        """Tensors that it holds and that a gradient may reach, by the names that users know."""
        return {}


def form(tensor: Tensor) -> str:
    """Shape and dtype in words: ``10x32 float32``."""
    shape = "x".join(map(str, tensor.shape)) or "a scalar"
    return f"{shape} {str(tensor.dtype).removeprefix('torch.')}"


def unlike(saved: Tensor, now: Tensor) -> str | None:
    """How two tensors differ, in words: shape, or dtype."""
    if saved.shape == now.shape and saved.dtype == now.dtype:
        return None
    return f"saved {form(saved)}, now {form(now)}"


def listed(names: list[str], most: int = 3) -> str:
    """``a, b, c and 4 more``."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")
