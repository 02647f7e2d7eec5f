"""The loops a user writes: epochs, batches, or steps of their own; each knows when a step has ended and where it stands."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Any, Protocol

from ..errors import UsageError
from .position import Course, Place, doubts, length, name
from .words import plural


class Owner(Protocol):
    """What a loop asks of its Checkpointer."""

    def begin(self) -> None:
        """Before the first step: check, resume. Once a run."""

    def after_step(self, epoch_ends: bool) -> None:
        """A step, or an epoch, has ended: save what is due, answer signals."""

    def finish(self, whole: bool) -> None:
        """The outermost loop is over; ``whole`` when it came to its end by itself."""

    def say(self, text: str) -> None: ...


class Loop:
    """Counts steps, epochs and batches of one Checkpointer."""

    def __init__(self, owner: Owner):
        self._owner = owner
        self.step = 0
        self.epochs: int | None = None
        self.in_epochs = False
        self.in_batches = False
        self._epoch: int | None = None
        self._part = 0
        self._batch = 0
        self._course: Course | None = None
        self._courses: dict[str, Course] = {}  # the newest of each loader of an epoch
        self._restored: dict[str, list[Any]] = {}  # states of the loaders' generators that wait for their loader
        self._counted = 0  # calls of step() in this epoch, or in this batch
        self._done: Place | None = None  # where the newest ended step stands, when no course is open
        self._pending: tuple[Place, Any] | None = None
        self._told: set[str] = set()

    # where it stands

    @property
    def epoch(self) -> int | None:
        return self._epoch

    @property
    def batch(self) -> int | None:
        """How many batches of this epoch are done."""
        return self._batch if self._course is not None or self._batch else None

    def position(self) -> dict[str, Any]:
        """JSON-ready, for a save."""
        if self._course is not None:
            place = self._course.place(self._epoch or 0, self._part, self._batch, self._generators())
        else:
            place = replace(self._done or Place(self._epoch or 0), now=self._generators())
        return {"step": self.step, "epochs": self.epochs, **asdict(place)}

    def _generators(self) -> dict[str, list[Any]]:
        return self._restored | {key: course.generators() for key, course in self._courses.items()}

    def restore(self, position: dict[str, Any], random: Any) -> None:
        """The next ``epochs`` and ``batches`` go on from here."""
        self.step = int(position["step"])
        place = Place(**{key: position[key] for key in Place.__dataclass_fields__})
        self._pending = (place, random)
        self._epoch, self._part, self._batch = place.epoch, 0, place.batch
        self._course, self._done = None, place
        self._courses, self._restored = {}, dict(place.now)

    def anew(self) -> None:
        """The next loop begins at the beginning."""
        self.step, self._epoch, self._part, self._batch = 0, None, 0, 0
        self._course = self._done = self._pending = None
        self._courses, self._restored = {}, {}

    # loops

    def over(self, loader: Any, epochs: int) -> Iterator[tuple[int, Any]]:
        for epoch in self.through(epochs):
            _tell_epoch(loader, epoch)
            for batch in self.batches(loader, tight=True):
                yield epoch, batch

    def through(self, epochs: int) -> Iterator[int]:
        if isinstance(epochs, bool) or not isinstance(epochs, int) or epochs < 1:
            raise UsageError(f"epochs={epochs!r}: a number of epochs, 1 or more, is expected.")
        if self.in_epochs:
            raise UsageError(
                "This Checkpointer is in a loop already; one loop at a time can be resumed exactly. Use another Checkpointer for the "
                "inner one."
            )
        return self._through(epochs)

    def _through(self, epochs: int) -> Iterator[int]:
        self._owner.begin()
        self.in_epochs, self.epochs = True, epochs
        whole = False
        try:
            first = self._pending[0].epoch if self._pending is not None else 0
            if first >= epochs:
                self._owner.say(
                    f"{plural(first, 'epoch')} of this training are done, and epochs={epochs} asks for no more; more go on from here."
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
        self._done = Place(epoch + 1)
        self._owner.after_step(epoch_ends=True)

    def batches(self, loader: Any, tight: bool = False) -> Iterator[Any]:
        """``tight``: no code of the user's runs between the last batch and the end of the epoch."""
        if self.in_batches:
            raise UsageError("ckpt.batches() is being gone through already; the position of one loader at a time can be kept.")
        if not hasattr(type(loader), "__iter__") and not hasattr(type(loader), "__getitem__"):
            raise UsageError(f"{type(loader).__name__} cannot be looped over; a DataLoader or a list of batches is expected.")
        return self._batches(loader, tight)

    def _batches(self, loader: Any, tight: bool) -> Iterator[Any]:
        alone = not self.in_epochs
        self._say_doubts(loader)  # before begin(): nothing has been trained yet
        self._owner.begin()
        course = Course(loader)
        part, self._part = self._part, self._part + 1
        key = "0" if alone else str(part)
        now = self._restored.pop(key, None)
        self._courses[key] = course
        pending, self._pending = self._pending, None
        if pending is not None and pending[0].start is None:
            pending = None
        if pending is not None and part < pending[0].part - 1:
            self._pending = pending
            if now is not None:
                course.set_generators(now)
            return  # a loader of this epoch that was done before the save
        if pending is not None:
            place, random = pending
            if place.loader is not None and place.loader != name(loader):
                self._owner.say(
                    f"the loader is now a {name(loader)}, and was a {place.loader}: the rest of this epoch may hold other batches."
                )
            batches, self._batch = course.go_on(place, random, now or [], self._owner.say), place.batch
        else:
            self._batch = 0
            if now is not None:
                course.set_generators(now)
            batches = course.begin()
        self._course, self.in_batches, last = course, True, length(loader)
        whole = False
        try:
            for batch in batches:
                self._counted = 0
                yield batch
                self._batch += 1
                if not self._counted:
                    self.step += 1
                if not (tight and self._batch == last):
                    self._owner.after_step(epoch_ends=False)
            whole = True
        finally:
            self.in_batches = False
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
