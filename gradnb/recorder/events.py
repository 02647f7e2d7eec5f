"""What the recorder notes of the training loop, before it becomes part of a Recording."""

from __future__ import annotations

import weakref
from dataclasses import dataclass, field

from .frames import Site


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
