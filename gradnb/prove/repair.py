"""A repair: at the lines it is given, and nowhere else, what drops the gradient does not."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from types import CodeType, FrameType
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from ..recorder.frames import Frames, user_frame
from ..recorder.operations import Operation, describe
from .claim import Kind, Spot
from .surrogate import between, looks_up

_DISTRIBUTIONS = os.path.join("torch", "distributions", "")
_ADDING = set("add sub rsub add_ sub_ __add__ __radd__ __sub__ __rsub__ __iadd__ __isub__ stack cat sum".split())

Place = tuple[str, int]
Handler = Callable[["Repair", Spot, Operation, Any, tuple, dict], Any]


class Repair:
    """Where something is undone, how often that happened, and what came of it."""

    def __init__(self, spots: tuple[Spot, ...], frames: Frames, terms: Iterable[Place] = ()):
        self.spots = {(spot.filename, spot.line): spot for spot in spots}
        self.kinds = frozenset(kind for spot in spots for kind in spot.kinds)
        self.frames = frames
        self.hits: Counter[Kind] = Counter()
        self.witnesses: list[torch.Tensor] = []
        self.came_back = 0.0
        self.terms: dict[Place, list[tuple[bool, ...]]] = {place: [] for place in terms}

    def frame(self) -> FrameType | None:
        """The frame of the user's that led to the running call."""
        return user_frame(self.frames, 2)

    def at(self, frame: FrameType | None, *kinds: Kind) -> Spot | None:
        """The spot that the frame stands on, if the repair undoes one of these kinds there."""
        if frame is None:
            return None
        spot = self.spots.get((frame.f_code.co_filename, frame.f_lineno))
        return spot if spot is not None and not spot.kinds.isdisjoint(kinds or spot.kinds) else None

    def here(self, kind: Kind) -> Spot | None:
        """The spot on which the user's code stands now, for patches that are called from it."""
        return self.at(self.frame(), kind) if kind in self.kinds else None

    def hit(self, kind: Kind) -> None:
        self.hits[kind] += 1

    def passed(self, value: torch.Tensor) -> torch.Tensor:
        """Note the gradient that comes back through a repaired value."""
        if value.requires_grad:
            value.register_hook(self._back)
        return value

    def _back(self, gradient: torch.Tensor) -> None:
        with torch._C.DisableTorchFunction(), torch.no_grad():
            norm = float(gradient.detach().abs().sum()) if gradient.layout is torch.strided else 1.0
        if norm == norm:
            self.came_back = max(self.came_back, norm)


class RepairMode(TorchFunctionMode):
    """Hands every torch call that stands on a spot to the handlers of the kinds that are undone there."""

    def __init__(self, repair: Repair, handlers: dict[Kind, Handler], factory: Handler):
        super().__init__()
        self.repair = repair
        self.handlers = handlers
        self.factory = factory
        self.smooth = bool(repair.kinds & {Kind.ROUND, Kind.SMOOTH})
        self._known: dict[Any, Operation] = {}

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        operation = self._known.get(func)
        if operation is None:
            operation = self._known[func] = describe(func)
        repair = self.repair
        frame = user_frame(repair.frames, 1)
        spot = repair.at(frame)
        if operation.name == "_set_grad_enabled":
            spot = spot or decorated(repair)
        if repair.terms and frame is not None and operation.name in _ADDING:
            self._watch(frame, args)
        index = looks_up(operation.name, args) if self.smooth else None
        if index is not None:
            return between(operation.name, func, args, kwargs, index)
        if spot is not None:
            for kind in spot.kinds:
                handler = self.handlers.get(kind)
                out = handler(repair, spot, operation, func, args, kwargs) if handler is not None else NotImplemented
                if out is not NotImplemented:
                    return out
        if operation.kind == "factory":
            out = self.factory(repair, spot, operation, func, args, kwargs)  # type: ignore[arg-type]
            if out is not NotImplemented:
                return out
        return func(*args, **kwargs)

    def _watch(self, frame: FrameType, args: tuple) -> None:
        """Which operands of an addition at a term's place require grad."""
        seen = self.repair.terms.get((frame.f_code.co_filename, frame.f_lineno))
        if seen is not None and len(seen) < 64:
            flat = [a for arg in args for a in (arg if isinstance(arg, (list, tuple)) else (arg,))]
            seen.append(tuple(isinstance(a, torch.Tensor) and a.requires_grad for a in flat))


def inside_library(frame: FrameType | None) -> bool:
    """Is the running call one that torch.distributions makes for itself, on its way from the user's frame."""
    between: FrameType | None = sys._getframe(2)
    while between is not None and between is not frame:
        if _DISTRIBUTIONS in between.f_code.co_filename:
            return True
        between = between.f_back
    return False


def decorated(repair: Repair) -> Spot | None:
    """The spot of the decorator whose function is being entered: ``@torch.no_grad()`` runs in frames of torch's own."""
    frame: FrameType | None = sys._getframe(2)
    for _ in range(6):
        if frame is None:
            return None
        if frame.f_code.co_name == "decorate_context":
            code = getattr(frame.f_locals.get("func"), "__code__", None)
            return decorator_spot(repair, code) if code is not None else None
        frame = frame.f_back
    return None


def decorator_spot(repair: Repair, code: CodeType) -> Spot | None:
    """A spot between the first decorator of a function and its first statement."""
    body = min((line for _, _, line in code.co_lines() if line is not None and line > code.co_firstlineno), default=code.co_firstlineno)
    for (filename, line), spot in repair.spots.items():
        if filename == code.co_filename and code.co_firstlineno <= line < max(body, code.co_firstlineno + 1):
            return spot
    return None


def exact(frame: FrameType | None, spot: Spot) -> bool:
    """Does the frame stand on the very expression of the spot."""
    if frame is None or spot.span is None:
        return True
    positions = list(frame.f_code.co_positions())
    at = frame.f_lasti // 2
    return at >= len(positions) or positions[at] == spot.span
