"""What one autograd node says about itself: the operation's name, the shape and dtype of what it gave, what it saved."""

from __future__ import annotations

import re
from typing import Any

import torch

_END = re.compile(r"Backwards?\d*(_copy)?$")
_DIMENSIONS = re.compile(r"(?<=\d)D(?![a-z])")
_CAPITAL = re.compile(r"(?<!^)(?=[A-Z])")
_BACKEND = re.compile(r"^_?(native|cudnn|miopen|mkldnn|mps|unsafe)_")


def operation(node: Any) -> tuple[str, str]:
    """The field's name of what it did ("mul" from MulBackward0), and the class of a custom Function, else ""."""
    own = getattr(node, "_forward_cls", None)
    if own is not None:
        if getattr(own, "_compiled_autograd_key", None) is not None and own.__name__ == "CompiledFunction":
            return "compiled", ""
        return own.__name__, "" if own.__module__.startswith("torch.") else own.__name__
    return field_name(full_name(node)), ""


def field_name(name: str) -> str:
    """``"mul"`` from ``"MulBackward0"``, ``"layer_norm"`` from ``"NativeLayerNormBackward0"``."""
    base = _END.sub("", name.rpartition("::")[2]) or name
    snake = _CAPITAL.sub("_", _DIMENSIONS.sub("d", base)).lower()
    if snake.startswith("scaled_dot_product_"):
        return "scaled_dot_product_attention"  # one call of the user's, with a node for each way to compute it
    return _BACKEND.sub("", snake).removesuffix("_with_indices")


def full_name(node: Any) -> str:
    """``"MulBackward0"``: what torch prints in ``grad_fn=<…>``."""
    return type(node).__name__


def sequence(node: Any) -> int:
    """Nodes are numbered as they are made, in each thread; -1 where a node has no number."""
    number = getattr(node, "_sequence_nr", None)
    value = number() if number is not None else -1
    return value if 0 <= value < 1 << 63 else -1


def output(node: Any) -> tuple[tuple[int, ...] | None, str]:
    """Shape and dtype of the first tensor that it gave; (None, "") where torch does not tell."""
    for metadata in getattr(node, "_input_metadata", None) or ():  # its gradient's inputs are its outputs
        try:
            return shape_of(metadata), dtype_of(metadata)
        except Exception:  # a nested tensor, an output that was never defined
            continue
    return None, ""


def shape_of(thing: Any) -> tuple[int, ...] | None:
    """Sizes as plain numbers; None for a nested tensor or sizes that are not known yet."""
    try:
        sizes = tuple(thing.shape)
    except Exception:
        return None
    return sizes if all(type(size) is int for size in sizes) else None


def dtype_of(thing: Any) -> str:
    return str(thing.dtype).removeprefix("torch.")


def variable(node: Any) -> torch.Tensor | None:
    """The leaf that an AccumulateGrad node stands for."""
    found = getattr(node, "variable", None)
    return found if isinstance(found, torch.Tensor) and not hasattr(node, "_forward_cls") else None
