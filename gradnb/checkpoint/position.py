"""Where a loop stands in its loader, and how to come back there: the same batches in the same order, with the same randomness.

The recipe: keep the random states as they were before ``iter(loader)``. To come back, set them, make the iterator, take the batches that
were done (so that workers and datasets draw what they drew), then set the random states of the save. A loader that keeps its own state and
whose dataset does (torchdata's StatefulDataLoader) is asked for it instead.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from . import encode, random_states
from .items import generators
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
    """The random states before ``iter(loader)``; None between two epochs."""
    state: Any = None
    """The loader's own state, packed, where it keeps one."""
    now: dict[str, list[Any]] = field(default_factory=dict)
    """States of the random generators that the loaders of an epoch hold, at the save, by the loader's number."""


class Course:
    """One pass over a loader, from the beginning or from a ``Place``."""

    def __init__(self, loader: Any):
        self.loader = loader
        self._found = generators.find(loader)
        self._iterator: Iterator[Any] | None = None
        self.start: dict[str, Any] | None = None

    def begin(self) -> Iterator[Any]:
        """A fresh pass. The random states as they are now are kept."""
        self.start = {"random": random_states.capture(), "generators": self.generators()}
        self._iterator = iter(self.loader)
        return self._iterator

    def generators(self) -> list[Any]:
        """The states of the random generators that the loader holds."""
        return generators.capture(self._found)

    def set_generators(self, states: list[Any]) -> None:
        generators.restore(self._found, states)

    def go_on(self, place: Place, random: Any, now: list[Any], say: Callable[[str], None]) -> Iterator[Any]:
        """The rest of a pass.

        ``random`` and ``now`` are the global states and the loader's own of the save; they hold when the next batch is taken.
        """
        self.start = place.start
        keeps = keeper(self.loader)
        if place.state is not None and keeps is not None:
            keeps.load_state_dict(encode.unpack(place.state, {}))
            self._iterator = iter(self.loader)
        else:
            if place.start is not None:
                random_states.restore(place.start["random"])
                self.set_generators(place.start["generators"])
            if place.batch == length(self.loader):
                self._iterator = iter(())
            else:
                self._iterator = iter(self.loader)
                self._take(place.batch, self._iterator, say)
        self.set_generators(now)
        random_states.restore(random)
        return self._iterator

    def _take(self, count: int, batches: Iterator[Any], say: Callable[[str], None]) -> None:
        """The batches that were done, once more, without training."""
        begin, told = time.monotonic(), False
        for at in range(count):
            if next(batches, _END) is _END:
                say(f"the loader ended after {plural(at, 'batch')}, and {count} were done when it was saved: this epoch is over.")
                return
            spent = time.monotonic() - begin
            if not told and spent > _PATIENCE:
                told = True
                say(
                    f"taking the first {plural(count, 'batch')} of the epoch from the loader again, "
                    f"about {spent / (at + 1) * count:.0f} s in all ..."
                )

    def place(self, epoch: int, part: int, batch: int, now: dict[str, list[Any]]) -> Place:
        keeps = keeper(self.loader)
        state = None
        if keeps is not None:
            state, tensors = encode.pack(keeps.state_dict(), "loader")
            if tensors:
                state = None  # a state that holds tensors is replayed
        return Place(epoch, part, batch, name(self.loader), self.start, state, now)


_END = object()
_PATIENCE = 2.0  # seconds without a word


def length(loader: Any) -> int | None:
    """How many batches it gives; None where it does not know."""
    try:
        return len(loader)
    except TypeError:
        return None


def name(loader: Any) -> str:
    count = length(loader)
    return f"{type(loader).__name__} of {count} batches" if count is not None else type(loader).__name__


def keeper(loader: Any) -> Any:
    """What knows its own position: a loader whose dataset keeps a state, or the dataset itself where no worker process has it. Else None.

    A StatefulDataLoader over a plain dataset skips indices without drawing what its workers drew: it is replayed like any other.
    """
    dataset = getattr(loader, "dataset", None)
    if dataset is None:
        return loader if _keeps(loader) else None
    if _keeps(loader):
        return loader if _keeps(dataset) else None
    return dataset if _keeps(dataset) and _iterable(dataset) and getattr(loader, "num_workers", 0) == 0 else None


def doubts(loader: Any) -> list[str]:
    """What of its position cannot be restored exactly, in sentences."""
    found = []
    dataset = getattr(loader, "dataset", None)
    workers = getattr(loader, "num_workers", 0)
    if dataset is None:
        if iter_is_itself(loader) and not _keeps(loader):
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


def _keeps(thing: Any) -> bool:
    return callable(getattr(thing, "state_dict", None)) and callable(getattr(thing, "load_state_dict", None))


def _iterable(dataset: Any) -> bool:
    from torch.utils.data import IterableDataset

    return isinstance(dataset, IterableDataset)
