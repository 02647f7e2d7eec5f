"""Facts about numbers: where the first value that is not finite was born, and how large the gradient is along the graph."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch


@dataclass(slots=True)
class Numbers:
    """What stood in a tensor. ``low`` and ``high`` are over its finite elements."""

    shape: tuple[int, ...]
    dtype: str
    count: int
    nan: int = 0
    inf: int = 0
    zero: int = 0
    low: float | None = None
    high: float | None = None
    value: int = -1  # the recorded Value, -1 where it is none
    operand: str = ""  # what autograd calls it: "self", "other", "result"

    @property
    def finite(self) -> bool:
        return not (self.nan or self.inf)


@dataclass(slots=True)
class NonFinite:
    """The birth of the first NaN or infinity that reached a loss or a gradient."""

    phase: str  # "forward" | "backward" | "input" (was there before) | "parameter" | "step" (an optimizer made it)
    state: str  # "nan" | "inf"
    key: str  # the kind of singular point, see singular.py; "overflow", "unknown" where it is none
    event: int = -1  # the backward (or step) that showed it, -1 at a raise
    op: int = -1
    value: int = -1
    node: str = ""
    stack: tuple[int, ...] = ()
    parameters: tuple[int, ...] = ()  # whose gradient it spoilt
    inputs: list[Numbers] = field(default_factory=list)
    output: Numbers | None = None
    inner: str = ""  # the node inside an operation made of several
    filled: int = -1  # the op that wrote infinities on purpose, as a mask does
    hidden: bool = False  # the forward value never reached the loss: only backward spread it
    growth: dict[int, tuple[float, float]] = field(default_factory=dict)  # parameter -> its L2 norm at first and now
    optimizer: int = -1
    options: dict[str, float] = field(default_factory=dict)  # the optimizer's lr, eps, …


@dataclass(slots=True)
class Stage:
    """One autograd node in a backward pass that was looked into."""

    node: str
    op: int
    edges: tuple[tuple[int, int], ...]  # (stage, input number) each gradient goes to, stage -1 for none
    came: float  # L2 norm of the gradient that came in; -1 unknown, -2 none
    went: tuple[float, ...]  # … and of those that went out
    parameter: int = -1  # an AccumulateGrad's parameter
    sequence: int = -1  # the order in which the forward pass made the nodes
    note: str = ""  # see scan.Seen


@dataclass(slots=True)
class Profile:
    """How large the gradient is at each node of one backward pass."""

    event: int
    stages: list[Stage] = field(default_factory=list)


@torch.no_grad()
def numbers(tensor: torch.Tensor, value: int = -1, operand: str = "") -> Numbers:
    """What stands in a tensor; reads all of it, so only where something is wrong."""
    tensor = tensor.detach()
    found = Numbers(tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."), tensor.numel(), value=value, operand=operand)
    if not tensor.numel():
        return found
    found.zero = int((tensor == 0).sum())
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor.resolve_conj())
    if tensor.is_floating_point():
        finite = torch.isfinite(tensor)
        found.nan, found.inf = int(torch.isnan(tensor).sum()), int(torch.isinf(tensor).sum())
        tensor = tensor[finite]
    if tensor.numel():
        tensor = tensor.to(torch.float64)
        found.low, found.high = float(tensor.min()), float(tensor.max())
    return found


def largest(found: Numbers) -> float:
    """The largest absolute value among the finite elements."""
    return max(abs(found.low or 0.0), abs(found.high or 0.0)) if found.low is not None else math.nan


def options(group: dict) -> dict[str, float]:
    """The numbers among the options of an optimizer's parameter group: lr, eps, momentum, …"""
    return {k: float(v) for k, v in group.items() if isinstance(v, (int, float)) and not isinstance(v, bool)}
