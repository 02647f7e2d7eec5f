"""Random generators that the user tracks, and those that a data loader holds somewhere inside."""

from __future__ import annotations

import collections
import functools
import random
import sys
import types
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch

from ..encode import Packer, Place, Unpacker
from ..encode_generators import difference, is_generator, set_state, state
from ..errors import MismatchError
from ..words import plural
from .item import Item

DEPTH, OBJECTS, WIDTH = 12, 20_000, 64
"""How far, at how many objects, and at how many elements of a container the search looks: a dataset may be a list of a million samples."""

_LOADER = ("dataset", "sampler", "batch_sampler", "generator", "collate_fn", "worker_init_fn")
_LEAVES = (
    str,
    bytes,
    bytearray,
    int,
    float,
    complex,
    type(None),
    torch.Tensor,
    types.ModuleType,
    types.BuiltinFunctionType,
    types.CodeType,
)


class Generator(Item):
    kind = "generator"
    order = 3

    def save(self, packer: Packer, place: Place) -> dict[str, Any]:
        return state(self.thing)

    def check(self, record: Mapping[str, Any], unpacker: Unpacker) -> list[str]:
        text = difference(self.thing, record)
        return [f"{self.name}: {text}"] if text else []

    def load(self, record: Mapping[str, Any], unpacker: Unpacker) -> list[str]:
        set_state(self.thing, record)
        return []


def find(loader: Any, wanted: Callable[[Any], bool] = lambda value: is_generator(type(value))) -> list[Any]:
    """The random generators reachable from a loader: its dataset, samplers, collate function, and what these hold, in an order that is
    the same in another process that builds the same. Reads attributes as they are stored; calls nothing of the user's, iterates no dataset.
    ``wanted``: look for others than generators.

    Functions are looked into for closures, defaults, and the names of their module that they use. The generators of the process itself
    (``random``, ``numpy.random``, torch's default) are not among them: see ``random_states``.
    """
    found: list[Any] = []
    seen = {id(each) for each in _of_the_process()}
    queue = collections.deque((child, 0) for child in _first(loader))
    alive: list[Any] = []  # what was looked at is kept until the end: an id must not be used again meanwhile
    while queue and len(alive) < OBJECTS:
        value, depth = queue.popleft()
        one = type(value)
        if id(value) in seen or issubclass(one, _LEAVES) or one in weakref.ProxyTypes:
            continue
        seen.add(id(value))
        alive.append(value)
        if wanted(value):
            found.append(value)
        elif depth < DEPTH:
            queue.extend((child, depth + 1) for child in _children(value))
    return found


def capture(generators: Sequence[Any]) -> list[dict[str, Any]]:
    """Their states as JSON, in order."""
    return [state(each) for each in generators]


def restore(generators: Sequence[Any], tree: Sequence[Mapping[str, Any]]) -> None:
    """Set them all in place, or none: MismatchError where they are others than those that were saved."""
    if len(generators) != len(tree):
        raise MismatchError(
            f"The data loader held {plural(len(tree), 'random generator')} when it was saved, and holds {len(generators)} now."
        )
    differences = [f"{i}: {text}" for i, (each, record) in enumerate(zip(generators, tree)) if (text := difference(each, record))]
    if differences:
        raise MismatchError(f"The data loader holds other random generators than when it was saved: {'; '.join(differences)}.")
    for each, record in zip(generators, tree):
        set_state(each, record)


def _of_the_process() -> list[Any]:
    mine: list[Any] = [random._inst, torch.default_generator]  # type: ignore[attr-defined]
    numpy = sys.modules.get("numpy.random")
    if numpy is not None:
        mine.append(numpy.mtrand._rand)
    return mine


def _first(loader: Any) -> Iterator[Any]:
    """What a DataLoader is made of; anything else is looked at as it is."""
    attributes = _stored(loader)
    if "dataset" in attributes:
        yield from (attributes[key] for key in _LOADER if key in attributes)
    else:
        yield loader


def _children(value: Any) -> Iterator[Any]:
    one = type(value)
    if issubclass(one, dict):
        yield from _some(dict.values(value))
    elif issubclass(one, (list, tuple, collections.deque)):
        yield from _some(iter(value) if one in (list, tuple, collections.deque) else _plainly(value))
    elif one is types.FunctionType:
        yield from _of_function(value)
    elif one is types.MethodType:
        yield from (value.__self__, value.__func__)
    elif issubclass(one, functools.partial):
        yield from (value.func, value.args, value.keywords)
    elif issubclass(one, (staticmethod, classmethod)):
        yield value.__func__
    elif issubclass(one, type):
        yield from () if is_library(value) else _of_class(value)
        return
    if issubclass(one, types.FunctionType | types.MethodType):
        return
    yield from _stored(value).values()
    for base in one.__mro__:
        if not is_library(base):
            yield base


def _some(values: Any) -> Iterator[Any]:
    return (value for value, _ in zip(values, range(WIDTH)))


def _plainly(value: Any) -> Iterator[Any]:
    """The elements of an instance of a subclass, past an ``__iter__`` of the user's."""
    base: Any = next(each for each in (list, tuple, collections.deque) if issubclass(type(value), each))
    return base.__iter__(value)


def _stored(value: Any) -> dict[str, Any]:
    """Attributes as they are stored, without a property or a ``__getattr__`` of the user's."""
    found: dict[str, Any] = {}
    try:
        attributes = object.__getattribute__(value, "__dict__")
        if type(attributes) is dict:
            found.update((key, item) for key, item in list(attributes.items()) if key != "_iterator")
    except AttributeError:
        pass
    for base in type(value).__mro__:
        for key, slot in list(vars(base).items()):
            if type(slot) is types.MemberDescriptorType and base.__module__ not in sys.stdlib_module_names:
                try:
                    found.setdefault(key, slot.__get__(value))
                except AttributeError:  # a slot without a value
                    pass
    return found


def _of_class(one: type) -> Iterator[Any]:
    """What stands in a class of the user's: its methods, for the names that they use, and generators kept as attributes."""
    for item in list(vars(one).values()):
        if isinstance(item, property):
            yield from (each for each in (item.fget,) if each is not None)
        elif type(item) in (types.FunctionType, staticmethod, classmethod, functools.partial, list, tuple, dict) or is_generator(
            type(item)
        ):
            yield item


def _of_function(function: types.FunctionType) -> Iterator[Any]:
    if is_library(function):
        return
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # still empty
            pass
    yield from (function.__defaults__, function.__kwdefaults__)
    yield from (item for key, item in vars(function).items() if key == "__wrapped__")
    for name in _names(function.__code__):
        if name in function.__globals__:
            yield function.__globals__[name]


def _names(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if type(constant) is types.CodeType:
            yield from _names(constant)


def is_library(thing: Any) -> bool:
    """Whether a class or function is installed, not written by the user: what stands in its code is no generator of theirs."""
    module = getattr(thing, "__module__", None)
    return not isinstance(module, str) or _installed(module.partition(".")[0])


@functools.cache
def _installed(package: str) -> bool:
    if package in sys.stdlib_module_names and package != "__main__":
        return True
    file = getattr(sys.modules.get(package), "__file__", None)
    return isinstance(file, str) and ("site-packages" in file or "dist-packages" in file)
