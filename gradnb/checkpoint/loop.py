"""The loops a user writes: epochs, batches, or steps of their own; each knows when a step has ended and where it stands."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any, Protocol

from torch import Tensor

from ..errors import UsageError
from . import loader_states, surroundings
from .loader_states import States
from .position import Course, Place, doubts, length, name, place_of
from .words import plural


class Owner(Protocol):
    """What a loop asks of its Checkpointer."""

    def begin(self) -> None:
        """Before the first step: check, resume. Once a run."""

    def after_step(self, epoch_ends: bool) -> None:
        """A step, or an epoch, has ended: save what is due, answer signals."""

    def at_once(self, act: Callable[[], Iterator[Any]]) -> Iterator[Any]:
        """``act()``, which trains nothing: an interrupt ends it at once."""

    def finish(self, whole: bool) -> None:
        """The outermost loop is over; ``whole`` when it came to its end by itself."""

    def say(self, text: str) -> None: ...

    def tracks(self, thing: Any) -> bool: ...


class Loop:
    """Counts steps, epochs and batches of one Checkpointer."""

    def __init__(self, owner: Owner):
        self._owner = owner
        self.step = 0
        self.epochs: int | None = None
        self.in_epochs = False
        self.in_batches = False
        self.left_at_step = False
        """The loop was left inside a body, which had told by step() that it was at its end."""
        self._epoch: int | None = None
        self._part = 0
        self._batch = 0
        self._course: Course | None = None
        self._courses: dict[str, Course] = {}  # the newest of each loader of an epoch
        self._restored: dict[str, list[Any]] = {}  # states of the loaders' generators that wait for their loader
        self._then: dict[str, States] = {}  # states of the loaders' datasets and samplers that wait for their next pass
        self._counted = 0  # calls of step() in this epoch, or in this batch
        self._done: Place | None = None  # where the newest ended step stands, when no course is open
        self._pending: tuple[Place, Any] | None = None
        self._told: set[str] = set()
        self._looked = False  # for other loaders, once the first epoch has shown which ones are ours
        self._passes: dict[int, int] | None = None  # in a loop of the user's own: where the loaders stood at the first step
        self._open: list[tuple[weakref.ref[Any], int | None]] = []  # the loops that users hold, and their notebook cells

    # where it stands

    @property
    def epoch(self) -> int | None:
        return self._epoch

    @property
    def batch(self) -> int | None:
        """How many batches of this epoch are done."""
        return self._batch if self._course is not None or self._batch else None

    def position(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """JSON-ready, and the tensors in it, for a save."""
        if self._course is not None:
            place = self._course.place(self._epoch or 0, self._part, self._batch)
        else:
            place = self._done or Place(self._epoch or 0)
        then = {key: course.states() for key, course in self._courses.items() if course is not self._course or course.over}
        then |= self._then
        tensors = dict(place.tensors)
        for states in then.values():
            tensors |= states.tensors
        place = replace(place, now=self._generators(), then={key: states.trees for key, states in then.items()})
        return {"step": self.step, "epochs": self.epochs, **place.tree()}, tensors

    def _generators(self) -> dict[str, list[Any]]:
        return self._restored | {key: course.generators() for key, course in self._courses.items()}

    def restore(self, position: dict[str, Any], tensors: dict[str, Tensor], random: Any) -> None:
        """The next ``epochs`` and ``batches`` go on from here."""
        self.step = int(position["step"])
        place = place_of(position, tensors)
        self._pending = (place, random)
        self._epoch, self._part, self._batch = place.epoch, 0, place.batch
        self._course, self._done = None, place
        self._courses, self._restored = {}, dict(place.now)
        self._then = {key: States(trees, place.tensors) for key, trees in place.then.items()}

    def anew(self) -> None:
        """The next loop begins at the beginning."""
        self.step, self._epoch, self._part, self._batch = 0, None, 0, 0
        self._course = self._done = self._pending = None
        self._courses, self._restored, self._then = {}, {}, {}

    # loops

    def over(self, loader: Any, epochs: int) -> Iterator[tuple[int, Any]]:
        return self._opened(self._over(loader, epochs))

    def _over(self, loader: Any, epochs: int) -> Iterator[tuple[int, Any]]:
        for epoch in self.through(epochs):
            _tell_epoch(loader, epoch)
            for batch in self.batches(loader, tight=True):
                yield epoch, batch

    def through(self, epochs: int) -> Iterator[int]:
        if isinstance(epochs, bool) or not isinstance(epochs, int) or epochs < 1:
            raise UsageError(f"epochs={epochs!r}: a number of epochs, 1 or more, is expected.")
        self._leave_other_cells()
        if self.in_epochs:
            raise UsageError(
                "This Checkpointer is in a loop already; one loop at a time can be resumed exactly. Use another Checkpointer for the "
                "inner one."
            )
        return self._opened(self._through(epochs))

    def _through(self, epochs: int) -> Iterator[int]:
        self._owner.begin()
        self.in_epochs, self.epochs = True, epochs
        whole = False
        try:
            first = self._pending[0].epoch if self._pending is not None else 0
            if first >= epochs:
                self._owner.say(
                    f"{plural(first, 'epoch')} of this training are done, and epochs={epochs} asks for no more; a larger number goes on "
                    "from here."
                )
            for epoch in range(first, epochs):
                self._open_epoch(epoch)
                yield epoch
                self._close_epoch(epoch)
            whole = True
        finally:
            self.in_epochs = False
            self._owner.finish(whole)

    def _open_epoch(self, epoch: int) -> None:
        going_on = self._pending is not None and self._pending[0].epoch == epoch and self._pending[0].start is not None
        if not going_on:
            self._pending = None
            self._batch = 0
        self._epoch, self._part, self._counted = epoch, 0, 0

    def _close_epoch(self, epoch: int) -> None:
        if self._part == 0 and self._counted == 0:
            self.step += 1  # an epoch without batches of ours is one step
        self._pending = None
        self._course, self._batch, self._part = None, 0, 0
        self._epoch = epoch + 1
        if not self._looked:
            self._looked = True
            for text in surroundings.loaders(self._owner.tracks):
                self._once(text)
        self._done = Place(epoch + 1)
        self._owner.after_step(epoch_ends=True)

    def batches(self, loader: Any, tight: bool = False) -> Iterator[Any]:
        """``tight``: no code of the user's runs between the last batch and the end of the epoch."""
        self._leave_other_cells()
        if self.in_batches:
            raise UsageError("ckpt.batches() is being gone through already; the position of one loader at a time can be kept.")
        if not hasattr(type(loader), "__iter__") and not hasattr(type(loader), "__getitem__"):
            raise UsageError(f"{type(loader).__name__} cannot be looped over; a DataLoader or a list of batches is expected.")
        return self._opened(self._batches(loader, tight))

    def _opened(self, iterator: Any) -> Iterator[Any]:
        self._open = [(reference, cell) for reference, cell in self._open if reference() is not None]
        self._open.append((weakref.ref(iterator), surroundings.cell()))
        return iterator

    def _leave_other_cells(self) -> None:
        """A loop of a cell that was interrupted may be held by a variable (a progress bar): it is over."""
        now = surroundings.cell()
        for reference, cell in self._open:
            iterator = reference()
            if iterator is not None and cell != now and not iterator.gi_running:
                iterator.close()

    def _warn_of_enumerate(self) -> None:
        """On going on in the middle: a number that the user's loop counts by itself begins anew."""
        count = surroundings.counted_from()
        if count is not None and count not in (self._batch, self.step):
            self._once(
                f"enumerate() around this loop counts from {count}, and this epoch goes on behind {plural(self._batch, 'batch')}: what "
                "hangs on its number (gradient accumulation, warm-up) is not exact. Count with ckpt.batch (from 0 in each epoch) or "
                "ckpt.steps instead."
            )

    def _batches(self, loader: Any, tight: bool) -> Iterator[Any]:
        alone = not self.in_epochs
        self._say_doubts(loader)  # before begin(): nothing has been trained yet
        self._owner.begin()
        part, self._part = self._part, self._part + 1
        key = "0" if alone else str(part)
        course = Course(loader, key, self._owner.tracks, self._once)
        self._courses[key] = course
        pending, self._pending = self._pending, None
        if pending is not None and pending[0].start is None:
            pending = None
        if pending is not None and part < pending[0].part - 1:
            self._pending = pending
            if not alone and (now := self._restored.pop(key, None)) is not None:
                course.set_generators(now)
            return  # a loader of this epoch that was done before the save
        now = self._restored.pop(key, None)
        if pending is not None:
            place, random = pending
            if place.loader is not None and place.loader != name(loader):
                self._owner.say(
                    f"the loader is now a {name(loader)}, and was a {place.loader}: the rest of this epoch may hold other batches."
                )
            again = partial(course.go_on, place, random, now)
            batches, self._batch = self._owner.at_once(again), place.batch
            self._warn_of_enumerate()
        else:
            self._batch = 0
            if now is not None:
                course.set_generators(now)
            batches = course.begin(self._then.pop(key, None))
        before = loader_states.numbers(loader) if not self._looked else None
        self._course, self.in_batches, last = course, True, length(loader)
        whole = False
        try:
            for batch in batches:
                self._counted = 0
                yield batch
                self._batch += 1
                if not self._counted:
                    self.step += 1
                self._counted = 0
                if not (tight and self._batch == last):
                    self._owner.after_step(epoch_ends=False)
            whole = course.over = True
            if before is not None:
                for text in loader_states.moved(before, loader) + course.made():
                    self._once(text)
        finally:
            self.in_batches = False
            self.left_at_step = not whole and self._counted > 0 and (tight or alone)
            if not whole and self._counted:  # left by `break` after step(): this batch is done
                self._batch += 1
            if alone:
                self._owner.finish(whole)

    def count(self) -> bool:
        """``step()`` was called by the user. True when what is due can be saved at once; else it is saved where the loop's body ends."""
        if self.in_batches:
            self._counted += 1
            if self._counted == 1:
                self.step += 1
            return False
        if self.in_epochs:
            if self._part:
                return False  # after the batches of an epoch: numbers of the epoch, not a step
            self._counted += 1
            self.step += 1
            if self._counted == 2:
                self._once(
                    "step() was called twice in one epoch outside ckpt.batches(): the position in the epoch is not known, so checkpoints "
                    "are made where epochs end. Write `for batch in ckpt.batches(loader):` to have them in between."
                )
            return False
        self.step += 1
        self._done = Place(self._epoch or 0)
        if not self._looked:
            self._looked = self._passes is not None
            before, self._passes = self._passes or {}, surroundings.passes()
            if any(count > before.get(key, count) for key, count in self._passes.items()):
                self._once(
                    "a DataLoader is gone through in this loop, and its position is not saved: a resumed run begins it anew. Write "
                    "`for batch in ckpt.batches(loader):` to go on with the same batches."
                )
        return True

    def _say_doubts(self, loader: Any) -> None:
        for text in doubts(loader):
            self._once(text)

    def _once(self, text: str) -> None:
        if text not in self._told:
            self._told.add(text)
            self._owner.say(text)


def _tell_epoch(loader: Any, epoch: int) -> None:
    """Samplers that shuffle by the number of the epoch (DistributedSampler): between the two loops of ``loop`` nobody else can."""
    for sampler in (getattr(loader, "sampler", None), getattr(loader, "batch_sampler", None)):
        tell = getattr(sampler, "set_epoch", None)
        if callable(tell):
            tell(epoch)
