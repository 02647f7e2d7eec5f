"""The two gradients that are compared: what the backward says, and what finite differences say.

Complex tensors are looked at as pairs of real numbers, as autograd itself defines their gradient, so one rule serves all.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import torch

from .conditions import RandomState
from .subject import Output, Subject

ROUNDING = 64.0  # how many roundings of the largest output a difference may carry


Row = tuple[float, float, float, float]  # central, right and left slope, noise


@dataclass(slots=True)
class Slopes:
    """Finite differences at some elements of one leaf, for one output weighted by its cotangent."""

    positions: torch.Tensor  # (n,) into the leaf, flat, as real numbers
    numeric: torch.Tensor  # (n,) central
    right: torch.Tensor  # (n,) one-sided
    left: torch.Tensor
    noise: torch.Tensor  # (n,) what rounding alone can make of the difference


def real(tensor: torch.Tensor) -> torch.Tensor:
    """Flat and real: a complex number becomes two."""
    plain = tensor.detach()
    return (torch.view_as_real(plain.resolve_conj()) if plain.is_complex() else plain).reshape(-1)


class Bench:
    """Runs the subject from one point: the same inputs and the same random numbers at each call."""

    def __init__(self, subject: Subject, state: RandomState, eps: float, seed: int):
        self.subject, self.state, self.eps = subject, state, eps
        self.points = [leaf.tensor.detach().clone().requires_grad_() for leaf in subject.leaves]
        begun = time.monotonic()
        self.outputs = self.run(self.points)
        self.seconds = time.monotonic() - begun  # of one call
        self.base = [o.tensor.detach().clone() for o in self.outputs]
        own = torch.Generator().manual_seed(seed)
        self.cotangents = [_cotangent(o.tensor, own) for o in self.outputs]

    @property
    def differentiable(self) -> list[int]:
        return [i for i, o in enumerate(self.outputs) if o.tensor.requires_grad]

    @property
    def floating(self) -> list[int]:
        return [i for i, o in enumerate(self.outputs) if o.tensor.is_floating_point() or o.tensor.is_complex()]

    def run(self, points: list[torch.Tensor]) -> list[Output]:
        self.state.rewind()
        return self.subject.run(points)

    def repeats(self) -> bool:
        """Whether a second call gives the same numbers."""
        again = [o.tensor for o in self.run(self.points)]
        return len(again) == len(self.base) and all(_same(a.detach(), b) for a, b in zip(again, self.base))

    def analytic(self, output: int, leaves: list[int], scale: float = 1.0, one: int | None = None) -> list[torch.Tensor | None]:
        """The backward's answer for each leaf, flat and real; ``one`` asks for one number of the output instead of the weighted sum."""
        fresh = self.run(self.points)[output].tensor
        weight = self.cotangents[output] * scale
        if one is not None:
            weight = torch.zeros_like(weight)
            (torch.view_as_real(weight) if weight.is_complex() else weight).reshape(-1)[one] = 1.0
        if not fresh.requires_grad:
            return [None] * len(leaves)
        self.state.rewind()
        found = torch.autograd.grad(fresh, [self.points[i] for i in leaves], weight, allow_unused=True)
        return [None if g is None else real(g.to_dense() if g.layout != torch.strided else g).clone() for g in found]

    def slopes(self, leaf: int, positions: torch.Tensor, eps: float | None = None) -> dict[int, Slopes]:
        """Differences at these elements for every floating output: three numbers an element from two calls."""
        outputs = self.floating
        rows: dict[int, list[Row]] = {o: [] for o in outputs}
        for position in positions.tolist():
            right, up = self._moved(leaf, position, self._step(leaf, position, eps))
            left, down = self._moved(leaf, position, -self._step(leaf, position, eps))
            for o in outputs:
                rows[o].append(self._row(o, right.get(o), up, left.get(o), down))
        made = {}
        for o in outputs:
            table = torch.tensor(rows[o], dtype=torch.float64).reshape(-1, 4)
            made[o] = Slopes(positions, table[:, 0], table[:, 1], table[:, 2], table[:, 3])
        return made

    def along(self, leaf: int, direction: torch.Tensor) -> dict[int, float]:
        """The slope of every floating output along a direction of the leaf (flat, real)."""
        step = self.step_at(float(real(self.points[leaf]).abs().max()))
        changed = []
        for sign in (1.0, -1.0):
            points = list(self.points)
            point = points[leaf].detach().clone()
            flat = torch.view_as_real(point) if point.is_complex() else point
            flat += (sign * step) * direction.reshape(flat.shape).to(flat)
            points[leaf] = point.requires_grad_()
            changed.append(self.run(points))
        return {o: self._dot(o, changed[0][o].tensor, changed[1][o].tensor) / (2 * step) for o in self.floating}

    def column(self, leaf: int, position: int, output: int) -> torch.Tensor:
        """d output / d element, for all numbers of the output (flat, real)."""
        step = self._step(leaf, position, None)
        right, up = self._moved(leaf, position, step)
        left, down = self._moved(leaf, position, -step)
        return (real(right[output]) - real(left[output])).double() / (up - down)

    def _step(self, leaf: int, position: int, eps: float | None) -> float:
        return self.step_at(abs(float(real(self.points[leaf])[position])), eps)

    def step_at(self, size: float, eps: float | None = None) -> float:
        """The step for an element of that size: large enough to move it."""
        return max(eps or self.eps, 16 * size * torch.finfo(real(self.points[0]).dtype).eps)

    def _moved(self, leaf: int, position: int, step: float) -> tuple[dict[int, torch.Tensor], float]:
        """The outputs with one element moved, and how far it really moved."""
        points = list(self.points)
        point = points[leaf].detach().clone()
        flat = torch.view_as_real(point).reshape(-1) if point.is_complex() else point.reshape(-1)
        was = float(flat[position])
        flat[position] += step
        by = float(flat[position]) - was
        if point.is_complex():
            point = torch.view_as_complex(flat.reshape(*point.shape, 2))
        else:
            point = flat.reshape(point.shape)
        points[leaf] = point.detach().requires_grad_()
        outputs = self.run(points)
        return {o: outputs[o].tensor.detach() for o in self.floating if o < len(outputs)}, by

    def _row(self, o: int, right: torch.Tensor | None, up: float, left: torch.Tensor | None, down: float) -> Row:
        base = self.base[o]
        if right is None or left is None or right.shape != base.shape or left.shape != base.shape or not up or not down:
            return math.nan, math.nan, math.nan, math.nan
        ahead, behind = self._dot(o, right, base), self._dot(o, base, left)
        size = float((real(self.cotangents[o]) * torch.nan_to_num(real(base), 0.0, 0.0, 0.0)).abs().sum())
        noise = ROUNDING * torch.finfo(real(base).dtype).eps * size / (up - down)
        return (ahead + behind) / (up - down), ahead / up, behind / -down, noise

    def _dot(self, o: int, one: torch.Tensor, other: torch.Tensor) -> float:
        """Weighted difference of two values of an output; what is not finite at the point itself takes no part."""
        weights = real(self.cotangents[o])
        difference = real(one) - real(other)
        difference = torch.where(torch.isfinite(real(self.base[o])), difference, torch.zeros_like(difference))
        return float((weights * difference).double().sum())


def _cotangent(output: torch.Tensor, own: torch.Generator) -> torch.Tensor:
    """Random weights, none near zero, so that no error can hide behind one."""
    if not (output.is_floating_point() or output.is_complex()):
        return torch.zeros_like(output)
    shape = (*output.shape, 2) if output.is_complex() else output.shape
    drawn = torch.rand(shape, generator=own, dtype=torch.float64) + 0.5
    drawn = torch.where(torch.rand(shape, generator=own) < 0.5, -drawn, drawn)
    weights = (torch.view_as_complex(drawn) if output.is_complex() else drawn).to(output.device, output.dtype)
    return torch.where(torch.isfinite(output.detach()), weights, torch.zeros_like(weights))


def _same(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.shape == other.shape and one.dtype == other.dtype and torch.equal(real(one).nan_to_num(), real(other).nan_to_num())
