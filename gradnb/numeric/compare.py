"""Compares every gradient of a subject with finite differences, and lets torch.autograd.gradcheck judge where that is affordable."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch

from .conditions import RandomState
from .describe import describe, ignored_output, no_history, not_linear, raised
from .judge import judge
from .measure import Bench, Slopes, real
from .patterns import KINK, Compared
from .result import Discrepancy, Gradient, NumericResult
from .subject import Subject

COARSE = (1e-3, 1e-2)  # steps that show the slope of a function that rounds inside
AGREES = 0.05  # how near the two must come at such a step


@dataclass(frozen=True, slots=True)
class Settings:
    eps: float = 1e-6
    atol: float | None = None
    rtol: float = 1e-3
    dtype: torch.dtype = torch.float64
    elements: int = 64  # compared one by one in each input
    seconds: float = 20.0  # about how long one input may take
    seed: int = 0


def compare(subject: Subject, state: RandomState, settings: Settings) -> NumericResult:
    """The result for one subject. What the subject's forward raises goes through; what its backward raises is part of the result."""
    result = NumericResult(subject.name, notes=subject.notes, dtype=str(settings.dtype).removeprefix("torch."), eps=settings.eps)
    bench = Bench(subject, state, settings.eps, settings.seed)
    lower = _lower(bench, settings)
    if lower is not None:
        result.notes.append(f"it gives {str(lower).removeprefix('torch.')} for {result.dtype}: compared with a coarser step and tolerance")
        result.eps = bench.eps = max(settings.eps, torch.finfo(lower).eps ** (1 / 3))
        settings = replace(settings, eps=bench.eps, rtol=max(settings.rtol, 4 * bench.eps))
    if not bench.floating:
        result.status, result.reason = "unchecked", "it returns no floating-point or complex tensor"
    elif not bench.repeats():
        result.status = "unchecked"
        result.reason = "two calls with the same inputs and the same random numbers give different outputs, so there is no slope to measure"
    else:
        _Comparison(bench, result, settings).run()
        if result.discrepancies:
            result.status = "differs"
        elif result.gradients and all(row.state == "not measurable" for row in result.gradients):
            result.status, result.reason = "unchecked", "no element has a steady slope at these inputs"
    return result


def _lower(bench: Bench, settings: Settings) -> torch.dtype | None:
    """The precision of the output where the function came back with less than it was given."""
    found = [real(bench.outputs[o].tensor).dtype for o in bench.floating]
    worst = max(found, key=lambda dtype: torch.finfo(dtype).eps, default=settings.dtype)
    return worst if torch.finfo(worst).eps > torch.finfo(settings.dtype).eps else None


class _Comparison:
    def __init__(self, bench: Bench, result: NumericResult, settings: Settings):
        self.bench, self.result, self.settings = bench, result, settings
        self.leaves = bench.subject.leaves
        self.analytic: dict[int, list[torch.Tensor | None]] = {}
        self.linear: dict[int, str] = {}
        self.excused: set[str] = set()

    def run(self) -> None:
        bench, result = self.bench, self.result
        constant = [o for o in bench.floating if o not in bench.differentiable]
        for o in bench.differentiable:
            try:
                self._backward(o)
            except Exception as error:  # what the user's backward raises
                result.discrepancies.append(raised(bench, o, error))
        if not bench.differentiable:
            self._without_history(constant)
        elif constant:
            names = ", ".join(f"`{bench.outputs[o].name}`" for o in constant)
            result.notes.append(f"not checked, because no gradient can come from there: {names} (does not require grad)")
        if not self.analytic:
            return
        self._not_finite()
        found = {leaf: self._leaf(leaf) for leaf in range(len(self.leaves))}
        result.discrepancies += self._merged([d for leaf in found for d in found[leaf]])
        result.discrepancies = _distinct(result.discrepancies)
        said = judge(bench, self.settings, result, self.excused)
        if said and not result.discrepancies:
            result.discrepancies += said

    def _not_finite(self) -> None:
        """Numbers of an output that are NaN or Inf at the point itself have no slope."""
        for o in self.analytic:
            count = int((~torch.isfinite(real(self.bench.base[o]))).sum())
            if count:
                self.excused.update(leaf.name for leaf in self.leaves)
                self.result.notes.append(f"{count} numbers of `{self.bench.outputs[o].name}` are NaN or Inf: left out")

    def _backward(self, o: int) -> None:
        """The analytic gradients from one output, and whether they are what a backward's must be: repeatable, and linear."""
        bench, every = self.bench, list(range(len(self.leaves)))
        once, again, twice = bench.analytic(o, every), bench.analytic(o, every), bench.analytic(o, every, 2.0)
        self.analytic[o] = once
        if not all(_close(a, b, 1.0) for a, b in zip(once, again)):
            self.linear[o] = "non-deterministic"
        elif all(_close(a, b, 2.0) for a, b in zip(once, twice)):
            return
        elif all(_close(a, b, 1.0) for scale in (2.0, 1e-4, -1.0) for a, b in zip(once, bench.analytic(o, every, scale))):
            self.linear[o] = "not-multiplied"
        else:
            self.linear[o] = "not-linear"
            # A backward that clips leaves small gradients alone: those can be compared.
            self.analytic[o] = [None if a is None else a / 1e-4 for a in bench.analytic(o, every, 1e-4)]

    def _leaf(self, leaf: int) -> list[Discrepancy]:
        bench = self.bench
        total = real(bench.points[leaf]).numel()
        positions = self._positions(leaf, total)
        slopes = bench.slopes(leaf, positions)
        found = []
        for o, gradients in self.analytic.items():
            compared = self._compared(leaf, gradients[leaf], slopes[o])
            coarse = self._coarse(leaf, o, compared)
            if coarse is not None:
                compared = coarse
                self.excused.add(self.leaves[leaf].name)
            else:
                self._confirm(leaf, o, compared)
            wrong = bool(compared.wrong.any())
            if not wrong and len(positions) < total and coarse is None:
                hidden = self._search(leaf, o, compared)
                if hidden is not None:
                    compared, wrong = hidden, True
            self._row(leaf, o, compared, total, wrong)
            if wrong:
                found.append(describe(bench, leaf, o, compared, self.linear.get(o, "")))
            elif o in self.linear:
                found.append(not_linear(bench, o, self.linear[o]))
        return found

    def _positions(self, leaf: int, total: int) -> torch.Tensor:
        """All elements where they are few; else those with the largest gradients, and a fixed random choice of the others."""
        affordable = int(self.settings.seconds / max(2 * self.bench.seconds, 1e-9) / len(self.leaves))
        most = max(4, min(self.settings.elements, affordable))
        if total <= most:
            return torch.arange(total)
        own = torch.Generator().manual_seed(self.settings.seed)
        chosen = torch.randperm(total, generator=own)
        known = [g[leaf] for g in self.analytic.values()]
        size = sum((g.abs().nan_to_num().cpu() for g in known if g is not None), torch.zeros(total))
        largest = size.argsort(descending=True)[: most // 2]
        rest = chosen[~torch.isin(chosen, largest)][: most - len(largest)]
        return torch.cat([largest, rest]).sort().values

    def _compared(self, leaf: int, whole: torch.Tensor | None, slopes: Slopes) -> Compared:
        tensor = self.bench.points[leaf]
        shape = (*tensor.shape, 2) if tensor.is_complex() else tuple(tensor.shape)
        return Compared(shape, whole, slopes, self.settings.atol, self.settings.rtol)

    def _coarse(self, leaf: int, o: int, compared: Compared) -> Compared | None:
        """A function that rounds to a lower precision inside has no slope at a small step, but one at a larger step."""
        wrong = bool(compared.wrong.any())
        if not wrong and int(compared.measured.sum()) * 2 >= len(compared.numeric):
            return None
        worst = compared.error.nan_to_num(nan=math.inf).argsort(descending=True)[:16]
        some, fine = compared.slopes.positions[worst], float(compared.error[worst].max())
        for eps in COARSE:
            tried = self._compared(leaf, compared.whole, self.bench.slopes(leaf, some, eps)[o])
            size = tried.scale
            # Rounding fades with a larger step; a mistake stays as large as it is.
            if size and bool((tried.error <= min(AGREES * size, 0.3 * fine)).all()) and bool(tried.numeric.any()):
                name = self.leaves[leaf].name
                self.result.notes.append(
                    f"it rounds to a lower precision inside: `{name}` was compared with a step of {eps:g}, to {AGREES:.0%}"
                )
                return Compared(tried.shape, tried.whole, tried.slopes, AGREES * size, AGREES)
        return None

    def _confirm(self, leaf: int, o: int, compared: Compared) -> None:
        """A difference counts only where a smaller step measures the same slope: not at a kink, not where the function oscillates."""
        wrong = compared.wrong.nonzero().reshape(-1)
        if not len(wrong):
            return
        worst = wrong[compared.error[wrong].nan_to_num(nan=math.inf).argsort(descending=True)[:16]]
        finer = self.bench.slopes(leaf, compared.slopes.positions[worst], self.bench.eps / 16)[o]
        shaky = ~((finer.numeric - compared.numeric[worst]).abs() <= KINK * compared.error[worst] + finer.noise)
        # What was not measured again is taken like the rest where none of it holds.
        compared.numeric[wrong if bool(shaky.all()) else worst[shaky]] = math.nan

    def _search(self, leaf: int, o: int, compared: Compared) -> Compared | None:
        """Elements that were not compared one by one: a random direction over all of them, halved towards a wrong one."""
        whole = compared.whole
        total = real(self.bench.points[leaf]).numel()
        own = torch.Generator().manual_seed(self.settings.seed + 1)
        signs = torch.where(torch.rand(total, generator=own) < 0.5, -1.0, 1.0).double()
        low, high = 0, total
        if not self._apart(leaf, o, whole, signs, low, high, compared):
            return None
        while high - low > 1:
            middle = (low + high) // 2
            if self._apart(leaf, o, whole, signs, low, middle, compared):
                high = middle
            elif self._apart(leaf, o, whole, signs, middle, high, compared):
                low = middle
            else:
                return None  # spread too thin to be pinned to one element: rounding, most likely
        around = torch.unique(torch.cat([compared.slopes.positions, torch.tensor([low])]))
        again = self._compared(leaf, whole, self.bench.slopes(leaf, around)[o])
        return again if bool(again.wrong.any()) else None

    def _apart(self, leaf: int, o: int, whole: torch.Tensor | None, signs: torch.Tensor, low: int, high: int, compared: Compared) -> bool:
        direction = torch.zeros_like(signs)
        direction[low:high] = signs[low:high]
        numeric = self.bench.along(leaf, direction)[o]
        told = whole.cpu().double() if whole is not None else torch.zeros_like(signs)
        analytic = float((told * direction).sum())
        size = float((told * direction).norm())
        noise = float(compared.slopes.noise.max())
        return abs(analytic - numeric) > max(compared.tolerance, 1e-4 * size, 1e-3 * compared.scale, noise)

    def _row(self, leaf: int, o: int, compared: Compared, total: int, wrong: bool) -> None:
        measured = compared.measured
        error = compared.error[measured]
        worst = float(error.max()) / compared.scale if error.numel() and compared.scale else 0.0
        if error.numel() and compared.scale <= float(compared.slopes.noise[measured].max()):
            worst = 0.0  # two gradients that are zero but for rounding agree entirely
        if math.isnan(worst):
            worst = math.inf
        state = "differs" if wrong else "agrees" if error.numel() or not total else "not measurable"
        name, skipped = self.leaves[leaf].name, int((~measured).sum())
        row = Gradient(self.bench.outputs[o].name, name, compared.shape, len(measured), total, skipped, worst, state)
        self.result.gradients.append(row)
        if skipped:
            self.excused.add(name)
        if skipped and state == "agrees":
            self.result.notes.append(
                f"{skipped} of {len(measured)} elements of `{name}` were left out: "
                "there is no steady slope there (a kink), which is no fault of the backward"
            )

    def _without_history(self, outputs: list[int]) -> None:
        for leaf in range(len(self.leaves)):
            slopes = self.bench.slopes(leaf, self._positions(leaf, real(self.bench.points[leaf]).numel()))
            for o in outputs:
                compared = self._compared(leaf, None, slopes[o])
                if compared.missing:
                    self.result.discrepancies.append(no_history(self.bench, leaf, o, compared))
        if not self.result.discrepancies:
            self.result.notes.append("the output does not require grad, and does not change with the inputs")

    def _merged(self, found: list[Discrepancy]) -> list[Discrepancy]:
        """An output whose gradient reaches no input is one mistake, not one for each input."""
        outputs = {self.bench.outputs[o].name: o for o in self.analytic}
        for name, o in outputs.items():
            own = [d for d in found if d.output == name]
            if len(outputs) > 1 and own and all(a is None or not bool(a.any()) for a in self.analytic[o]):
                if any(a is not None and bool(a.any()) for other in self.analytic if other != o for a in self.analytic[other]):
                    found = [d for d in found if d.output != name] + [ignored_output(self.bench, o, own)]
        return found


def _distinct(found: list[Discrepancy]) -> list[Discrepancy]:
    """What is said of an output as a whole is said once, and not where one of its inputs tells more."""
    told = {d.output for d in found if d.input}
    kept = {(d.kind, d.output, d.input): d for d in found if d.input or d.kind == "raises" or d.output not in told}
    return list(kept.values())


def _close(one: torch.Tensor | None, other: torch.Tensor | None, factor: float) -> bool:
    if one is None or other is None:
        return one is other
    if not bool(torch.isfinite(one).all()):
        return True  # told as NaN or Inf
    return bool(torch.allclose(one * factor, other, rtol=1e-6, atol=1e-12 * float(one.abs().max()) if one.numel() else 0.0, equal_nan=True))
