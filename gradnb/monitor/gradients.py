"""The gradients of a round: read where a backward pass ends, and noted there, so that the step can tell whether anything wrote to them."""

from __future__ import annotations

import weakref

from torch import Tensor

from .layers import Watched
from .measure import Reading, read
from .round import Part
from .scaler import Scaling

_WITNESSES = 32
_OVER = -1  # in place of a position whose optimizer has stepped


class _Marks:
    """Gradients as a backward pass left them: which tensor, and how often something had written to it. None of them is kept alive.

    A tensor is known by its id, which may be used again when it has gone; that some of them have not gone is known by weak references.
    One for each would make Python collect its garbage all the time.
    """

    def __init__(self, places: list[int], tensors: list[Tensor]):
        self._places = places
        self._ids = list(map(id, tensors))
        self._versions = [tensor._version for tensor in tensors]
        self._some = [weakref.ref(tensor) for tensor in tensors[:: 1 + len(tensors) // _WITNESSES]]
        self._at: dict[int, int] | None = None

    def all_same(self, places: list[int], tensors: list[Tensor], written: int) -> bool:
        """Whether these are the same places with the same tensors, and something wrote to each just so many times since."""
        return (
            places == self._places
            and self._ids == list(map(id, tensors))
            and self._versions == [tensor._version - written for tensor in tensors]
            and self._alive()
        )

    def same(self, at: int, tensor: Tensor, written: int = 0) -> bool | None:
        """The same for one place; None where it had no gradient."""
        if self._at is None:
            self._at = {place: k for k, place in enumerate(self._places)} if self._alive() else {}
        k = self._at.get(at)
        return None if k is None else self._ids[k] == id(tensor) and self._versions[k] + written == tensor._version

    def _alive(self) -> bool:
        return all(ref() is not None for ref in self._some)


class Gradients:
    """What is known of the watched gradients between a backward pass and the step that uses them."""

    def __init__(self, watched: Watched, scaling: Scaling):
        self._watched, self._scaling = watched, scaling
        self._marks: _Marks | None = None
        self._read: list[tuple[list[int], Reading]] = []

    @property
    def known(self) -> bool:
        """Whether any were read since the last round."""
        return bool(self._read)

    def clear(self) -> None:
        """The round is over."""
        self._marks, self._read = None, []

    def stepped(self, places: list[int]) -> None:
        """The optimizer of these has stepped, others of the round have not: what was read of these is used up."""
        over = set(places)
        self._read = [([_OVER if at in over else at for at in mine], reading) for mine, reading in self._read]

    def ended(self, measure: bool) -> None:
        """A backward pass has ended."""
        places, tensors = self._collect()
        self._marks = _Marks(places, tensors)
        if not measure:
            return
        if tensors:
            scale = self._scaling.scale()
            reading = read(tensors, [] if scale is None else [scale])
            reading.scaled = scale is not None
            reading.settle(tensors)
            self._read = [*(one for one in self._read if one[0] != places), (places, reading)]

    def part(self, places: list[int], scale: Tensor | None, scaled: bool, written: int = 0) -> tuple[Part, list[Tensor]]:
        """What these were when backward ended; and what they are now, where something wrote to them in another way than unscaling does.

        ``scale`` is what they still carry now, ``scaled`` whether they carried the scaler's scale when backward ended, ``written`` how
        often unscaling writes.
        """
        there, tensors = self._collect(places)
        marks = self._marks
        aligned = len(self._read) == 1 and self._read[0][0] == there
        changed = lost = False
        if not (aligned and marks is not None and marks.all_same(there, tensors, written)):
            known = {at for mine, _ in self._read for at in mine}
            for at, tensor in zip(there, tensors):
                same = marks.same(at, tensor, written) if marks is not None else None
                changed = changed or not same or at not in known
                lost = lost or (same is False and at not in known)
        after = None
        if changed and tensors:
            after = read(tensors, [] if scale is None else [scale])
            after.scaled = scale is not None
            after.settle(tensors)
        part = Part(there, self._read, after, lost, scaled)
        if scaled and not all(reading.scaled for _, reading in self._read):  # a scaler that shows itself only now
            now = self._scaling.scale()
            part.scale = None if now is None else read([], [now])
        part.missing = [at for at in places if at not in set(there)] if len(there) < len(places) else []
        return part, tensors

    def whole(self) -> Part:
        """All that was read, for a step without an optimizer."""
        return Part(sorted({at for mine, _ in self._read for at in mine}), self._read, None, False, False)

    def _collect(self, places: list[int] | None = None) -> tuple[list[int], list[Tensor]]:
        """The positions that have a gradient, of those asked for, and the gradients."""
        refs = self._watched.parameters
        wanted = list(range(len(refs))) if places is None else places
        parameters = [ref() for ref in refs] if places is None or len(places) == len(refs) else [refs[at]() for at in places]
        tensors = [grad for parameter in parameters if parameter is not None and (grad := parameter.grad) is not None]
        if len(tensors) == len(wanted):
            return wanted, tensors
        return [at for at, parameter in zip(wanted, parameters) if parameter is not None and parameter.grad is not None], tensors
