"""What a checkpoint holds: the things that the user named, saved together and restored all or none."""

from __future__ import annotations

import keyword
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from ..errors import UsageError
from . import untracked
from .encode import Packer, Place, Unpacker
from .errors import CheckpointError, DamagedError, MismatchError
from .gradients import Gradients
from .items import Item, inner, item
from .items.values import Plain, is_plain

SHOWN = 10
"""How many differences a MismatchError lists."""


class Values:
    """The plain values that are tracked, as attributes: ``values.best = 0.9``."""

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"No plain value {name!r} is tracked{_among(self)}. Track it first: ckpt.track({name}=...).")

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in vars(self):
            self.__getattr__(name)
        if not is_plain(value):
            raise UsageError(
                f"values.{name} takes a number, a string, None, or a tuple of them, not something of type {type(value).__name__}: "
                "track that by itself."
            )
        vars(self)[name] = value

    def __delattr__(self, name: str) -> None:
        raise UsageError(f"values.{name} stays tracked; set it to None.")

    def __iter__(self) -> Iterator[str]:
        return iter(vars(self))

    def __repr__(self) -> str:
        return f"Values({', '.join(f'{name}={value!r}' for name, value in vars(self).items())})"


class Tracked:
    """Named things, each as the kind of item that it is, the gradients of their parameters, and ``values``."""

    def __init__(self) -> None:
        self.values = Values()
        self._items: dict[str, Item] = {}
        self._gradients = Gradients()

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def add(self, **things: Any) -> None:
        """Track these; a name that is tracked already is given to the new thing. UsageError, and nothing added, for what cannot be."""
        new: dict[str, Item] = {}
        for name, thing in things.items():
            if name.startswith("_") or keyword.iskeyword(name):
                raise UsageError(f"{name!r} is no name for a tracked thing: it must not begin with an underscore, nor be a word of Python.")
            new[name] = self._item(name, thing)
        for name, made in new.items():
            vars(self.values).pop(name, None)
            if isinstance(made, Plain):
                vars(self.values)[name] = things[name]
            self._items[name] = made
        self._watch()

    def _item(self, name: str, thing: Any) -> Item:
        found = item(f"tracked {name!r}", thing)
        if found is not None:
            found.name = name
            return found
        if isinstance(thing, tuple) and not is_plain(thing):
            raise UsageError(f"tracked {name!r} is a tuple of things that change: track them by names of their own, or in a list.")
        Packer().value(thing, Place(name))  # says what it is and what to do, where that cannot be saved
        if not is_plain(thing):
            raise UsageError(f"tracked {name!r} is of type {type(thing).__name__}, which never changes: it needs not be tracked.")
        return Plain(name, self.values)

    def save(self) -> tuple[dict[str, Any], dict[str, Tensor], frozenset[str]]:
        """The state of all as ``(tree, tensors, settled)``. The tensors are the user's own, not copies.

        ``settled`` names tensors of parameters that require no gradient: candidates for not being written again, not a promise (a teacher
        that follows its student requires none either).
        """
        self._watch()
        packer, parameters = self._packer()
        things = {}
        for name, each in self._items.items():
            try:
                things[name] = {"kind": each.kind, **each.save(packer, Place(name))}
            except (UsageError, CheckpointError):
                raise
            except RecursionError:
                raise UsageError(f"tracked {name!r} is nested too deep for a checkpoint.") from None
            except Exception as error:
                raise UsageError(f"The state of tracked {name!r} ({type(each.thing).__name__}) cannot be read: {_said(error)}") from error
        settled = frozenset(packer.settled)
        gradients = self._gradients.save(parameters, packer)
        return {"things": things, "gradients": gradients}, packer.tensors, settled

    def check(self, tree: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> list[str]:
        """What keeps this state from being loaded, a sentence each; touches nothing."""
        return self._check(_things(tree), self._unpacker(tensors))

    def load(self, tree: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> list[str]:
        """Put a saved state into all that is tracked, in place, and give notes on what the user may not expect.

        MismatchError names what differs, and nothing was touched. Where a thing's own ``load_state_dict`` raises, all is put back as it was
        before, and the MismatchError names the thing.
        """
        things, unpacker = _things(tree), self._unpacker(tensors)
        differences = self._check(things, unpacker)
        if differences:
            more = len(differences) - SHOWN
            lines = differences[:SHOWN] + ([f"and {more} more"] if more > 0 else [])
            raise MismatchError("What is saved does not fit what is tracked, and nothing was loaded:\n  " + "\n  ".join(lines))
        before = self._copy()
        notes: list[str] = []
        current = ""
        try:
            for name in sorted(things, key=lambda name: self._items[name].order):
                current = name
                notes += self._items[name].load(things[name], unpacker)
            current = "gradients"
            self._gradients.load(tree.get("gradients", []), self.parameters(), unpacker)
        except BaseException as error:
            self._put_back(before)
            if not isinstance(error, Exception):  # the user interrupted
                raise
            raise MismatchError(f"{current} could not take up its saved state, and all is as it was before: {_said(error)}") from error
        fresh = [name for name in self._items if name not in things]
        if fresh:
            notes.append(f"not in the checkpoint, begins with the value given: {', '.join(fresh)}")
        return notes + unpacker.notes

    def parameters(self) -> dict[str, Tensor]:
        """All tensors that a gradient may reach, by name: the modules' own names first, an optimizer's for those that no module holds."""
        return self._named({id(each): each.parameters() for each in self._items.values()})

    def _named(self, walked: Mapping[int, Mapping[str, Tensor]]) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        seen: set[int] = set()
        for _, each in sorted(self._items.items(), key=lambda pair: (pair[1].kind == "optimizer", pair[0])):
            for name, parameter in walked[id(each)].items():
                if id(parameter) not in seen:
                    seen.add(id(parameter))
                    found[name] = parameter
        return found

    def holds(self, thing: Any) -> bool:
        return any(each.thing is thing for each in self._items.values())

    def warnings(self) -> list[str]:
        """What cannot be restored exactly, a sentence each: to be said before training."""
        things = {name: each.thing for name, each in self._items.items() if not isinstance(each, Plain)}
        try:
            return untracked.warnings(things, self.parameters())
        except Exception as error:
            return [f"gradnb could not look for what is not tracked ({_said(error)})"]

    def close(self) -> None:
        """Take gradnb's hooks off the user's optimizers. Tracking the same again puts them back."""
        self._gradients.close()

    def _watch(self) -> None:
        found: list[Any] = []
        for each in self._items.values():
            thing = each.thing
            found += thing.values() if isinstance(thing, dict) else thing if isinstance(thing, (list, deque)) else [thing]
        self._gradients.watch([each for each in found if isinstance(each, torch.optim.Optimizer)])

    def _packer(self) -> tuple[Packer, dict[str, Tensor]]:
        """With what is known of the parameters, and these by name."""
        packer = Packer(inner)
        packer.parameters = {id(each): each.parameters() for each in self._items.values()}
        parameters = self._named(packer.parameters)
        packer.names = _called(parameters)
        return packer, parameters

    def _unpacker(self, tensors: Mapping[str, Tensor]) -> Unpacker:
        unpacker = Unpacker(tensors)
        unpacker.parameters = self.parameters()
        unpacker.names = _called(unpacker.parameters)
        return unpacker

    def _check(self, things: Mapping[str, Any], unpacker: Unpacker) -> list[str]:
        found = [f"{name}: in the checkpoint, not tracked now" for name in things if name not in self._items]
        for name, each in self._items.items():
            record = things.get(name)
            if record is None:
                if not isinstance(each, Plain):
                    found.append(f"{name}: tracked now, not in the checkpoint")
            elif record["kind"] != each.kind:
                found.append(f"{name}: saved as a {_KINDS.get(record['kind'], record['kind'])}, now it is a {_KINDS[each.kind]}")
            else:
                try:
                    found += each.check(record, unpacker)
                except CheckpointError:
                    raise
                except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
                    raise DamagedError(f"The checkpoint's record of {name!r} cannot be read: {_said(error)}") from error
        return found

    def _copy(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """The state as it is now, in memory of its own."""
        packer, parameters = self._packer()
        things: dict[str, Any] = {}
        for name, each in self._items.items():
            try:
                things[name] = each.save(packer, Place(name))
            except Exception:  # such as a lazy module without shapes yet: there is nothing to put back
                continue
        gradients = [[name, packer.value(p.grad, Place("gradients").at(name))] for name, p in parameters.items() if p.grad is not None]
        return {"things": things, "gradients": gradients}, {
            name: tensor.detach().to("cpu", copy=True) for name, tensor in packer.tensors.items()
        }

    def _put_back(self, before: tuple[dict[str, Any], dict[str, Tensor]]) -> None:
        tree, tensors = before
        unpacker = self._unpacker(tensors)
        for name, record in tree["things"].items():
            try:
                self._items[name].load(record, unpacker)
            except Exception:  # the thing that raised on the saved state may raise again; the others still go back
                continue
        self._gradients.load(tree["gradients"], self.parameters(), unpacker)


_KINDS = {
    "module": "module",
    "optimizer": "optimizer",
    "stateful": "thing with state_dict()",
    "value": "value restored in place",
    "generator": "random generator",
    "plain": "plain value",
}


def _things(tree: Mapping[str, Any]) -> dict[str, Any]:
    things = tree.get("things") if isinstance(tree, Mapping) else None
    if not isinstance(things, dict) or not all(
        isinstance(record, dict) and isinstance(record.get("kind"), str) for record in things.values()
    ):
        raise DamagedError("The checkpoint's tree does not say what was tracked.")
    return things


def _called(parameters: Mapping[str, Tensor]) -> dict[int, str]:
    """Names that stand for the same parameter in two runs: those of an optimizer's own numbers say nothing."""
    return {id(parameter): name for name, parameter in parameters.items() if not name.endswith("]")}


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _among(values: Values) -> str:
    names = ", ".join(vars(values))
    return f", only {names}" if names else ""
