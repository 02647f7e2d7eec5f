"""Datasets and samplers that keep a state (``state_dict`` and ``load_state_dict``), and what of them changes without one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from . import encode
from .items import generators

_PARTS = ("dataset", "sampler", "batch_sampler")


@dataclass
class States:
    """States of the things that a loader is made of: JSON trees, None for one that cannot be saved, and their tensors."""

    trees: list[Any] = field(default_factory=list)
    tensors: dict[str, Tensor] = field(default_factory=dict)


def keeps(thing: Any) -> bool:
    """Whether it keeps a state of its own."""
    return callable(getattr(thing, "state_dict", None)) and callable(getattr(thing, "load_state_dict", None))


def find(loader: Any) -> list[Any]:
    """The datasets and samplers in a loader that keep a state, in an order that is the same in another process; a loader that is no
    DataLoader and keeps a state itself."""
    if getattr(loader, "dataset", None) is None:
        return [loader] if keeps(loader) else []
    from torch.utils.data import Dataset, Sampler

    parts = [getattr(loader, part, None) for part in _PARTS]

    def wanted(value: Any) -> bool:
        return (isinstance(value, (Dataset, Sampler)) or any(value is part for part in parts)) and keeps(value)

    return generators.find(loader, wanted)


def capture(things: Sequence[Any], prefix: str, copy: bool) -> States:
    """Their states now; ``copy`` where they are kept for later saves, so that what the user's things do meanwhile does not show."""
    found = States()
    for i, each in enumerate(things):
        try:
            tree, tensors = encode.pack(each.state_dict(), f"{prefix}/{i}")
        except Exception:  # told before the training, by ``doubts``
            found.trees.append(None)
            continue
        found.trees.append(tree)
        found.tensors |= {name: tensor.detach().clone() for name, tensor in tensors.items()} if copy else tensors
    return found


def restore(things: Sequence[Any], states: States, touched: Callable[[Any], bool]) -> None:
    """Put the states back where there are as many things as then.

    A state that a thing has already is not loaded: of one that was never begun it may say "behind the first". Those that were ``touched``
    by a load before this one are loaded in any case: what it said to them need not show in their state.
    """
    if len(things) != len(states.trees):
        return
    for i, (each, tree) in enumerate(zip(things, states.trees)):
        if tree is None:
            continue
        now, tensors = encode.pack(each.state_dict(), f"now/{i}")
        saved = encode.unpack(tree, states.tensors)
        again, others = encode.pack(saved, f"now/{i}")
        if touched(each) or now != again or any(not torch.equal(tensor, others[name]) for name, tensor in tensors.items()):
            each.load_state_dict(saved)


def doubts(loader: Any) -> list[str]:
    """Of those whose state cannot be saved, a sentence each."""
    found = []
    for each in find(loader):
        try:
            encode.pack(each.state_dict(), type(each).__name__)
        except Exception as error:
            found.append(
                f"the state of {type(each).__name__} cannot be saved, and a resumed run begins with what its cell builds: "
                f"{str(error) or type(error).__name__}"
            )
    return found


def numbers(loader: Any) -> dict[tuple[str, str], Any]:
    """Numbers and words in the user's own dataset and samplers that keep no state: (class, attribute) -> value."""
    found = {}
    for part in _PARTS:
        each = getattr(loader, part, None)
        if each is not None and not keeps(each) and not generators.is_library(type(each)):
            held = getattr(each, "__dict__", None)
            for key, value in (held if type(held) is dict else {}).items():
                if type(value) in (int, float, bool, str):
                    found[type(each).__name__, key] = value
    return found


def moved(before: dict[tuple[str, str], Any], loader: Any) -> list[str]:
    """What a pass has changed in them, which no checkpoint holds, in sentences."""
    now = numbers(loader)
    return [
        f"{owner}.{key} went from {value!r} to {now[owner, key]!r} while the loader was gone through, and is not saved: a resumed run "
        f"begins with what its cell builds. Give {owner} state_dict() and load_state_dict() if its samples hang on it."
        for (owner, key), value in before.items()
        if (owner, key) in now and now[owner, key] != value
    ]
