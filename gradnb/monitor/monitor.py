"""The Monitor: what ``gradnb.watch`` gives back. It ties the parts together and computes nothing itself."""

from __future__ import annotations

import functools
import math
import sys
import time
import weakref
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from types import FrameType
from typing import Any

from torch import Tensor, nn
from torch.optim.optimizer import Optimizer

from ..errors import UsageError
from . import summary
from .activations import Activations
from .flags import Engine, Flag
from .forms import Forms
from .history import History
from .layers import Watched, nothing_left
from .measure import Reading, number, read
from .panel import Panel
from .probe import Probe
from .ranks import Ranks, exchange
from .recorder import Recorder
from .round import Round, Sums, write
from .rules._own import own
from .scaler import Scaling, in_use

_SETTLED = 100  # recorded steps, after which updates are measured more seldom
_SHOWN = 0.25  # seconds between two updates of a panel
_SKIPS = 5

_active: "weakref.WeakSet[Monitor]" = weakref.WeakSet()


class Monitor(Forms):
    """Watches a training go on. ``gradnb.watch`` makes one; ``stop()``, or leaving it as a context manager, removes every hook.

    ``history`` holds the numbers, ``flags`` what is wrong with them; ``print(monitor)`` says both in words.
    """

    def __init__(
        self,
        models: dict[str, nn.Module],
        optimizers: Sequence[Optimizer] = (),
        scaler: Any = None,
        every: int = 1,
        updates: int = 10,
        depth: int | None = None,
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
        activations: bool = False,
        near: FrameType | None = None,
    ):
        self.history = History()
        self.problem: str | None = None
        """What went wrong inside gradnb, in one line; the training goes on without the monitor then."""
        self._watched = Watched(models, self.history, depth, include, exclude, gone=self.stop)
        self._watched.scan()
        if not self.history.layers:
            raise UsageError(nothing_left(models, include, exclude))
        self._engine = Engine(self.history)
        scaling = Scaling(scaler if scaler is not None else in_use(near))
        self._updates = updates
        self._recorder = Recorder(self._watched, optimizers, scaling, every, self._is_dear, self._refresh, self._finish, self._skipped)
        self._queue: deque[Round] = deque()
        self._numbers: deque[tuple[Callable[[float], None], Reading]] = deque()
        self._panel: Panel | None = None
        self._shown = 0.0
        self._sinks: list[Callable[[History, int], None]] = []
        self._epochs = summary.Epochs()
        self._bad: set[str] = set()
        self._skips = 0
        self.stopped = False
        for other in [one for one in _active if one._watched.same(self._watched)]:
            other.stop()  # the cell that watches was run again: two monitors would cost twice
        self._ranks = Ranks.here(self._watched)
        self._activations = Activations(models, self._share, self._failed) if activations else None
        self._probe = Probe(self._watched, optimizers, self._recorder, self._failed)
        _active.add(self)
        if optimizers and not any(layer.held for layer in self.history.layers):
            self.history.event(0, "foreign", "no optimizer that was given holds a parameter that is watched")
            self._engine.run()

    # what the user tells

    def log(self, **numbers: Any) -> None:
        """Add ``**numbers`` of your own to this step, as in ``monitor.log(loss=loss, reward=r, accuracy=acc)``.

        A number, or a tensor or array of one element; None is passed over. A tensor on a GPU is read later, without waiting for it.
        Raises UsageError for anything else.
        """
        for name, value in numbers.items():
            if value is not None:
                step = self._step_of(name)
                self._later(number(name, value), functools.partial(self._log, step, name))
        self._drain()

    def gate(self, name: str, fired: Any) -> None:
        """Count a gate: ``monitor.gate("memory", fired=stored)`` says once for each question whether it let something through.

        ``name`` is the gate's, ``fired`` a truth value, a number or a tensor of one element. Raises UsageError for anything else.
        """
        step = self._recorder.step + (1 if self._recorder.pending or not self._recorder.step else 0)
        self._later(number(name, fired), lambda found: self.history.gate(step, name, float(bool(found))))
        self._drain()

    def epoch(self, number: int | None = None) -> None:
        """Say the end of an epoch: prints one line, the sub-models' gradients and what was logged, as means over the epoch.

        ``number`` is the epoch's in that line; epochs are counted without it.
        """
        self.flush()
        line = self._epochs.close(self.history, self._engine.flags, number)
        self.history.event(self.history.step, "epoch", line)
        if self._leads:
            if self._panel is not None:
                self._panel.clear()
            print(line, flush=True)
        self._show(at_once=True)

    def rule(self, name: str, when: Any, text: str = "", severity: str = "warning", advice: str = "") -> None:
        """Add a rule of your own: ``monitor.rule("hot", when="loss > 10 for 20", text="the loss stays above 10")``.

        ``when`` is a condition on a series, or a function of a View that gives True, a sentence or a Sign when something is wrong. It is
        asked at the recorded steps 1, 2, 3, 5, 10 and then at every 10th. ``text`` says what is wrong, ``advice`` what to try; ``name`` is
        the flag's, ``severity`` "error", "warning" or "info". Raises UsageError for what cannot be read.
        """
        self._engine.rules.append(own(name, when, text, severity, advice))

    # what the user asks

    @property
    def flags(self) -> list[Flag]:
        """All flags so far, the oldest first; ``flag.active`` says whether it still goes on."""
        return self._engine.flags

    def state_dict(self) -> dict[str, Any]:
        """What it knows as plain data (dicts, lists, strings, numbers, None), about 2 MB at most, for a checkpoint.

        History, events, gates, flags and the step count; not the rules of your own and not what was passed to a board. Of so many layers
        that they would take more, older steps are put together in longer blocks. Under ``torch.distributed`` each rank has its own.
        """
        from . import state

        self.flush()
        return state.of(self)

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from ``state_dict``, that of an earlier monitor, in place of what this one knows: steps count on, and a flag that was
        active stays the same flag.

        Layers are matched by name; those that are new or missing are named in ``history.events``. Raises UsageError for what is no such
        state, and changes nothing then.
        """
        from . import state

        self.flush()
        self._refresh(True, self.history.step)  # what the restored model trains, too
        state.into(self, state_dict)
        self._show(at_once=True)

    def flush(self) -> None:
        """Take in what is still on its way from the GPU or from other ranks. It may wait for the GPU."""
        try:
            self._drain(wait=True)
        except Exception as error:
            self._failed(error)

    def stop(self) -> None:
        """Remove every hook. The history and the flags stay; doing it twice is harmless."""
        if self.stopped:
            return
        self.stopped = True
        self._probe.remove()
        if self._activations is not None:
            self._activations.remove()
        _active.discard(self)
        try:
            self._recorder.close()
            self._drain(wait=True)
            self._engine.run()
            self._tell_boards(self.history.step + 1)  # what was logged behind the last row
        except Exception as error:
            self._failed(error)
        if self._ranks is not None:
            self._ranks.close()
        self.history.event(self.history.step, "stopped", "the monitor was stopped")
        self._show(at_once=True)

    def __enter__(self) -> "Monitor":
        return self

    def __exit__(self, *exception: Any) -> None:
        self.stop()

    def attach(self, panel: Panel | None) -> None:
        """Let ``panel`` be updated, at most four times a second and at the end; None takes it away. Of several ranks the first shows."""
        self._panel = panel if self._leads else None
        if self._panel is not None:
            self._panel.of(self)
        self._show(at_once=True)

    @property
    def _leads(self) -> bool:
        """Whether this process is the one that shows."""
        return self._ranks is None or self._ranks.rank == 0

    # what the probe tells

    def _is_dear(self, nth: int) -> bool:
        """Whether weights and updates are measured at the n-th recorded step, too: often while a training settles, then seldom."""
        every = self._updates if nth <= _SETTLED or self._updates == 1 else 5 * self._updates
        return self._updates > 0 and (nth <= 3 or nth % every == 0)

    def _refresh(self, all_of_it: bool, step: int) -> None:
        """Take up parameters that were unfrozen or added."""
        if all_of_it or self._watched.unfrozen():
            fresh = self._watched.scan()
            if fresh:
                names = ", ".join(dict.fromkeys(self.history.layers[self._watched.layer[at]].name for at in fresh))
                self.history.event(step, "unfrozen", f"watched from now on: {names}")
                self._probe.hook_all()
                self._recorder.forget()

    def _finish(self, round: Round) -> None:
        if round not in self._queue:
            self._queue.append(round)
        self._drain()
        self._probe.stepped(round.step - self._recorder.start)

    def _skipped(self, step: int) -> None:
        self.history.event(step, "skipped", f"GradScaler left step {step} out: a gradient was infinite or NaN")
        self._skips += 1
        if self._skips % _SKIPS == 0:
            self._engine.run()  # while it goes on like this no step is recorded that would ask the rules

    def _drain(self, wait: bool = False) -> None:
        while self._numbers and (wait or self._numbers[0][1].ready()):
            keep, reading = self._numbers.popleft()
            keep(reading.values()[0])
        while self._queue and (wait or self._queue[0].ready()):
            self._take_in(self._queue.popleft())
        if self._ranks is not None:
            self._ranks.collect(self._keep, wait)

    def _take_in(self, round: Round) -> None:
        numbers = {name: value.values()[0] if isinstance(value, Reading) else value for name, value in round.numbers.items()}
        if numbers.pop("found_inf", 0.0):
            self._skipped(round.step)
        elif round.parts:
            exchange(self._ranks, round.step, round.sums(self._watched), self._keep)
        for name, value in numbers.items():
            self.history.amend(round.step, name, value)

    def _keep(self, step: int, sums: Sums, said: Sequence[str] = ()) -> None:
        """A row is complete."""
        write(self.history, step, sums)
        self._epochs.step(self.history.layers, sums.get("norm", ()))
        for text in said:
            self.history.event(step, "ranks", text)
        norm = sums.get("norm", ())
        bad: set[str] = set()
        if not math.isfinite(sum(square for square in norm if square is not None)):
            bad = {layer.name for layer, square in zip(self.history.layers, norm) if square is not None and not math.isfinite(square)}
        new, self._bad = bad - self._bad, bad
        if new:
            self.history.event(step, "nan", f"NaN or infinity in the gradient of {', '.join(sorted(new))}")
        if self._engine.due() or new:
            for label in self._watched.idle(self._recorder.optimizers):
                self.history.event(step, "frozen", label)
            self._engine.run()
        self._tell_boards(step)
        self._show()

    def _tell_boards(self, step: int) -> None:
        for sink in list(self._sinks):
            try:
                sink(self.history, step)
            except Exception as error:
                self._sinks.remove(sink)
                self._tell(f"passing the numbers on failed and is switched off: {_said(error)}")

    def _show(self, at_once: bool = False) -> None:
        if self._panel is None or (not at_once and time.monotonic() - self._shown < _SHOWN):
            return
        self._shown = time.monotonic()
        try:
            self._panel.update(self.history, self.flags)
        except Exception as error:
            self._panel = None
            self._tell(f"the display failed and is switched off: {_said(error)}")

    # numbers of the user's

    def _step_of(self, name: str) -> int:
        """The step that a number logged now belongs to: the one that comes when its backward pass is over or it has this number."""
        step = self._recorder.step
        newest = self.history.tail(name)
        ahead = self._recorder.pending or not step or (bool(newest) and newest[0][0] >= step)
        return step + 1 if ahead else step

    def _log(self, step: int, name: str, value: float) -> None:
        self.history.log(step, name, value)
        self._epochs.log(name, value)

    def _later(self, value: float | Tensor, keep: Callable[[float], None]) -> None:
        if isinstance(value, Tensor):
            self._numbers.append((keep, read([], [value.reshape(())])))
        else:
            self._numbers.append((keep, Reading.of([value])))

    def _share(self, name: str, value: float) -> None:
        self.history.amend(self._recorder.step + 1, name, value)

    def _failed(self, error: BaseException) -> None:
        """A fault of gradnb's own: one line, and the training goes on without us."""
        if self.problem is None:
            self.problem = _said(error)
            self._tell(f"internal problem ({self.problem}); the monitor has stopped, your training goes on.")
            self.history.event(self.history.step, "note", f"the monitor stopped by a fault of its own: {self.problem}")
        self.stop()

    def _tell(self, text: str) -> None:
        print("gradnb: " + text, file=sys.stderr, flush=True)


def _said(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]
