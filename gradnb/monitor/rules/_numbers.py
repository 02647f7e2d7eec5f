"""Arithmetic and words that several rules share: plain numbers, no torch."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from ..view import View

Point = tuple[int, float]
ALL = 1_000_000  # more points than a history keeps
_ENDINGS = ("loss", "losses", "objective", "nll", "elbo")


class Ends(NamedTuple):
    """How a series began and how it stands now: means of two equal stretches, and the noise of their difference."""

    before: float
    after: float
    noise: float
    """Standard error of ``after - before``."""

    @property
    def change(self) -> float:
        return self.after - self.before


def finite(points: Iterable[Point]) -> list[float]:
    """The values of a series that are numbers."""
    return [value for _, value in points if math.isfinite(value)]


def median(values: Sequence[float]) -> float:
    """The median, 0.0 of nothing."""
    return statistics.median(values) if values else 0.0


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def deviation(values: Sequence[float]) -> float:
    """The standard deviation."""
    return math.dist(values, [mean(values)] * len(values)) / math.sqrt(len(values)) if values else 0.0


def ends(values: Sequence[float], share: float = 0.25) -> Ends:
    """The first and the last ``share`` of the values compared; successive values are taken as half independent."""
    many = max(1, int(share * len(values)))
    first, last = values[:many], values[-many:]
    noise = math.sqrt(2 * (deviation(first) ** 2 + deviation(last) ** 2) / many)
    return Ends(mean(first), mean(last), noise)


def correlation(x: Sequence[float], y: Sequence[float]) -> float:
    """Pearson's coefficient, 0.0 where one of the two does not move."""
    a, b = mean(x), mean(y)
    spread = math.sqrt(sum((u - a) ** 2 for u in x) * sum((v - b) ** 2 for v in y))
    return sum((u - a) * (v - b) for u, v in zip(x, y)) / spread if spread > 0 else 0.0


def losses(view: View) -> list[str]:
    """The names of the series that are losses: "loss", "d_loss", "train/loss", "loss.policy"."""
    return [name for name in view.names if not name.startswith(("gate:", "dead:", "saturated:")) and _is_loss(name)]


def _is_loss(name: str) -> bool:
    return any(part in _ENDINGS for part in words(name))


def words(name: str) -> list[str]:
    """The parts of a series' name: "val/topAccuracy_5" is val, top, accuracy, 5."""
    apart = "".join(f" {c.lower()}" if c.isupper() and i and name[i - 1].islower() else c.lower() for i, c in enumerate(name))
    return "".join(c if c.isalnum() else " " for c in apart).split()


def shares(view: View, kind: str, above: float, looks: int) -> Iterator[tuple[str, float]]:
    """(module, newest share) of the series "<kind>:<module>" that were above a limit in so many looks in a row."""
    for series in view.names:
        if series.startswith(f"{kind}:"):
            seen = finite(view.series(series, looks))
            if len(seen) == looks and min(seen) > above:
                yield series.partition(":")[2], seen[-1]


def number(value: float) -> str:
    """A number as everybody can read it, and never rounded to 0: 0.0234, 2.34e-04, 81.5."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    return f"{value:.3g}" if 1e-2 <= abs(value) < 1e4 else f"{value:.2e}"


def groups(view: View) -> dict[str, list[int]]:
    """The layers' numbers by sub-model."""
    return dict(view.by_model)


def named(model: str) -> str:
    """A sub-model as the subject of a sentence."""
    return f"`{model}`" if model else "the model"


def listed(layers: Sequence[str], most: int = 3) -> str:
    """The layers as a phrase; how many more there are is said."""
    quoted = [f"`{name}`" for name in layers]
    if len(quoted) > most + 1:
        return f"{', '.join(quoted[:most])} and {len(quoted) - most} more layers"
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} and {quoted[-1]}"


def total(values: Iterable[float | None]) -> float:
    """The L2 norm of the parts' L2 norms."""
    return math.sqrt(sum(value * value for value in values if value is not None))
