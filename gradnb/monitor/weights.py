"""What the weights were before a step: a copy that stays on the CPU, because fresh memory costs more than all the measuring."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..recorder import packed
from .measure import Reading, cheap, copied, fit, local, moved, moved_and_copied, simple, unseen

_KEEP = 256 * 2**20  # bytes of weights whose copy may stay between two steps that measure updates


class Weights:
    """The weights that one optimizer moves. ``before`` and ``after`` each of its measured steps are given the same tensors."""

    def __init__(self) -> None:
        self._small: _Small | None = None
        self._large = _Large()

    def before(self, tensors: Sequence[Tensor]) -> Reading:
        """Their norms."""
        small, large = packed.split(tensors) if simple(tensors) else ([], [])
        if not small:
            self._small = None
            return self._large.before(tensors)
        self._small = _Small(small, large)
        return self._small.joined(self._small.before(tensors), self._large.before([tensors[place] for place in large]))

    def after(self, tensors: Sequence[Tensor], again: bool) -> Reading:
        """How far they have moved. ``again`` says that the next step is measured, too."""
        if self._small is None:
            return self._large.after(tensors, again)
        large = self._large.after([tensors[place] for place in self._small.others], again)
        return self._small.joined(self._small.after(tensors), large)


class _Small:
    """Small tensors, all in one vector: made anew for each measured step, which costs less than to see whether it is still true."""

    def __init__(self, places: list[int], others: list[int]):
        self.places, self.others = places, others
        self._vector = torch.empty(0)

    def before(self, tensors: Sequence[Tensor]) -> Reading:
        with unseen():
            mine = [tensors[place] for place in self.places]
            self._vector = packed.flat(mine)
            return Reading.of(packed.norms(self._vector, mine).tolist())

    def after(self, tensors: Sequence[Tensor]) -> Reading:
        with unseen():
            mine = [tensors[place] for place in self.places]
            return Reading.of(packed.norms(self._vector - packed.flat(mine), mine).tolist())

    def joined(self, mine: Reading, others: Reading) -> Reading:
        return Reading.joined(len(self.places) + len(self.others), (self.places, mine), (self.others, others)) if self.others else mine


class _Large:
    """The others: their copies are kept where they are written while they are in the processor's cache."""

    def __init__(self) -> None:
        self._copies: list[Tensor] = []
        self._stay = self._cheap = False
        self._norms: Reading | None = None
        self._marks: list[tuple[int, int, torch.Size]] = []

    def before(self, tensors: Sequence[Tensor]) -> Reading:
        """Their norms. They are copied, unless the copy made after the last step is still what they are."""
        if not tensors:
            return Reading.of([])
        norms, self._norms = self._norms, None
        if norms is not None and self._marks == _marks(tensors):
            return norms
        if fit(self._copies, tensors):
            _, norms = copied(tensors, self._copies)
        else:
            self._copies, norms = copied(tensors)
            size = sum(one.numel() * one.element_size() for one in self._copies)
            self._stay = size <= _KEEP and all(one.device.type == "cpu" for one in self._copies)
            self._cheap = self._stay and cheap(self._copies)
        norms.settle(self._copies)
        return norms

    def after(self, tensors: Sequence[Tensor], again: bool) -> Reading:
        """How far they have moved. ``again`` says that the next step is measured, too: then they are copied for it at once, while they
        are in the processor's cache."""
        if not tensors:
            return Reading.of([])
        if again and self._cheap:
            moves, self._norms = moved_and_copied(self._copies, tensors)
            self._marks = _marks(tensors)
            return moves
        moves = moved(self._copies, tensors)
        moves.settle(self._copies)
        if not self._stay:
            self._copies = []
        return moves


def _marks(tensors: Sequence[Tensor]) -> list[tuple[int, int, torch.Size]]:
    """What changes when something writes to a tensor or puts other numbers in its place; a write through ``.data`` alone does not show."""
    return [(tensor._version, (now := local(tensor)).data_ptr(), now.shape) for tensor in tensors]
