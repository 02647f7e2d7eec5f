"""Lists, dicts, sets, deques, arrays and tensors: restored in place, so that whoever holds them goes on with the restored ones."""

from __future__ import annotations

import sys
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from ...errors import UsageError
from .. import shards
from ..encode import Packer, Place, Saved, Unpacker, pack
from ..encode_arrays import is_array
from ..encode_generators import difference, is_generator, set_state, state
from .item import Item, unlike

Choose = Callable[[str, Any], Item | None]
"""Which item a thing inside a container is: ``items.item``."""


_CHANGING = (list, dict, set, deque, bytearray, Tensor)


class Value(Item):
    kind = "value"
    order = 3

    def __init__(self, name: str, thing: Any, choose: Choose):
        super().__init__(name, thing)
        self._choose = choose
        self._filled: set[int] = set()
        """Ids of what took up a saved value in this load."""

    def save(self, packer: Packer, place: Place) -> dict[str, Any]:
        if type(self.thing) is defaultdict:  # its factory is the user's own and stays where it is
            return {"state": packer.value(dict(self.thing), place)}
        return {"state": packer.value(self.thing, place)}

    def check(self, record: Mapping[str, Any], unpacker: Unpacker) -> list[str]:
        saved = unpacker.value(record["state"])
        now = dict if type(self.thing) is defaultdict else type(self.thing)
        if isinstance(self.thing, Tensor):
            now = Tensor
        if not isinstance(saved, now):
            return [f"{self.name}: saved a {type(saved).__name__}, now a {type(self.thing).__name__}"]
        return list(self._differences(self.thing, saved, self.name, unpacker, True))

    def _differences(self, live: Any, saved: Any, where: str, unpacker: Unpacker, outer: bool = False) -> Iterator[str]:
        if isinstance(saved, Saved):
            item = self._choose(where, live)
            if item is None or item.kind != saved.record.get("kind"):
                was = saved.record.get("class", saved.record.get("kind"))
                yield f"{where}: the state of a {was} is saved, {_called(live)} is there now"
            else:
                yield from item.check(saved.record, unpacker)
        elif isinstance(saved, Tensor) and isinstance(live, Tensor):
            if (text := unlike(saved, live)) and (outer or live.requires_grad or saved.requires_grad):
                yield f"{where}: {text}"
        elif outer and is_array(type(live)):
            if (live.shape, live.dtype) != (saved.shape, saved.dtype):
                yield f"{where}: saved {saved.shape} {saved.dtype}, now {live.shape} {live.dtype}"
        elif is_generator(type(live)) and is_generator(type(saved)):
            if text := difference(live, state(saved)):
                yield f"{where}: {text}"
        elif isinstance(saved, dict):
            now = live if isinstance(live, dict) else {}
            for key, value in saved.items():
                yield from self._differences(now.get(key), value, f"{where}[{key!r}]", unpacker)
        elif isinstance(saved, (list, tuple, deque)):
            items = list(live) if isinstance(live, (list, tuple, deque)) else []
            for i, value in enumerate(saved):
                yield from self._differences(items[i] if i < len(items) else None, value, f"{where}[{i}]", unpacker)

    def load(self, record: Mapping[str, Any], unpacker: Unpacker) -> list[str]:
        notes: list[str] = []
        saved = unpacker.value(record["state"])
        if isinstance(self.thing, deque) and isinstance(saved, deque) and saved.maxlen != self.thing.maxlen:
            notes.append(f"{self.name}: saved with maxlen={saved.maxlen}, goes on with maxlen={self.thing.maxlen}")
        self._filled = set()
        with torch.no_grad():
            self._fill(self.thing, saved, self.name, unpacker, notes)
        return notes

    def _fill(self, live: Any, saved: Any, where: str, unpacker: Unpacker, notes: list[str]) -> Any:
        """What stands there afterwards: the live thing where it can take the saved up, else the saved one."""
        if isinstance(saved, Saved):
            item = self._choose(where, live)
            assert item is not None  # check() has seen to it
            notes += item.load(saved.record, unpacker)
            return live
        if isinstance(live, _CHANGING) or is_array(type(live)):
            if id(live) in self._filled and not _equal(live, saved):  # it stands in two places, where two things are saved
                return saved
            self._filled.add(id(live))
        if isinstance(saved, Tensor):
            return _into_tensor(live, saved)
        if is_array(type(saved)):
            return _into_array(live, saved)
        if is_generator(type(saved)):
            if not is_generator(type(live)) or difference(live, state(saved)):
                return saved
            set_state(live, state(saved))
            return live
        if isinstance(saved, dict):
            now = live if isinstance(live, dict) else {}
            items = {key: self._fill(now.get(key), value, f"{where}[{key!r}]", unpacker, notes) for key, value in saved.items()}
            target = live if isinstance(live, dict) and type(live) in (type(saved), OrderedDict, defaultdict) else saved
            target.clear()
            target.update(items)
            return target
        if isinstance(saved, (list, tuple, deque)) and not isinstance(saved, torch.Size):
            old = list(live) if isinstance(live, (list, tuple, deque)) else []
            new = [self._fill(old[i] if i < len(old) else None, value, f"{where}[{i}]", unpacker, notes) for i, value in enumerate(saved)]
            if type(saved) is tuple:
                return tuple(new)
            sequence: Any = live if type(live) is type(saved) else saved
            sequence.clear()
            sequence.extend(new)
            return sequence
        if isinstance(saved, (set, bytearray)) and type(live) is type(saved):
            live.clear()
            (live.update if isinstance(live, set) else live.extend)(saved)
            return live
        return saved

    def parameters(self) -> dict[str, Tensor]:
        return dict(_tensors(self.thing, self.name, self._choose))


class Plain(Item):
    """A value that cannot change in place: ``ckpt.values.best``. ``thing`` is the namespace."""

    kind = "plain"
    order = 4

    def save(self, packer: Packer, place: Place) -> dict[str, Any]:
        return {"state": packer.value(vars(self.thing)[self.name], place)}

    def check(self, record: Mapping[str, Any], unpacker: Unpacker) -> list[str]:
        unpacker.value(record["state"])
        return []

    def load(self, record: Mapping[str, Any], unpacker: Unpacker) -> list[str]:
        vars(self.thing)[self.name] = unpacker.value(record["state"])
        return []


def is_plain(value: Any) -> bool:
    """Whether nothing in it can change in place."""
    if isinstance(value, (tuple, frozenset)):
        return all(map(is_plain, value))
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, numpy.generic):
        return True
    return value is None or isinstance(value, (bool, int, float, complex, str, bytes, range, torch.dtype, torch.device)) or _dated(value)


def _dated(value: Any) -> bool:
    return type(value).__module__ in ("datetime", "decimal", "fractions", "pathlib")


def _equal(one: Any, other: Any) -> bool:
    """To the last bit."""
    try:
        (tree, tensors), (wanted, others) = pack(one, ""), pack(other, "")
    except UsageError:  # states of objects: they are taken up twice by the same objects
        return True
    return tree == wanted and all(_bits(tensor) == _bits(others[name]) for name, tensor in tensors.items())


def _bits(tensor: Tensor) -> tuple[Any, ...]:
    return tensor.dtype, tensor.shape, tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).tolist()


def _into_tensor(live: Any, saved: Tensor) -> Tensor:
    if not isinstance(live, Tensor) or (live.shape, live.dtype, live.layout) != (saved.shape, saved.dtype, saved.layout):
        return saved
    live.detach().copy_(shards.fit(saved, live))
    if live.is_leaf and live.requires_grad != saved.requires_grad:
        live.requires_grad_(saved.requires_grad)
    return live


def _into_array(live: Any, saved: Any) -> Any:
    if not is_array(type(live)) or (live.shape, live.dtype) != (saved.shape, saved.dtype) or not live.flags.writeable:
        return saved
    live[...] = saved
    return live


def _tensors(value: Any, name: str, choose: Choose, depth: int = 0) -> Iterator[tuple[str, Tensor]]:
    if isinstance(value, Tensor):
        if value.is_leaf and value.requires_grad:
            yield name, value
    elif isinstance(value, dict) and depth < 5:
        for key, item in value.items():
            yield from _tensors(item, f"{name}[{key!r}]", choose, depth + 1)
    elif isinstance(value, (list, tuple, deque)) and depth < 5 and len(value) < 10_000:
        for i, item in enumerate(value):
            yield from _tensors(item, f"{name}[{i}]", choose, depth + 1)
    elif isinstance(value, torch.nn.Module):
        inner = choose(name, value)
        yield from (inner.parameters() if inner else {}).items()


def _called(value: Any) -> str:
    return "nothing" if value is None else f"a {type(value).__name__}"
