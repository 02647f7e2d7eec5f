"""What the recorder notes of the training loop, before it becomes part of a Recording."""

from __future__ import annotations

import weakref
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .frames import Site

if TYPE_CHECKING:
    from .head import Head


@dataclass(slots=True)
class RawEvent:
    kind: str
    sites: tuple[Site, ...]
    time: int
    ok: bool = True
    error: str | None = None
    losses: tuple[int, ...] = ()
    inputs: tuple[int, ...] = ()
    optimizer: int | None = None
    full: bool = True
    shape: tuple[int, ...] | None = None
    uncleared: tuple[int, ...] = ()
    states: dict[int, tuple[str, float | None]] = field(default_factory=dict)  # parameter number -> (gradient, norm)
    number: float | None = None  # the loss, read after the run
    has_grad_fn: bool = True
    frozen: tuple[int, ...] = ()  # the optimizer's parameters that did not require grad
    retain: bool = False  # a backward that kept its graph
    scaler: int = -1  # the GradScaler concerned
    enabled: bool = True  # is that GradScaler switched on
    inner: bool = False  # GradScaler.step made this call itself
    skipped: bool = False  # GradScaler.step left the optimizer's step out
    numbers: tuple[int, ...] = ()  # parameters that a clip or a zero_grad is about
    factors: tuple[tuple[int, str, float], ...] = ()  # constants next to the loss: autograd node, "mul" or "div", number
    autocast: str = ""  # the low-precision dtype of the autocast region it ran in
    modes: dict[str, tuple[int, int, int]] = field(default_factory=dict)  # see training_mode.py
    owner: weakref.ref | None = None  # the module whose mode was set
    training: bool = True  # the mode it was set to
    head: "Head | None" = None  # what stands right before the loss


@dataclass(slots=True)
class RawOptimizer:
    reference: weakref.ref
    kind: str
    sites: tuple[Site, ...]
    time: int
    groups: list[list[int]] = field(default_factory=list)
    steps: int = 0
    key: int = 0
    empty_groups: tuple[int, ...] = ()
    failed: str | None = None
    signature: tuple = ()  # tells whether its groups changed since they were read
    late_steps: int = 0
    maximize: bool = False
