"""The tensors that autograd nodes saved for the backward pass, read without running a hook of the user's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from .autograd import dtype_of, full_name, shape_of

_FREED = "after they have already been freed"
_CHANGED = "modified by an inplace operation"


@dataclass(slots=True)
class Kept:
    """One tensor that a node saved. ``tensor`` is None where a hook holds it."""

    name: str  # what the node calls it: "self", "result", "weight", …
    tensor: torch.Tensor | None


class Saved:
    """Reads what nodes saved, and counts what could not be read."""

    def __init__(self) -> None:
        self.bytes = 0
        self.count = 0
        self._hooked = 0
        self._freed = 0
        self._changed: list[str] = []
        self._attributes: dict[type, list[str]] = {}

    def of(self, node: Any) -> list[Kept]:
        kind = type(node)
        if kind not in self._attributes:
            self._attributes[kind] = [name for name in dir(kind) if name.startswith("_raw_saved_")]
        return [kept for raw in self._attributes[kind] for kept in self._read(node, raw)]

    def _read(self, node: Any, raw: str) -> list[Kept]:
        attribute = raw.removeprefix("_raw_saved_")
        own = attribute == "tensors"  # a custom Function's
        try:
            holders = getattr(node, raw)
        except Exception:
            self._freed += 1
            return []
        several = isinstance(holders, (tuple, list))
        names = [f"{attribute}[{i}]" for i in range(len(holders))] if several else [attribute]
        holders = list(holders) if several else [holders]
        if any(getattr(holder, "unpack_hook", None) is not None for holder in holders):
            self._hooked += len(holders)
            self.count += len(holders)
            return [Kept(name, None) for name in names]
        try:
            value = getattr(node, "saved_tensors" if own else "_saved_" + attribute)
        except Exception as error:
            if _CHANGED in str(error):
                self._changed.append(full_name(node))
            elif _FREED in str(error):
                self._freed += len(holders)
            return []
        values = list(value) if isinstance(value, (tuple, list)) else [value]
        found = [Kept(name, tensor) for name, tensor in zip(names, values) if isinstance(tensor, torch.Tensor)]
        self.count += len(found)
        return found

    def notes(self) -> list[str]:
        """What is to be said about them, with numbers."""
        said = []
        if self.count:
            size = f", {_size(self.bytes)} in all" if self.bytes else ""
            said.append(f"{_tensors(self.count)} for the backward pass{size} (one that several operations saved is drawn once)")
        if self._hooked:
            said.append(f"{_tensors(self._hooked)} of them are kept by a hook (checkpointing, offloading) and were not unpacked")
        if self._freed:
            said.append(f"{_tensors(self._freed)} had been freed by a backward pass: walk before it, or use backward(retain_graph=True)")
        if self._changed:
            names = ", ".join(dict.fromkeys(self._changed))
            said.append(
                f"{_tensors(len(self._changed))} were changed in place after they were saved, by {names}: backward() will fail there"
            )
        return said


def key(tensor: torch.Tensor) -> Any:
    """The same for two tensors over the same memory with the same view of it."""
    try:
        if tensor.layout is torch.strided and tensor.data_ptr():
            return tensor.data_ptr(), tuple(tensor.shape), tensor.stride(), tensor.dtype, tensor.device
    except Exception:  # a wrapper without memory of its own, a meta or fake tensor
        pass
    return id(tensor)


def size(tensor: torch.Tensor) -> int:
    """Bytes of its elements; 0 where that is not known."""
    try:
        return tensor.numel() * tensor.element_size()
    except Exception:
        return 0


def describe(kept: Kept) -> tuple[str, tuple[int, ...] | None, str]:
    """Label, shape and dtype."""
    label = f"saved {kept.name}"
    return (label, None, "") if kept.tensor is None else (label, shape_of(kept.tensor), dtype_of(kept.tensor))


def _tensors(count: int) -> str:
    return f"{count} saved tensor" + ("s" if count != 1 else "")


def _size(count: int) -> str:
    number = float(count)
    for unit in ("B", "kB", "MB"):
        if number < 1000:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:.3g} GB"
