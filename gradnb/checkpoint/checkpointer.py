"""``gradnb.Checkpointer``: keeps a training's state safe, and goes on exactly where it stopped."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any, Literal

from ..errors import UsageError
from .errors import NoCheckpointError
from .keeper import Keeper
from .manifest import UNFINISHED
from .model import Damage, Manifest, Remote
from .slots import keep
from .words import Listing, damaged, plural, size, stands


class Checkpointer:
    """Saves the state of a training while it runs, and resumes it bit for bit after it was cut off.

    ``track(...)`` names what belongs to the state; then ``for epoch, batch in ckpt.loop(loader, epochs=20):``, and the same cells again
    after a cut.

    Parameters
    ----------
    place
        A folder, ``"drive:MyDrive/run1"`` (Colab's mount, or the Drive API elsewhere), or a store (``gradnb.checkpoint.DriveAPI(...)``).
    every
        50 (steps), ``"10min"``, ``"epoch"``, or None (only ``save()``).
    keep_last
        How many of the newest checkpoints stay, 1 or more.
    keep_best
        ``("accuracy", "max")`` or ``("loss", "min")``: the best one by this metric stays, too.
    resume
        True goes on where a good checkpoint exists; ``"must"`` raises NoCheckpointError where none does; False begins anew.
    local
        With a remote place, the folder on this machine that checkpoints are written to first.
    quiet
        Say nothing but what went wrong.

    Raises
    ------
    UsageError
        Where an argument makes no sense; the message says what is expected.
    """

    def __init__(
        self,
        place: "str | os.PathLike[str] | Remote",
        every: int | str | None = 50,
        keep_last: int = 5,
        keep_best: tuple[str, Literal["max", "min"]] | None = None,
        resume: "bool | Literal['must']" = True,
        local: "str | os.PathLike[str] | None" = None,
        quiet: bool = False,
    ):
        self._keeper = Keeper(place, every, keep_last, keep_best, resume, local, quiet)

    # what is tracked

    def track(self, **things: Any) -> "Checkpointer":
        """Name what belongs to the state: ``track(model=model, optimizer=optimizer, scheduler=scheduler, losses=losses, best=0.0)``.

        Parameters
        ----------
        **things
            Modules, optimizers, and anything with ``state_dict`` and ``load_state_dict``; lists, dicts, arrays and tensors are restored in
            place; numbers and strings are then read and written as ``ckpt.values.best``.

        Returns
        -------
        Checkpointer
            The same one.

        Raises
        ------
        UsageError
            For what cannot be saved, and for a name that cannot be used.
        """
        self._keeper.tracked.add(**things)
        return self

    @property
    def values(self) -> Any:
        """The plain values that are tracked, as attributes: ``ckpt.values.best = 0.9``."""
        return self._keeper.tracked.values

    @property
    def steps(self) -> int:
        """How many steps are done, over all runs."""
        return self._keeper.loop.step

    @property
    def epoch(self) -> int | None:
        """The epoch that the loop is in, from 0."""
        return self._keeper.loop.epoch

    @property
    def batch(self) -> int:
        """How many batches of this epoch are done; in the body of a loop the number of its batch, from 0."""
        return self._keeper.loop.batch or 0

    # loops

    def loop(self, loader: Any, epochs: int) -> Iterator[tuple[int, Any]]:
        """``(epoch, batch)`` of every batch that is not done yet; epochs count from 0.

        Resumes before its first batch, saves where a body ends.

        Parameters
        ----------
        loader
            A DataLoader, or any list or iterable of batches.
        epochs
            How many epochs the whole training has, those that are done included.

        Raises
        ------
        UsageError
            For what is no loader or no number of epochs, and where nothing is tracked.
        CheckpointError
            Where checkpoints exist and none can be taken, as ``resume`` raises it.
        """
        return self._keeper.loop.over(loader, epochs)

    def epochs(self, count: int) -> Iterator[int]:
        """The epochs that are not done yet, for loops with code between epochs; inside: ``for batch in ckpt.batches(loader):``.

        ``count`` is how many epochs the whole training has. Raises UsageError and CheckpointError as ``loop`` does.
        """
        return self._keeper.loop.through(count)

    def batches(self, loader: Any) -> Iterator[Any]:
        """The batches of this epoch that are not done yet, from ``loader``. Raises UsageError as ``loop`` does."""
        return self._keeper.loop.batches(loader)

    def step(self, metrics: dict[str, Any] | None = None, **more: Any) -> None:
        """A step is done; call it last in the body. Numbers given here stand in the next checkpoint, and decide ``keep_best``.

        In ``loop`` and ``batches`` it is needed only for the numbers: the end of the body counts by itself. ``metrics`` and ``**more`` are
        read as by ``log``. Raises UsageError for what is no number, and in a loop of your own that has not called ``resume`` where there
        are checkpoints; in such a loop, CheckpointError as ``resume`` does.
        """
        self.log(metrics, **more)
        self._keeper.step()

    def log(self, metrics: dict[str, Any] | None = None, **more: Any) -> None:
        """Numbers for the next checkpoint, without counting a step.

        ``metrics`` holds them by name, ``**more`` does so too: numbers, or tensors and arrays of one element (shape ``()`` or ``(1,)``).
        Raises UsageError for anything else.
        """
        if metrics is not None and not isinstance(metrics, Mapping):
            kind = type(metrics).__name__
            raise UsageError(
                f"numbers without a name are given (of type {kind}); name them: ckpt.step(loss=loss), or a dict, {{'loss': loss}}."
            )
        self._keeper.log({**(metrics or {}), **more})

    # saving

    def save(self) -> None:
        """Save now; inside ``batches``, where the body of this batch ends. What storage does is told in a line and not raised.

        Raises UsageError where nothing is tracked, or a thing cannot be saved.
        """
        self._keeper.save()

    def flush(self, timeout: float | None = 600.0) -> bool:
        """Wait until all is written, and uploaded where the place is remote.

        Gives True; False, and a line that says what is missing, after ``timeout`` seconds (None waits without a limit). Raises WriteError
        where the newest state could not be written.
        """
        return self._keeper.flush(timeout)

    def close(self, timeout: float = 60.0) -> None:
        """Wait for what is being written, ``timeout`` seconds at most, put signal handlers back, end threads. The end of ``with``, too."""
        self._keeper.close(timeout)

    def __enter__(self) -> "Checkpointer":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    # coming back

    def load(self, id: "str | int | Manifest") -> Manifest:
        """Put the state of a checkpoint into what is tracked: ``ckpt.load(ckpt.best())``. Loop and random states stay where they are.

        Parameters
        ----------
        id
            A checkpoint of ``list()``, ``best()`` or ``latest()``, or its number in the count of all saves: 42 or ``"000042"``.

        Returns
        -------
        Manifest
            What was loaded.

        Raises
        ------
        NoCheckpointError
            Where no checkpoint is called so.
        DamagedError
            Where it cannot be read.
        MismatchError
            Where it does not fit what is tracked; it lists what differs. Nothing was touched then.
        CheckpointError
            Where it lies on a remote store that does not give it (RemoteError).
        """
        state, manifest = self._keeper.search.one(id)
        self._keeper.put_back(state, manifest)
        self._keeper.say(f"loaded {manifest.id}, {stands(manifest)}")
        return manifest

    def resume(self, id: "str | int | Manifest | None" = None) -> int:
        """Go on from the newest good checkpoint: state, random states, position. ``loop``, ``epochs`` and ``batches`` call it themselves.

        Parameters
        ----------
        id
            Go on from this checkpoint instead, as ``load`` takes it: the number of a save, or one of ``list()``.

        Returns
        -------
        int
            How many steps are done; 0 begins anew.

        Raises
        ------
        NoCheckpointError
            Where ``id`` is none, and for ``resume="must"`` where there is none at all.
        DamagedError
            Where checkpoints exist and none can be read: the training does not begin at step 0 then.
        MismatchError
            Where it does not fit what is tracked.
        CheckpointError
            The base of these; RemoteError where the remote store cannot be read and nothing is on this machine.
        UsageError
            Where nothing is tracked, or the folder cannot be used.
        """
        self._keeper.resume(id)
        return self.steps

    # looking

    def latest(self) -> Manifest:
        """The newest one. Raises NoCheckpointError when there is none."""
        manifests, _ = self._keeper.search.all()
        if not manifests:
            raise NoCheckpointError(f"There is no checkpoint in {self._keeper.name}.")
        return manifests[0]

    def best(self) -> Manifest:
        """The best one by ``keep_best``'s metric. Raises UsageError without ``keep_best``, NoCheckpointError when none has that metric."""
        metric = self._keeper.best.metric
        if metric is None:
            raise UsageError('best() needs keep_best=("accuracy", "max"), or another metric, in Checkpointer(...).')
        found = self._keeper.best.of(self._keeper.search.all()[0])
        if found is None:
            raise NoCheckpointError(f"No checkpoint in {self._keeper.name} has the metric {metric!r}: give it to ckpt.step({metric}=...).")
        return found

    def verify(self) -> list[Damage]:
        """Read every file of every checkpoint on this machine; what is damaged is returned, and told in a line."""
        folder = self._keeper.folder.path
        manifests, damage = self._keeper.search.verify()
        if damage:
            self._keeper.warn(f"damaged in {folder}: {damaged(damage)}")
        else:
            total = size(sum(one.size for one in manifests))
            self._keeper.say(f"{plural(len(manifests), 'checkpoint')} in {folder} ({total}): every file is whole")
        return damage

    def list(self) -> Listing:  # the last one: behind it, `list` in an annotation would be this method
        """The checkpoints, newest first; those that are only here, or only on the remote store, are marked."""
        manifests, where = self._keeper.search.all()
        manifests = keep(manifests, self._keeper.folder.keep_last, self._keeper.best.by)
        damage = [one for one in self._keeper.folder.damaged() if one.why != UNFINISHED]  # which may be on its way right now
        return Listing(manifests, self._keeper.name, self._keeper.best.of(manifests), where, damage)

    def __repr__(self) -> str:
        return f"Checkpointer({self._keeper.name!r}, {plural(self.steps, 'step')} done)"
