"""Where a loop stands in its loader, and how to come back there: the same batches in the same order, with the same randomness.

The recipe: keep the random states as they were before ``iter(loader)``. To come back, set them, make the iterator, take the batches that
were done (so that workers and datasets draw what they drew), then set the random states of the save. Datasets and samplers that keep a
state begin the epoch in the one that they began it in. An iterable dataset that keeps a state is asked for the state in mid-epoch instead.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields
from itertools import chain
from typing import Any

from torch import Tensor

from . import encode, loader_states, random_states
from .errors import MismatchError
from .items import generators
from .loader_states import States
from .words import plural


@dataclass
class Place:
    """Where a run stands: ``batch`` batches of the ``part``-th loader of this epoch are done."""

    epoch: int = 0
    part: int = 0
    batch: int = 0
    loader: str | None = None
    """The class of the loader and its length, to notice another one."""
    start: dict[str, Any] | None = None
    """The random states, and the states of datasets and samplers, before ``iter(loader)``; None between two epochs."""
    over: bool = False
    """This loader was gone through to its end."""
    state: Any = None
    """The state of an iterable dataset in mid-epoch, or of its loader, packed, where it keeps one."""
    now: dict[str, list[Any]] = field(default_factory=dict)
    """States of the random generators that the loaders of an epoch hold, at the save, by the loader's number."""
    then: dict[str, list[Any]] = field(default_factory=dict)
    """States of the datasets and samplers of loaders that are not being gone through, by the loader's number."""
    tensors: dict[str, Tensor] = field(default_factory=dict)
    """Those that the states name."""

    def tree(self) -> dict[str, Any]:
        """All but the tensors, JSON-ready."""
        return {each.name: getattr(self, each.name) for each in fields(self) if each.name != "tensors"}


def place_of(tree: dict[str, Any], tensors: dict[str, Tensor]) -> Place:
    """From a checkpoint; its tensors are copied, for they may lie in a file that is written again."""
    mine = {name: tensor.clone() for name, tensor in tensors.items() if name.startswith(f"{TENSORS}/")}
    return Place(**{each.name: tree[each.name] for each in fields(Place) if each.name in tree}, tensors=mine)


TENSORS = "position"
"""How the names of the tensors in the states of loaders begin."""


class Course:
    """One pass over a loader, from the beginning or from a ``Place``; ``key`` is the loader's number in its epoch."""

    def __init__(self, loader: Any, key: str, touched: Callable[[Any], bool], say: Callable[[str], None]):
        self.loader = loader
        self._say = say
        self._touched = touched  # whether a thing is tracked: its state was loaded already
        self._key = key
        self._found = generators.find(loader)
        self._things = loader_states.find(loader)
        self._iterator: Iterator[Any] | None = None
        self._tensors: dict[str, Tensor] = {}  # of the states in ``start``
        self.start: dict[str, Any] | None = None
        self.over = False
        """It was gone through to its end."""

    def begin(self, then: States | None = None) -> Iterator[Any]:
        """A fresh pass. The random states as they are now are kept. ``then``: the states of a run before, to begin with."""
        if then is not None:
            loader_states.restore(self._things, then, self._touched)
        states = loader_states.capture(self._things, f"{TENSORS}/{self._key}/start", copy=True)
        self.start = {"random": random_states.capture(), "generators": self.generators(), "states": states.trees}
        self._tensors = states.tensors
        self._iterator = iter(self.loader) if then is None else self._fresh()
        return self._iterator

    def generators(self) -> list[Any]:
        """The states of the random generators that the loader holds."""
        return generators.capture(self._found)

    def set_generators(self, states: list[Any]) -> None:
        try:
            generators.restore(self._found, states)
        except MismatchError as error:
            self._say(f"{error} What it draws from them is not exact.")

    def made(self) -> list[str]:
        """Generators that came while it was gone through, in a sentence: a resumed run cannot set what is not there yet."""
        more = len(generators.find(self.loader)) - len(self._found)
        if more < 1:
            return []
        return [
            f"the data loader made {plural(more, 'random generator')} while it was gone through, and a resumed run begins without: make "
            "them where the dataset is made (in __init__)."
        ]

    def states(self) -> States:
        """The states of its datasets and samplers."""
        return loader_states.capture(self._things, f"{TENSORS}/{self._key}/then", copy=False)

    def _fresh(self) -> Iterator[Any]:
        """A pass from states that were loaded. Some say "at the end of the pass": the pass that ends there is over, and the next begins."""
        if not self._things:
            return iter(self.loader)
        random, own = random_states.capture(), self.generators()
        batches = iter(self.loader)
        first = next(batches, _END)
        if first is not _END:
            return chain([first], batches)
        random_states.restore(random)
        self.set_generators(own)
        return iter(self.loader)

    def go_on(self, place: Place, random: Any, now: list[Any] | None) -> Iterator[Any]:
        """The rest of a pass.

        ``random`` and ``now`` are the global states and the loader's own of the save; they hold when the next batch is taken.
        """
        self.start = place.start
        begin = f"{TENSORS}/{self._key}/start/"
        self._tensors = {name: tensor for name, tensor in place.tensors.items() if name.startswith(begin)}
        if place.start is not None:
            random_states.restore(place.start["random"])
            self.set_generators(place.start["generators"])
            loader_states.restore(self._things, States(place.start.get("states", []), self._tensors), self._touched)
        keeps = keeper(self.loader)
        if place.state is not None and keeps is not None:
            keeps.load_state_dict(encode.unpack(place.state, place.tensors))
            self._iterator = iter(self.loader)
        elif place.over or (place.batch == length(self.loader) and not self._things):
            self.over = True
            self._iterator = iter(())
        else:
            if getattr(self.loader, "next_iter_state", None) is not None:
                self.loader.next_iter_state = None  # a StatefulDataLoader that is tracked was given its state; here it is replayed
            self._iterator = self._fresh()
            self._take(place.batch, self._iterator)
        if now is not None:
            self.set_generators(now)
        random_states.restore(random)
        return self._iterator

    def _take(self, count: int, batches: Iterator[Any]) -> None:
        """The batches that were done, once more, without training."""
        begin, told = time.monotonic(), False
        for at in range(count):
            if next(batches, _END) is _END:
                self._say(f"the loader ended after {plural(at, 'batch')}, and {count} were done when it was saved: this epoch is over.")
                return
            spent = time.monotonic() - begin
            if not told and spent > _PATIENCE:
                told = True
                self._say(
                    f"taking the first {plural(count, 'batch')} of the epoch from the loader again, "
                    f"about {spent / (at + 1) * count:.0f} s in all ..."
                )

    def place(self, epoch: int, part: int, batch: int) -> Place:
        keeps = keeper(self.loader)
        state, tensors = None, self._tensors
        if keeps is not None and not self.over:
            found = loader_states.capture([keeps], f"{TENSORS}/{self._key}/now", copy=False)
            state, tensors = found.trees[0], tensors | found.tensors
        return Place(epoch, part, batch, name(self.loader), self.start, self.over, state, tensors=tensors)


_END = object()
_PATIENCE = 2.0  # seconds without a word


def length(loader: Any) -> int | None:
    """How many batches it gives; None where it does not know."""
    try:
        return len(loader)
    except (TypeError, NotImplementedError):
        return None


def name(loader: Any) -> str:
    """What it is, as far as its batches depend on it."""
    count = length(loader)
    more = [f"batch_size {size}"] if isinstance(size := getattr(loader, "batch_size", None), int) else []
    samples = length(dataset) if (dataset := getattr(loader, "dataset", None)) is not None else None
    more += [f"{samples:,} samples"] if samples is not None else []
    more += [plural(workers, "worker process")] if (workers := getattr(loader, "num_workers", 0)) else []
    about = f" ({', '.join(more)})" if more else ""
    return type(loader).__name__ + (f" of {plural(count, 'batch')}" if count is not None else "") + about


def keeper(loader: Any) -> Any:
    """What knows its own position in mid-epoch: a loader whose iterable dataset keeps a state, or this dataset itself where no worker
    process has it. Else None: it is replayed.

    A StatefulDataLoader over a map-style dataset skips indices without drawing what its workers drew.
    """
    dataset = getattr(loader, "dataset", None)
    if dataset is None:
        return loader if loader_states.keeps(loader) else None
    if not loader_states.keeps(dataset) or not _iterable(dataset):
        return None
    if loader_states.keeps(loader):
        return loader
    return dataset if getattr(loader, "num_workers", 0) == 0 else None


def doubts(loader: Any) -> list[str]:
    """What of its position cannot be restored exactly, in sentences."""
    found = loader_states.doubts(loader)
    dataset = getattr(loader, "dataset", None)
    workers = getattr(loader, "num_workers", 0)
    if dataset is None:
        if iter_is_itself(loader) and not loader_states.keeps(loader):
            found.append(
                f"{type(loader).__name__} can be gone through only once: a resumed run begins with what a new one gives, and a second "
                "epoch is empty. Give the DataLoader (or a list) itself."
            )
        return found
    if _iterable(dataset) and keeper(loader) is None:
        advice = "give it state_dict and load_state_dict" + (" and use torchdata's StatefulDataLoader" if workers else "")
        found.append(
            f"{type(dataset).__name__} is an iterable dataset without a state: a resumed run goes through it from its beginning and leaves "
            f"out the batches that were done, which is exact only if it gives the same ones again; {advice}."
        )
    if workers and loader_states.keeps(loader) and keeper(loader) is loader:
        found.append(
            f"{type(dataset).__name__} goes on from its own state, but the random numbers of the {type(loader).__name__}'s workers "
            "begin anew after a resume: draw from a generator that stands in its state_dict(), or use num_workers=0."
        )
    if workers and getattr(loader, "persistent_workers", False):
        found.append(
            "persistent_workers=True: the workers' random states run on from epoch to epoch, and a resumed run starts them anew; random "
            "augmentation is exact only with persistent_workers=False."
        )
    if workers and not getattr(loader, "in_order", True):
        found.append("in_order=False: the order of the batches depends on which worker is faster, in any run.")
    return found


def iter_is_itself(loader: Any) -> bool:
    return hasattr(type(loader), "__next__")


def _iterable(dataset: Any) -> bool:
    from torch.utils.data import IterableDataset

    return isinstance(dataset, IterableDataset)
