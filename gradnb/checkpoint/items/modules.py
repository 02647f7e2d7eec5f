"""Modules: their state_dict, and the flags beside it: requires_grad of each parameter, training of each module, which weights are tied."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.parameter import is_lazy

from ...recorder.roots import unwrapped
from .. import shards
from ..encode import TAG, Packer, Place, Unpacker
from ..encode_tensors import identity, stored, write_all
from ..errors import DamagedError
from .item import Item, listed, unlike

_USUAL = {"version": 1}
"""What ``state_dict()._metadata`` says of almost every module; the others are written."""


class Module(Item):
    kind = "module"
    order = 1

    def save(self, packer: Packer, place: Place) -> dict[str, Any]:
        module = unwrapped(self.thing)
        state = module.state_dict()
        metadata = {key: dict(value) for key, value in getattr(state, "_metadata", {}).items() if value != _USUAL}
        with packer.plain():
            entries = list(map(list, write_all(packer, state, place).items()))
        known = packer.parameters.get(id(self)) or self.parameters()
        frozen = sorted(name.removeprefix(f"{self.name}.") for name, parameter in known.items() if not parameter.requires_grad)
        if fixed := set(frozen):
            packer.settled.update(tree["name"] for key, tree in entries if key in fixed and _is_tensor(tree) and "name" in tree)
        return {
            "state": entries,
            "metadata": packer.value(metadata, place.at("metadata")),
            "frozen": frozen,
            "evaluating": sorted(name for name, part in module.named_modules() if not part.training),
        }

    def check(self, record: Mapping[str, Any], unpacker: Unpacker) -> list[str]:
        module = unwrapped(self.thing)
        now = module.state_dict(keep_vars=True)
        saved = _entries(record)
        grown: list[str] = []
        found = [f"{self.name}.{key}: in the checkpoint, not in the module now" for key in saved if key not in now]
        found += [f"{self.name}.{key}: in the module now, not in the checkpoint" for key in now if key not in saved]
        for key, tree in saved.items():
            value = now.get(key)
            if isinstance(value, Tensor) and _is_tensor(tree) and not is_lazy(value):
                if value.is_meta:
                    found.append(f"{self.name}.{key}: is on the meta device, without memory to load into: call to_empty(device=...) first")
                elif difference := unlike(stored(unpacker, tree), value):
                    (grown if _resizable(module, key, stored(unpacker, tree)) else found).append(f"{self.name}.{key}: {difference}")
        if found:  # a model of another shape has other buffers, too
            found += grown
        return found + self._ties(saved, now)

    def _ties(self, saved: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
        """Weights that were one tensor must still be one, and the other way round: else the next step would differ."""
        before = _groups((tree["name"], key) for key, tree in saved.items() if _is_tensor(tree) and "name" in tree and key in now)
        tensors = {
            key: value for key, value in now.items() if isinstance(value, Tensor) and not is_lazy(value) and value.numel() and key in saved
        }
        after = _groups((identity(value), key) for key, value in tensors.items())
        before = {key: group & tensors.keys() for key, group in before.items()}
        found = []
        for group in {frozenset(group): None for group in before.values()}:
            if len(group) > 1 and any(after[key] != group for key in group if len(after[key]) < len(group)):
                found.append(f"{self.name}: {listed(sorted(group))} were one tied tensor, and are separate now")
        for group in {frozenset(group): None for group in after.values()}:
            if len(group) > 1 and any(len(before[key]) < len(group) for key in group):
                found.append(f"{self.name}: {listed(sorted(group))} were separate tensors, and are one tied tensor now")
        return found

    def load(self, record: Mapping[str, Any], unpacker: Unpacker) -> list[str]:
        module = unwrapped(self.thing)
        saved = _entries(record)
        notes = self._resize(module, saved, unpacker)
        now = module.state_dict()
        state = {
            key: shards.fit(stored(unpacker, tree), now.get(key)) if _is_tensor(tree) else unpacker.read(tree)
            for key, tree in saved.items()
        }
        metadata = {name: dict(_USUAL) for name, _ in module.named_modules(remove_duplicate=False)}
        state_dict = _StateDict(state)
        state_dict._metadata = metadata | unpacker.read(record["metadata"])
        with torch.no_grad():
            module.load_state_dict(state_dict)  # copies into the user's tensors
            self._own(module, unpacker.tensors.values())
        return notes + self._flags(module, set(record["frozen"]), set(record["evaluating"]))

    def _resize(self, module: torch.nn.Module, saved: Mapping[str, Any], unpacker: Unpacker) -> list[str]:
        """Buffers that grow in a training (a memory bank) get the size that they had."""
        changed = []
        for key, tree in saved.items():
            if _is_tensor(tree) and _resizable(module, key, value := stored(unpacker, tree)):
                path, _, name = key.rpartition(".")
                owner = module.get_submodule(path)
                owner._buffers[name] = owner._buffers[name].new_empty(value.shape)  # type: ignore[union-attr]
                changed.append(f"{self.name}.{key}")
        return [f"buffers of another size than saved have the saved size now: {listed(changed)}"] if changed else []

    def _own(self, module: torch.nn.Module, read: Iterable[Tensor]) -> None:
        """A module that takes tensors over instead of copying them must not hold memory of the file."""
        borrowed = {identity(tensor) for tensor in read if isinstance(tensor, Tensor)}
        for value in module.state_dict(keep_vars=True).values():
            if isinstance(value, Tensor) and not is_lazy(value) and identity(value) in borrowed:
                value.data = value.data.clone()

    def _flags(self, module: torch.nn.Module, frozen: set[str], evaluating: set[str]) -> list[str]:
        notes = []
        changed: dict[bool, list[str]] = {True: [], False: []}
        for name, parameter in _parameters(module):
            if parameter.requires_grad == (name in frozen):
                parameter.requires_grad_(name not in frozen)
                changed[name not in frozen].append(f"{self.name}.{name}")
        for wanted, names in changed.items():
            if names:
                notes.append(f"requires_grad is {wanted} as saved, it was {not wanted} here: {listed(names)}")
        for wanted in (True, False):
            parts = [
                (name, part) for name, part in module.named_modules() if part.training != wanted and (name not in evaluating) == wanted
            ]
            for _, part in parts:
                part.training = wanted  # not train(): a module may override it to do more
            if parts:
                names = [f"{self.name}.{name}" if name else self.name for name, _ in parts]
                notes.append(f"{'train' if wanted else 'eval'} mode as saved, it was the other one here: {listed(names)}")
        return notes

    def parameters(self) -> dict[str, Tensor]:
        return {f"{self.name}.{name}": parameter for name, parameter in _parameters(unwrapped(self.thing))}


def _resizable(module: torch.nn.Module, key: str, saved: Tensor) -> bool:
    """Whether it is a buffer that differs from the saved one in nothing but its size."""
    path, _, name = key.rpartition(".")
    try:
        now = module.get_submodule(path)._buffers.get(name)
    except AttributeError:
        return False
    if now is None or is_lazy(now) or not isinstance(saved, Tensor):
        return False
    same = now.layout is saved.layout is torch.strided
    return same and now.dtype == saved.dtype and now.dim() == saved.dim() and now.shape != saved.shape


class _StateDict(dict):
    """A dict that can carry ``_metadata``, as torch's own."""

    _metadata: dict[str, Any]


def _parameters(module: torch.nn.Module) -> list[tuple[str, Tensor]]:
    return list(module.named_parameters())


def _entries(record: Mapping[str, Any]) -> dict[str, Any]:
    entries = record["state"]
    if not isinstance(entries, list) or not all(
        isinstance(entry, list) and len(entry) == 2 and isinstance(entry[0], str) for entry in entries
    ):
        raise DamagedError("The checkpoint's state of a module is no list of names and values.")
    return dict(entries)


def _is_tensor(tree: Any) -> bool:
    return isinstance(tree, dict) and tree.get(TAG) in ("tensor", "sparse")


def _groups(pairs: Iterable[tuple[Any, str]]) -> dict[str, set[str]]:
    """Each name -> all names with the same key."""
    by_key: dict[Any, set[str]] = {}
    for key, name in pairs:
        by_key.setdefault(key, set()).add(name)
    return {name: group for group in by_key.values() for name in group}
