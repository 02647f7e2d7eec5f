"""The backward passes: which loss, did it work, and the scans that look for dead gradients inside one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from .events import RawEvent
from .frames import Site
from .head import Head, HeadScan, factors
from .log import _sequence
from .mode import autocast
from .operations import Operation
from .postmortem import MODIFIED, spoiled
from .scan import Scan
from .zeros import births

if TYPE_CHECKING:
    from .recorder import Recorder

SMALL = 4_000  # nodes of a graph whose first backward is looked into at once: some 30 µs a node, once for a training line
LARGE = 20_000  # …and once a step has shown a gradient that is zero, missing, not finite or out of proportion
SCANS = 12
HEADS = 5  # backward passes of one training line whose nodes near the loss are looked at


class Backward:
    """Runs ``backward`` and ``autograd.grad`` for the user and notes what came of it."""

    def __init__(self, recorder: "Recorder"):
        self.recorder = recorder
        self.scans: list[Scan] = []
        self.wanted = 0  # scans that a step asked for
        self._scanned: set[tuple] = set()
        self._heads: dict[tuple, int] = {}

    def run(self, func: Any, args: tuple, kwargs: dict, sites: tuple[Site, ...]) -> Any:
        losses = args[0] if args else kwargs.get("tensors")
        several = [losses] if isinstance(losses, torch.Tensor) else [t for t in (losses or ()) if isinstance(t, torch.Tensor)]
        event = RawEvent("backward", sites, len(self.recorder.log.ops), retain=_retains(args, kwargs, 2))
        scan = near = None
        with self.recorder.guard():
            self._before_backward(event, several)
            event.inputs = self._asked(kwargs.get("inputs", args[-1] if len(args) > 4 else None))
            self.recorder.nonfinite.before_backward(len(self.recorder.events) - 1, several)
            near = self._near(event, several, sites)
            scan = self._scan(several, sites)
        try:
            return func(*args, **kwargs)
        except BaseException as error:
            event.ok, event.error = False, f"{type(error).__name__}: {error}"[:600]
            self._look_back(error, several)
            raise
        finally:
            with self.recorder.guard():
                if near is not None:
                    near.finish()
                if scan is not None:
                    scan.finish()
                    scan.births = births(self.recorder, scan)
                self.recorder.gradients.pending = True
                self.recorder.nonfinite.after_backward(event)

    def _before_backward(self, event: RawEvent, losses: list[torch.Tensor]) -> None:
        self.recorder.census.take()
        self.recorder.gradients.fingerprint()
        values = []
        for loss in losses:
            index = self.recorder.log.known(loss)
            values.append(index if index >= 0 else self.recorder.mode._fresh(loss, 0))
        event.losses = tuple(values)
        if losses:
            event.shape = tuple(losses[0].shape)
            event.has_grad_fn = losses[0].grad_fn is not None
            event.factors = factors(losses[0].grad_fn)
            event.autocast = autocast()
            self.recorder.gradients.keep_loss(event, losses[0])
        self.recorder.events.append(event)

    def _asked(self, inputs: Any) -> tuple[int, ...]:
        """The values that a backward was limited to by ``inputs=``."""
        if isinstance(inputs, torch.Tensor):
            return (self.recorder.log.value(inputs),)
        several = inputs if isinstance(inputs, (list, tuple)) else ()  # a generator is the user's to read
        return tuple(self.recorder.log.value(t) for t in several if isinstance(t, torch.Tensor))

    def _near(self, event: RawEvent, losses: list[torch.Tensor], sites: tuple[Site, ...]) -> HeadScan | None:
        key = sites[:2]
        seen = self._heads[key] = self._heads.get(key, 0) + 1
        if seen > HEADS:
            return None
        event.head = Head()
        scan = HeadScan(self.recorder, event.head)
        scan.attach(losses, signs=seen == 1)
        return scan

    def _scan(self, losses: list[torch.Tensor], sites: tuple[Site, ...]) -> Scan | None:
        key = sites[:1]
        first = key not in self._scanned
        if not (first or self.wanted) or len(self.scans) > SCANS:
            return None
        self._scanned.add(key)
        scan = Scan(self.recorder, len(self.recorder.events) - 1)
        if not scan.attach(losses, LARGE if self.wanted else SMALL):
            return None
        self.wanted = max(0, self.wanted - 1)
        self.scans.append(scan)
        return scan

    def grad(self, operation: Operation, func: Any, args: tuple, kwargs: dict, where: tuple) -> Any:
        sites, via = where
        if torch._C._are_functorch_transforms_active() or not sites:
            return func(*args, **kwargs)
        outputs = args[0] if args else kwargs.get("outputs")
        wanted = args[1] if len(args) > 1 else kwargs.get("inputs")
        losses = [outputs] if isinstance(outputs, torch.Tensor) else [t for t in (outputs or ()) if isinstance(t, torch.Tensor)]
        targets = [wanted] if isinstance(wanted, torch.Tensor) else [t for t in (wanted or ()) if isinstance(t, torch.Tensor)]
        event = RawEvent("grad", sites, len(self.recorder.log.ops), retain=_retains(args, kwargs, 3))
        with self.recorder.guard():
            self._before_backward(event, losses)
            self.recorder.nonfinite.before_backward(len(self.recorder.events) - 1, losses)
            event.inputs = tuple(self.recorder.log.value(t) for t in targets)
        first = _sequence()
        try:
            out = func(*args, **kwargs)
        except BaseException as error:
            event.ok, event.error = False, f"{type(error).__name__}: {error}"[:600]
            self._look_back(error, losses)
            raise
        with self.recorder.guard():
            self.recorder.gradients.of_call(event, targets, out)
            made = tuple(self.recorder.log.add(t, len(self.recorder.log.ops), -1) for t in out if isinstance(t, torch.Tensor))
            self.recorder.mode._write(
                Operation("autograd.grad", "grad", False, False), event.losses + event.inputs, made, sites, via, first=first
            )
            self.recorder.nonfinite.after_backward(event, out)
        return out

    def _look_back(self, error: BaseException, losses: list[torch.Tensor]) -> None:
        with self.recorder.guard():
            if MODIFIED in str(error):
                self.recorder.spoiled = spoiled(self.recorder, losses)


def _retains(args: tuple, kwargs: dict, position: int) -> bool:
    """Does the call keep its graph: ``retain_graph``, and where that is not given ``create_graph``, which stands behind it."""
    given = [args[i] if len(args) > i else kwargs.get(name) for i, name in ((position, "retain_graph"), (position + 1, "create_graph"))]
    return bool(given[1] if given[0] is None else given[0])
