"""What kind of mistake a wrong gradient looks like, said only where every measured element fits."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch

from .measure import Slopes

KINK = 0.25  # one-sided slopes that differ by this part of the error explain it
CLOSE = 1e-3  # how well a pattern has to fit, as a part of the largest gradient


@dataclass(slots=True)
class Compared:
    """Analytic and numeric gradient of one leaf for one output, at the measured elements."""

    shape: tuple[int, ...]  # of the leaf as real numbers: a complex one has a last dimension of 2
    whole: torch.Tensor | None  # (numel,) the analytic gradient of all elements, None where the backward gave none
    slopes: Slopes
    atol: float | None
    rtol: float
    numeric: torch.Tensor = field(init=False)
    analytic: torch.Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.numeric = self.slopes.numeric
        self.analytic = self.at(self.whole) if self.whole is not None else torch.zeros_like(self.numeric)

    def at(self, whole: torch.Tensor) -> torch.Tensor:
        return whole.detach().cpu().double()[self.slopes.positions]

    @property
    def error(self) -> torch.Tensor:
        return (self.analytic - self.numeric).abs()

    @property
    def measured(self) -> torch.Tensor:
        """Where a derivative exists: the two one-sided slopes agree, or differ less than the two gradients do."""
        jump = (self.slopes.right - self.slopes.left).abs()
        return torch.isfinite(self.numeric) & ~((jump > KINK * self.error) & self._apart)

    @property
    def _apart(self) -> torch.Tensor:
        bound = self.tolerance + self.rtol * self.numeric.abs() + self.slopes.noise
        return ~(self.error <= bound)

    @property
    def wrong(self) -> torch.Tensor:
        return self._apart & self.measured

    @property
    def scale(self) -> float:
        """The largest gradient in sight."""
        both = torch.cat([self.numeric.abs(), self.analytic.abs()])
        both = both[torch.isfinite(both)]
        return float(both.max()) if both.numel() else 0.0

    @property
    def tolerance(self) -> float:
        return self.atol if self.atol is not None else 1e-5 * self.scale

    @property
    def worst(self) -> int:
        """Of the measured elements, the one that is furthest off."""
        error = torch.where(self.measured, self.error.nan_to_num(nan=math.inf), torch.full_like(self.error, -1.0))
        return int(error.argmax())

    def fits(self, other: torch.Tensor) -> bool:
        """Whether another gradient agrees at every measured element, and says something."""
        n, m = self.numeric[self.measured], self.at(other)[self.measured]
        if not n.numel() or not bool(torch.isfinite(m).all()) or float(n.abs().max()) <= self._silent:
            return False
        return bool(((m - n).abs() <= CLOSE * float(n.abs().max()) + self.slopes.noise[self.measured]).all())

    @property
    def _silent(self) -> float:
        """Below this a gradient counts as zero."""
        noise = self.slopes.noise[torch.isfinite(self.slopes.noise)]
        return max(1e-9 * self.scale, float(noise.max()) if noise.numel() else 0.0)

    # -- the patterns, in the order in which they are asked -----------------------------------------------------------

    @property
    def not_finite(self) -> bool:
        return not bool(torch.isfinite(self.analytic[self.measured]).all())

    @property
    def missing(self) -> bool:
        """The backward says nothing or zero, and the function depends on the input."""
        n = self.numeric[self.measured]
        return not bool(self.analytic.any()) and bool((n.abs() > self._silent).any())

    @property
    def surrogate(self) -> bool:
        """The function does not change anywhere in sight: a step function with a gradient made up for it."""
        return not self.missing and bool((self.numeric[self.measured].abs() <= self._silent).all())

    @property
    def saturated(self) -> bool:
        """The function does not change where it is wrong, as behind a clamp."""
        return not self.missing and bool((self.numeric[self.wrong].abs() <= self._silent).all())

    @property
    def factor(self) -> float | None:
        """analytic = factor * numeric at every measured element; None where that is not so."""
        keep = self.measured
        n, a = self.numeric[keep], self.analytic[keep]
        if not n.numel() or not bool(torch.isfinite(a).all()):
            return None
        power = float((n * n).sum())
        factor = float((a * n).sum()) / power if power else 0.0
        if abs(factor) < 1e-6 or math.isclose(factor, 1.0, rel_tol=1e-3):
            return None
        bound = CLOSE * abs(factor) * float(n.abs().max()) + abs(factor) * self.slopes.noise[keep]
        return factor if bool(((a - factor * n).abs() <= bound).all()) else None

    @property
    def similar(self) -> float | None:
        """Cosine between the two."""
        n, a = self.numeric[self.measured], self.analytic[self.measured]
        length = float(n.norm() * a.norm())
        return float((n * a).sum()) / length if length and math.isfinite(length) else None

    def moved(self) -> Iterator[tuple[str, str, torch.Tensor]]:
        """The analytic gradient with its elements in other places: kind, words, gradient."""
        if self.whole is None or not self.shape or self.whole.numel() < 2:
            return
        grid = self.whole.detach().cpu().double().reshape(self.shape)
        if grid.ndim >= 2 and grid.shape[-1] == grid.shape[-2]:
            yield "transposed", "its last two dimensions are exchanged", grid.transpose(-1, -2).reshape(-1)
        for dim, size in enumerate(grid.shape):
            if size > 1:
                yield "flipped", f"it runs backwards along dimension {dim}", grid.flip(dim).reshape(-1)
            if size > 2:
                yield "flipped", f"it is shifted by one along dimension {dim}", grid.roll(1, dim).reshape(-1)
                yield "flipped", f"it is shifted by one along dimension {dim}", grid.roll(-1, dim).reshape(-1)

    def pattern(self) -> tuple[str, str, float | None]:
        """Kind, a word on it, and the factor where there is one."""
        if self.not_finite:
            return "not-finite", "", None
        if self.missing:
            return "missing", "", None
        if self.surrogate:
            return "surrogate", "", None
        if self.saturated:
            return "saturated", "", None
        factor = self.factor
        if factor is not None:
            return ("sign" if math.isclose(factor, -1.0, rel_tol=1e-3) else "factor"), "", factor
        for kind, words, other in self.moved():
            if self.fits(other):
                return kind, words, None
        measured, wrong = int(self.measured.sum()), int(self.wrong.sum())
        return ("elements" if wrong < measured else "different"), "", None


def where_wrong(compared: Compared, values: torch.Tensor) -> str:
    """What the wrong elements have in common and the right ones have not; empty where nothing is.

    ``values`` are the input's own numbers at the measured elements.
    """
    keep = compared.measured
    wrong = compared.wrong[keep]
    right = ~wrong & (compared.numeric[keep].abs() > CLOSE * compared.scale)  # a gradient near zero is right by chance
    if not bool(wrong.any()) or not bool(right.any()):
        return ""
    kept = values[keep]
    if bool((kept[wrong] < 0).all()) and bool((kept[right] >= 0).all()):
        return "only where the input is negative"
    if bool((kept[wrong] > 0).all()) and bool((kept[right] <= 0).all()):
        return "only where the input is positive"
    indices = torch.stack(torch.unravel_index(compared.slopes.positions[keep], compared.shape or (1,)), 1)
    for dim in range(indices.shape[1]):
        if compared.shape[dim] < 2:
            continue
        bad, good = set(indices[wrong, dim].tolist()), set(indices[right, dim].tolist())
        if len(bad) == 1 and not bad & good and len(good) > 1:
            return f"only where index {dim} is {bad.pop()}"
        if len(good) == 1 and not bad & good and len(bad) > 1:
            return f"everywhere but where index {dim} is {good.pop()}"
    return ""


def known_number(factor: float, sizes: dict[str, int]) -> str:
    """Where a factor comes from: a size of one of the tensors, its inverse, or a power of two."""
    for name, size in sizes.items():
        if size > 2 and math.isclose(abs(factor), size, rel_tol=2e-3):
            return f"{size} is {name}: is a mean differentiated like a sum?"
        if size > 2 and math.isclose(abs(factor), 1 / size, rel_tol=2e-3):
            return f"{size} is {name}: is a sum differentiated like a mean?"
    if math.isclose(abs(factor), 0.5, rel_tol=1e-3):
        return "a factor 2 is lost, as that of a square"
    if math.isclose(abs(factor), 2.0, rel_tol=1e-3):
        return "a factor 2 is too many: is one half of the function missing, or a term counted twice?"
    return ""
