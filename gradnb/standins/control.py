"""A control task: pendulums that are to be swung up and held upright by a motor that is too weak to lift them straight away."""

from __future__ import annotations

import math

import torch
from torch import Tensor

OBSERVATIONS, ACTIONS = 3, 1
LENGTH = 200
"""Steps of an episode: ten seconds."""
_SECONDS, _GRAVITY, _MOTOR, _FASTEST = 0.05, 15.0, 6.0, 8.0  # a rod of 1 m and 1 kg: 3 g / 2 l, 3 torque / m l²


class Pendulums:
    """`count` pendulums that do not touch each other. An action beyond [-1, 1] is cut off there.

    Attributes
    ----------
    angle : (count,) radians, 0 is upright; grows without bound where the pendulum goes round.
    speed : (count,) radians a second, at most 8.
    """

    def __init__(self, count: int, generator: torch.Generator | None = None):
        self.count, self.random = count, generator
        self.reset()

    def reset(self) -> Tensor:
        """Begin an episode, each pendulum at some angle and nearly at rest; what is seen."""
        self.angle, self.speed = torch.rand(2, self.count, generator=self.random) * 2 - 1
        self.angle = self.angle * math.pi
        return self.seen()

    def seen(self) -> Tensor:
        """(count, 3): cosine and sine of the angle, and the speed as a share of the fastest."""
        return torch.stack([self.angle.cos(), self.angle.sin(), self.speed / _FASTEST], dim=1)

    def away(self) -> Tensor:
        """(count,) the angle to the upright, 0 to pi."""
        return (torch.remainder(self.angle + math.pi, 2 * math.pi) - math.pi).abs()

    def step(self, action: Tensor) -> tuple[Tensor, Tensor]:
        """One step with these actions (count, 1): what is seen then, and the reward (count,) for where each was, from -1.7 to 0."""
        push = action[:, 0].clamp(-1, 1)
        reward = -(self.away() ** 2 + 0.1 * self.speed**2 + 0.004 * push**2) / 10
        self.speed = (self.speed + _SECONDS * (_GRAVITY * self.angle.sin() + _MOTOR * push)).clamp(-_FASTEST, _FASTEST)
        self.angle = self.angle + _SECONDS * self.speed
        return self.seen(), reward
