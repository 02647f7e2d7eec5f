"""The backward passes: which loss, did it work, and the scans that look for dead gradients inside one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from .events import RawEvent
from .frames import Site
from .operations import Operation
from .zeros import ZeroScan

if TYPE_CHECKING:
    from .recorder import Recorder

SMALL = 400  # nodes of a graph whose first backward is looked into at once
LARGE = 20_000  # …and once a step has shown a zero or missing gradient
SCANS = 12


class Backward:
    """Runs ``backward`` and ``autograd.grad`` for the user and notes what came of it."""

    def __init__(self, recorder: "Recorder"):
        self.recorder = recorder
        self.scans: list[ZeroScan] = []
        self.wanted = 0  # scans that a starving step asked for
        self._scanned: set[tuple] = set()

    def run(self, func: Any, args: tuple, kwargs: dict, sites: tuple[Site, ...]) -> Any:
        losses = args[0] if args else kwargs.get("tensors")
        several = [losses] if isinstance(losses, torch.Tensor) else [t for t in (losses or ()) if isinstance(t, torch.Tensor)]
        event = RawEvent("backward", sites, len(self.recorder.log.ops))
        scan = None
        with self.recorder.guard():
            self._before_backward(event, several)
            scan = self._scan(several, sites)
        try:
            return func(*args, **kwargs)
        except BaseException as error:
            event.ok, event.error = False, f"{type(error).__name__}: {error}"[:600]
            raise
        finally:
            with self.recorder.guard():
                if scan is not None:
                    scan.finish()
                self.recorder.gradients.pending = True

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
            self.recorder.gradients.keep_loss(event, losses[0])
        self.recorder.events.append(event)

    def _scan(self, losses: list[torch.Tensor], sites: tuple[Site, ...]) -> ZeroScan | None:
        key = sites[:1]
        first = key not in self._scanned
        if not (first or self.wanted) or len(self.scans) > SCANS:
            return None
        self._scanned.add(key)
        scan = ZeroScan(self.recorder, len(self.recorder.events) - 1)
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
        event = RawEvent("grad", sites, len(self.recorder.log.ops))
        with self.recorder.guard():
            self._before_backward(event, losses)
            event.inputs = tuple(self.recorder.log.value(t) for t in targets)
        try:
            out = func(*args, **kwargs)
        except BaseException as error:
            event.ok, event.error = False, f"{type(error).__name__}: {error}"[:600]
            raise
        with self.recorder.guard():
            self.recorder.gradients.of_call(event, targets, out)
            made = tuple(self.recorder.log.add(t, len(self.recorder.log.ops), -1) for t in out if isinstance(t, torch.Tensor))
            self.recorder.mode._write(Operation("autograd.grad", "grad", False, False), event.losses + event.inputs, made, sites, via)
        return out
