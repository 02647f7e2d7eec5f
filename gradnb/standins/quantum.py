"""A small quantum control simulator: pulses turn a two-level system (a qubit), and no two qubits are quite alike.

States are vectors on the Bloch sphere, so that what a pulse does is a rotation, a real 3 x 3 matrix. All is differentiable, twice too.
Frequencies are in radians per unit of time.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

SEGMENTS, DT = 8, 0.5
"""A control is this many pulses of constant strength, each this long."""
LIMIT = 2.0
"""The strongest pulse that the device gives."""


class Qubit(NamedTuple):
    """What is particular to one device; with a leading dimension, to each of several."""

    detuning: Tensor
    """By how much the drive misses the frequency of the qubit."""
    gain: Tensor
    """The strength that arrives, as a share of what was asked for."""
    noise: Tensor
    """Standard deviation of the detuning from one shot to the next."""

    def split(self) -> list[Qubit]:
        """Several as a list of single ones."""
        return [Qubit(*one) for one in zip(*self)]


def qubits(count: int, generator: torch.Generator | None = None) -> Qubit:
    """Draw `count` devices: detuning -1.5 to 1.5, gain 0.9 to 1.1, noise 0.05 to 0.2."""
    detuning, gain, noise = torch.rand(3, count, generator=generator)
    return Qubit(3 * detuning - 1.5, 0.9 + 0.2 * gain, 0.05 + 0.15 * noise)


def shots(qubit: Qubit, count: int, generator: torch.Generator | None = None) -> Tensor:
    """The detuning in each of `count` runs of the experiment: (count,), or (devices, count)."""
    random = torch.randn(*qubit.detuning.shape, count, generator=generator)
    return qubit.detuning[..., None] + qubit.noise[..., None] * random


def propagators(pulses: Tensor, detuning: Tensor, gain: Tensor) -> Tensor:
    """The rotation (shots, segments, 3, 3) by each pulse in each shot.

    Parameters
    ----------
    pulses : (segments, 2) strengths about the x and the y axis.
    detuning : (shots,), a slow turn about the z axis that the pulses have to live with.
    gain : (), see Qubit.
    """
    about_x, about_y, about_z = torch.tensor(
        [
            [[0.0, 0, 0], [0, 0, -1], [0, 1, 0]],
            [[0.0, 0, 1], [0, 0, 0], [-1, 0, 0]],
            [[0.0, -1, 0], [1, 0, 0], [0, 0, 0]],
        ],
        dtype=pulses.dtype,
    )
    drive = gain * (pulses[:, 0, None, None] * about_x + pulses[:, 1, None, None] * about_y)
    return torch.linalg.matrix_exp(DT * (drive + detuning[:, None, None, None] * about_z))


def evolve(rotations: Tensor) -> Tensor:
    """All pulses, one after the other: (..., segments, 3, 3) to (..., 3, 3)."""
    first, *others = rotations.unbind(-3)
    for rotation in others:
        first = rotation @ first
    return first


def fidelity(turn: Tensor) -> Tensor:
    """How well a rotation (..., 3, 3) does what the X gate does, on average over all states: 1/3 at worst, 1 at best.

    (1 + r . s) / 2 for Bloch vectors r and s that should be equal, averaged over the sphere: 1/2 + tr(X turn) / 6, where X, half a turn
    about the x axis, is diagonal.
    """
    x, y, z = turn.diagonal(dim1=-2, dim2=-1).unbind(-1)
    return 0.5 + (x - y - z) / 6
