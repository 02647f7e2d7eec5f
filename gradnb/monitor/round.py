"""A round of optimizer steps, and what was read in it: from readings to sums per layer, from sums to a row of the history."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from .history import History, Row
from .layers import Watched
from .measure import Reading

Sums = dict[str, list[float | None]]
"""By quantity, one value a layer, None where nothing was read: "norm", "after", "weight" and "moved" are sums of squares, "bad",
"missing", "nonzero" and "size" counts. Sums of several optimizers, or of several ranks' shards, add up."""


@dataclass
class Part:
    """What one optimizer's step was about to move its parameters by."""

    places: list[int]
    """The parameters that have a gradient, by position."""
    before: list[tuple[list[int], Reading]]
    """Norms at the end of backward passes, by position; of several readings of a parameter the last counts."""
    after: Reading | None
    """Their norms at the step, where something wrote to them since (clipping); then the numbers."""
    lost: bool
    """Something wrote to them before they were measured: what they were is not known."""
    scaled: bool
    """Whether the readings before are to be divided by the scale that was read with them."""
    scale: Reading | None = None
    """The scale, for readings that were taken before the scaler was known."""
    missing: list[int] = field(default_factory=list)
    """Parameters that the optimizer holds and that have no gradient."""
    loose: set[int] = field(default_factory=set)
    """Those that no optimizer is known to hold."""
    taken: set[int] = field(default_factory=set)
    """Loose ones that an optimizer turned out to hold, which then reads them itself."""


@dataclass
class Round:
    """One step of each optimizer: a row of the history."""

    step: int
    sampled: bool
    dear: bool
    """Whether weights, updates and zeros are measured, too."""
    stepped: set[int] = field(default_factory=set)
    parts: list[Part] = field(default_factory=list)
    told: int = 0
    """How many of the parts were handed on."""
    weights: list[tuple[list[int], Reading]] = field(default_factory=list)
    moves: list[tuple[list[int], Reading]] = field(default_factory=list)
    zeros: list[tuple[list[int], list[int], Reading]] = field(default_factory=list)
    numbers: dict[str, float | Reading] = field(default_factory=dict)
    """Learning rates and the like; a Reading holds one number."""

    def ready(self) -> bool:
        """Whether all of it can be read without waiting."""
        return all(reading.ready() for reading in self._readings())

    def _readings(self) -> Iterable[Reading]:
        for part in self.parts:
            yield from (reading for _, reading in part.before)
            if part.scale is not None:
                yield part.scale
            if part.after is not None:
                yield part.after
        yield from (reading for _, reading in [*self.weights, *self.moves])
        yield from (reading for _, _, reading in self.zeros)
        yield from (value for value in self.numbers.values() if isinstance(value, Reading))

    def sums(self, watched: Watched) -> Sums:
        """Read it all and add it up per layer."""
        sums = _Adding(len(watched.layers), watched.layer)
        for part in self.parts:
            _add_part(sums, part)
        for name, readings in (("weight", self.weights), ("moved", self.moves)):
            for places, reading in readings:
                sums.squares(name, places, reading.values())
        for places, sizes, reading in self.zeros:
            sums.plain("nonzero", places, reading.values())
            sums.plain("size", places, sizes)
        return sums.found


class _Adding:
    """Adds numbers of parameters up to numbers of layers."""

    def __init__(self, layers: int, layer_of: list[int]):
        self.found: Sums = {}
        self._layers, self._layer_of = layers, layer_of

    def column(self, name: str) -> list[float | None]:
        if name not in self.found:
            self.found[name] = [None] * self._layers
        return self.found[name]

    def squares(self, name: str, places: Sequence[int], values: Iterable[float]) -> None:
        into, layer_of = self.column(name), self._layer_of
        for at, value in zip(places, values):
            layer = layer_of[at]
            into[layer] = value * value + (into[layer] or 0.0)

    def plain(self, name: str, places: Sequence[int], values: Iterable[float]) -> None:
        into = self.column(name)
        for at, value in zip(places, values):
            layer = self._layer_of[at]
            into[layer] = value + (into[layer] or 0.0)


def _add_part(sums: _Adding, part: Part) -> None:
    places, taken = part.places, part.taken
    if part.missing:
        sums.plain("missing", part.missing, [1.0] * len(part.missing))
        sums.squares("norm", part.missing, [0.0] * len(part.missing))
    after = None if part.after is None else part.after.unscaled(True)
    if after is not None and (part.before or part.lost) and not taken:
        sums.squares("after", places, after)
    if part.lost:
        return
    if len(part.before) == 1 and part.before[0][0] == places and not taken:
        sums.squares("norm", places, _unscaled(part, part.before[0][1]))
        if bad := part.before[0][1].bad:
            sums.plain("bad", [places[k] for k in bad], bad.values())
        return
    values, bad_ones = {}, {}
    sources = [*([(places, part.after)] if part.after is not None else []), *part.before]
    wanted = set(places) - taken
    for mine, reading in sources:  # a later one counts; at the step only where backward gave nothing
        row = after if reading is part.after and after is not None else _unscaled(part, reading)
        for k, at in enumerate(mine):
            if at in wanted:
                values[at], bad_ones[at] = row[k], reading.bad.get(k, 0)
    sums.squares("norm", list(values), values.values())
    if any(bad_ones.values()):
        sums.plain("bad", list(bad_ones), bad_ones.values())


def _unscaled(part: Part, reading: Reading) -> list[float]:
    if part.scaled and not reading.scaled and part.scale is not None:
        scale = part.scale.values()[0]
        return [value / scale for value in reading.values()]
    return reading.unscaled(part.scaled)


def row(sums: Sums) -> Row:
    """The columns of the history. "bad" and "missing" are there only where one is not 0."""
    norm = [None if square is None else math.sqrt(square) for square in sums["norm"]] if "norm" in sums else []
    found: Row = {"norm": norm} if norm else {}
    if "missing" in sums:
        found["missing"] = [None if value is None else count or 0.0 for value, count in zip(norm, sums["missing"])]
    bad = sums.get("bad")
    if bad is not None or not math.isfinite(sum(value for value in norm if value is not None)):
        # A norm that is not finite but was not counted (read from a GPU) has no count, which is not 0.
        counted = bad or [None] * len(norm)
        found["bad"] = [
            (0.0 if value is not None and math.isfinite(value) else None) if n is None else n for value, n in zip(norm, counted)
        ]
    if "weight" in sums:
        weight = sums["weight"]
        found["weight"] = [None if square is None else math.sqrt(square) for square in weight]
        found["update"] = [
            math.sqrt(square / base) if square is not None and base else None for square, base in zip(sums.get("moved", ()), weight)
        ] or [None] * len(weight)
    if "size" in sums:
        pairs = zip(sums["nonzero"], sums["size"])
        found["zeros"] = [1.0 - count / size if count is not None and size else None for count, size in pairs]
    return found


def write(history: History, step: int, sums: Sums) -> None:
    """Put the row and the global norms into the history."""
    history.put(step, row(sums))
    norm, after = sums.get("norm"), sums.get("after")
    if norm is not None:
        history.amend(step, "global_norm", math.sqrt(sum(square for square in norm if square is not None)))
    if after is not None:
        # A layer that nothing wrote to is after clipping what it was before.
        left = [old if new is None else new for old, new in zip(norm or [None] * len(after), after)]
        history.amend(step, "clipped_norm", math.sqrt(sum(square for square in left if square is not None)))
