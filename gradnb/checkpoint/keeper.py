"""What a Checkpointer does while a training runs: begin, save what is due, come back, end. It ties the rooms together."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import Any, Literal, TypeVar

from ..errors import UsageError
from ..monitor.measure import number
from . import processes, random_states
from .best import Best
from .errors import CheckpointError, MismatchError, NoCheckpointError
from .loop import Loop
from .mirror import Mirror
from .model import Manifest, Remote, State
from .places import where
from .resume import Search, left_out
from .schedule import Schedule
from .signals import Signals
from .tracked import Tracked
from .troubles import Troubles
from .words import plural, stands
from .writer import Writer

T = TypeVar("T")
_SIGNAL_LIMIT = 5.0  # seconds for the upload after SIGTERM: Colab and schedulers kill soon after


class Keeper:
    """The parts of one Checkpointer; the arguments are those of ``Checkpointer``."""

    def __init__(
        self,
        place: "str | os.PathLike[str] | Remote",
        every: int | str | None,
        keep_last: int,
        keep_best: Any,
        resume: "bool | Literal['must']",
        local: "str | os.PathLike[str] | None",
        quiet: bool,
    ):
        if resume not in (True, False, "must"):
            raise UsageError(f'resume={resume!r}: True, False or "must" is expected.')
        self._quiet, self._resume = quiet, resume
        self._schedule = Schedule(every)
        path, remote = where(place, local)
        self.name = remote.name if remote is not None else str(path)
        self.best = Best(keep_best)
        self.processes = processes.here()
        self.folder = self.processes.folder(path, keep_last=keep_last, keep_best=self.best.by)
        self.mirror = Mirror(self.folder, remote, say=self.warn) if remote is not None and self.processes.leads else None
        self.search = Search(self.folder, self.mirror, self.warn)
        self.tracked = Tracked()
        self.loop = Loop(self)
        self.writer = Writer(self._write, self._committed)
        self._signals = Signals(self)
        self._troubles = Troubles()
        self._metrics: dict[str, Any] = {}
        self._asked: str | None = None
        self._began = False
        self._ready = False
        self._saved_at: tuple[Any, ...] | None = None
        self._from: Manifest | None = None

    # what the user calls

    def log(self, metrics: dict[str, Any]) -> None:
        for name, value in metrics.items():
            self._metrics[name] = number(name, value)
        metric = self.best.metric
        if metric in metrics and self.best.better(float(self._metrics[metric]), self.loop.step):
            self._asked = self._asked or "best"

    def step(self) -> None:
        own = not self.loop.in_epochs and not self.loop.in_batches
        if own and not self._began:
            self._begin_own_loop()
        if self.loop.count():
            self.after_step(epoch_ends=False)

    def save(self) -> None:
        if self.loop.in_batches:
            self._asked = "asked"
            return
        self._prepare()
        self._save("asked")

    def resume(self, id: "str | int | Manifest | None" = None) -> None:
        self._prepare()
        self._began = False  # where this fails, the next loop tries again: it must not begin at step 0
        if id is not None:
            self._go_on(*self.search.one(id), "")
        elif self._resume is False:
            self._begin_anew()
        else:
            found = self.processes.newest(self.search)
            if found is not None:
                self._go_on(found.state, found.manifest, left_out(found))
            elif self._resume == "must":
                raise NoCheckpointError(f'resume="must", and there is no checkpoint in {self.name}. resume=True begins at step 0 then.')
            else:
                self.loop.anew()
                here = f"; checkpoints are written to {self.folder.path}, and copied from there" if self.mirror is not None else ""
                self.say(f"no checkpoint in {self.name} yet: beginning at step 0{here}")
        self._began = True

    def put_back(self, state: State, manifest: Manifest) -> None:
        """Into what is tracked, all or nothing."""
        try:
            notes = self.tracked.load(state.tree["tracked"], state.tensors)
        except MismatchError as error:
            mend = "Make what is tracked as it was, give this run a place of its own, or begin anew with resume=False."
            raise MismatchError(f"Checkpoint {manifest.id} in {self.name}: {error}\n{mend}") from None
        for note in notes:
            self.say(note)

    def flush(self, timeout: float | None) -> bool:
        begin = time.monotonic()
        if not self.writer.wait(timeout):
            self.warn(f"the checkpoint of step {self.loop.step:,} is still being written to {self.folder.path}")
            return False
        failures = self.writer.failures()
        if failures and self.writer.failed:
            raise failures[-1][1]
        self._tell(failures)
        if self.mirror is None:
            return True
        left = self.mirror.flush(None if timeout is None else max(0.0, timeout - (time.monotonic() - begin)))
        if left:
            self.warn(f"not yet in {self.name}: {left}. The copies on this machine are in {self.folder.path}; flush() again goes on.")
        return not left

    def close(self, timeout: float) -> None:
        self._signals.remove()
        self.processes.close()
        self.writer.wait(timeout)
        self._tell(self.writer.failures(), last=True)
        if self.mirror is not None:
            self.mirror.close(timeout)
        self.tracked.close()
        self.folder.close()

    # what the loops call

    def begin(self) -> None:
        if not self._began:
            self.resume()
        self._signals.install()

    def after_step(self, epoch_ends: bool) -> None:
        self._signals.tick()
        self._signals.install()
        reason = self._asked or ("signal" if self._signals.asked else None)
        if reason is None and self._schedule.due(self.loop.step, epoch_ends):
            reason = "every"
        common = reason == "asked" or (reason == "every" and self._schedule.seconds is None)
        reason = self.processes.agree(self.loop.step, reason, common)
        if reason is not None:
            self._asked = None
            self._save(reason)
        if reason == "signal" or (self._signals.asked and self.processes.world == 1):
            self._signals.asked = self._signals.asked or signal.SIGTERM  # it came to another process
            self._end_by_signal()

    def at_once(self, act: Callable[[], T]) -> T:
        self._began = False  # where this fails, the next loop tries again
        result = self._signals.at_once(act)
        self._began = True
        return result

    def finish(self, whole: bool) -> None:
        if (whole or self.loop.left_at_step) and self._saved_at != self._now():
            self._asked = None
            self._save("end")
        if self._asked == "asked":
            self.warn("save() was called in a batch that was left before its end, so nothing was saved: call step() before break")
        self._asked = None
        if whole and self._signals.asked:  # it came after the last step
            self._end_by_signal()
        self._signals.remove()
        self.writer.wait()
        self._tell(self.writer.failures(), last=True)
        if self.loop.epochs is not None:
            self._began = False  # the same loop again goes on from the newest checkpoint
        written = self.writer.written
        if whole and written is not None:
            slow = f"; storage was slower than training: {self.writer.waited:.1f} s waited" if self.writer.waited > 1 else ""
            saved = f"the newest checkpoint is {written.id}, step {written.step:,}," if self._troubles.now else f"saved as {written.id}"
            self.say(f"{plural(self.loop.step, 'step')} done; {saved} {self._kept()}{slow}")

    def tracks(self, thing: Any) -> bool:
        return self.tracked.holds(thing)

    def say(self, text: str) -> None:
        if not self._quiet:
            self.warn(text)

    def warn(self, text: str) -> None:
        """Also where the user asked for quiet."""
        if self.processes.leads:
            print(f"gradnb: {text}")

    # beginning

    def _prepare(self) -> None:
        """Once, before anything is saved or loaded: what cannot work is said now."""
        if self._ready:
            return
        if not self.tracked:
            raise UsageError("Nothing is tracked: name the state first, ckpt.track(model=model, optimizer=optimizer).")
        self.folder.open()
        tree, tensors, _ = self.tracked.save()  # what cannot be saved is found before the training, not after it
        self.writer.warm(State(tree, self.processes.split(tensors)[0]))
        for text in self.tracked.warnings():
            self.warn(text)
        self._ready = True

    def _begin_own_loop(self) -> None:
        """A loop of the user's that calls step() only."""
        self._prepare()
        if self._resume is not False and self.search.all()[0]:
            raise UsageError(
                f"There are checkpoints in {self.name}, and this loop begins at step 0. Call `start = ckpt.resume()` before the loop, or "
                "loop over ckpt.loop(loader, epochs=...), which resumes by itself; Checkpointer(..., resume=False) begins anew."
            )
        self.begin()

    def _begin_anew(self) -> None:
        self.loop.anew()
        known = self.search.all()[0]  # asks the remote store, too: new checkpoints are numbered after its
        if known:
            older = plural(len(known), "older checkpoint")
            self.say(f"resume=False: beginning at step 0; {older} in {self.name} stay until their place is needed")

    def _go_on(self, state: State, manifest: Manifest, rest: str) -> None:
        self.processes.together(lambda: self.put_back(state, manifest))
        random = state.tree["random"]
        self.loop.restore(state.tree["position"], state.tensors, random)
        for note in random_states.restore(random):
            self.warn(note)
        self._schedule.saved(state.step)
        self._metrics = dict(state.metrics)
        self._saved_at, self._from = self._now(), manifest
        if self.best.by is not None:
            self.best.recall(self.search.known)
        self.warn(f"resumed at {stands(manifest)} from {self.name}, checkpoint {manifest.id}{rest}")
        if split := self.processes.resized(manifest):
            self.warn(split)

    # saving

    def _now(self) -> tuple[Any, ...]:
        return self.loop.step, self.loop.epoch, self.loop.batch

    def _save(self, reason: str) -> None:
        """Never raises for what storage does; a state that cannot be encoded is told in a line, and the training goes on."""
        self._tell(self.writer.failures())
        try:
            tree, tensors, settled = self.tracked.save()
            position, more = self.loop.position()
            tensors, pieces = self.processes.split(tensors | more)
            state = State(
                {"tracked": tree, "random": random_states.capture(), "position": position, "shards": pieces},
                tensors,
                step=self.loop.step,
                epoch=self.loop.epoch,
                batch=self.loop.batch,
                metrics={name: float(value) for name, value in self._metrics.items()},
                reason=reason,
                settled=settled,
            )
            self.writer.submit(state)
        except Exception as error:
            self._trouble(self.loop.step, f"step {self.loop.step:,} could not be saved: {error}", error)
            self._schedule.saved(self.loop.step)  # tried again, and told again, when the next one is due
            self.writer.wait()
            self.processes.skip(self.folder, self.loop.step, str(error))
            return
        self._schedule.saved(self.loop.step)
        self._saved_at = self._now()

    def _write(self, state: State) -> Manifest:
        return self.folder.write(state, pinned=self.mirror.pinned() if self.mirror is not None else ())

    def _committed(self, manifest: Manifest) -> None:
        if self.mirror is not None:
            self.mirror.offer(manifest)

    def _tell(self, failures: list[tuple[int, Exception]], last: bool = False) -> None:
        """What failed since the last time, or that it works again; ``last``: nothing more will be told, so nothing is kept back."""
        for step, error in failures:
            text = str(error) if isinstance(error, CheckpointError) else f"{type(error).__name__}: {error}"
            self._trouble(step, f"the checkpoint of step {step:,} was not written: {text}", error)
        if text := self._troubles.over(self.writer.written) or (self._troubles.rest() if last else ""):
            self.warn(text)

    def _trouble(self, step: int, line: str, error: Exception) -> None:
        if text := self._troubles.failed(line, f"{type(error).__name__}: {error}", step, self.writer.written):
            self.warn(text)

    def _end_by_signal(self) -> None:
        self.writer.wait()
        self._tell(self.writer.failures(), last=True)
        if self.mirror is not None:
            self.mirror.flush(_SIGNAL_LIMIT)
        self._began = False
        written = self.writer.written
        if written is not None:
            saved = "the newest checkpoint is" if self._troubles.now else "saved as"
            self.warn(f"{saved} {written.id}, step {written.step:,}, {self._kept()}; the same cells again go on from here")
        self._signals.answer()

    def _kept(self) -> str:
        """Where the newest checkpoint lies."""
        left = self.mirror.status() if self.mirror is not None else ""
        return f"on this machine; {left}; ckpt.flush() waits for it" if left else f"in {self.name}"

    def goes_on_from(self) -> str:
        newest = self.writer.written or self._from
        return "there is no checkpoint yet" if newest is None else f"the same cells again go on from {newest.id}, step {newest.step:,}"
