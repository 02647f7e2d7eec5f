"""A task on small grids in which few cells change: fill the floor of the room, with the colour and in the size that a text asks for.

Colours: 0 ground, 1 wall, 2 and 3 litter, 4 to 7 paint. The input has no paint in it, so copying it is right for nine cells in ten, and
the tenth is the task.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

COLOURS, PAINTS, SIDE = 8, 4, 8
SIDES = (5, 6, 7, 8)
"""The sizes of an output grid that a text can ask for."""
WORDS, LENGTH = 40, 6
"""Words 0-15 name a paint (four synonyms each), 16-31 a size (four each), 32-39 mean nothing."""


@dataclass
class Tasks:
    """A batch of tasks; each text comes in two wordings that mean the same."""

    grid: Tensor
    """(batch, 8, 8) colours of the input."""
    text: Tensor
    """(batch, 6) words."""
    paraphrase: Tensor
    """(batch, 6) other words with the same meaning."""
    target: Tensor
    """(batch, 8, 8) colours of the output; -100 outside its size, as cross_entropy ignores it."""
    size: Tensor
    """(batch,) index into SIDES."""

    @property
    def changed(self) -> Tensor:
        """(batch, 8, 8) True on the hard cells: those in which the output differs from the input."""
        return (self.target != self.grid) & (self.target >= 0)


def tasks(count: int, generator: torch.Generator | None = None) -> Tasks:
    """Draw `count` tasks."""

    def draw(high: int, *shape: int) -> Tensor:
        return torch.randint(high, (count, *shape), generator=generator)

    paint, size = draw(PAINTS), draw(len(SIDES))
    litter = torch.rand(count, SIDE, SIDE, generator=generator) < 0.1
    grid = torch.where(litter, 2 + draw(2, SIDE, SIDE), torch.zeros(count, SIDE, SIDE, dtype=torch.long))
    # A room is 4 x 4 with a floor of 2 x 2, and lies in the part that every size has.
    rows, columns = torch.arange(SIDE)[:, None] - draw(2)[:, None, None], torch.arange(SIDE) - draw(2)[:, None, None]
    room = (rows >= 0) & (rows < 4) & (columns >= 0) & (columns < 4)
    floor = (rows >= 1) & (rows < 3) & (columns >= 1) & (columns < 3)
    grid = torch.where(room, torch.where(floor, 0, 1), grid)
    target = torch.where(floor, (4 + paint)[:, None, None], grid)
    side = torch.tensor(SIDES)[size][:, None]
    kept = torch.arange(SIDE) < side
    target = target.masked_fill(~(kept[:, :, None] & kept[:, None, :]), -100)
    return Tasks(grid, _text(paint, size, generator), _text(paint, size, generator), target, size)


def _text(paint: Tensor, size: Tensor, generator: torch.Generator | None) -> Tensor:
    """(batch, 6): a word for the paint and one for the size, somewhere among words without a meaning."""
    count = len(paint)
    words = torch.randint(32, WORDS, (count, LENGTH), generator=generator)
    synonyms = torch.randint(4, (2, count), generator=generator)
    words[:, 0], words[:, 1] = 4 * paint + synonyms[0], 16 + 4 * size + synonyms[1]
    order = torch.rand(count, LENGTH, generator=generator).argsort(dim=1)
    return words.gather(1, order)
