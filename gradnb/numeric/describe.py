"""Says a wrong gradient in words and with one number that can be checked by hand."""

from __future__ import annotations

import math

import torch

from .measure import Bench, real
from .patterns import Compared, known_number, where_wrong
from .result import Discrepancy
from .subject import Leaf

ROWS = 12  # numbers of the output that are tried for the clearest entry


def describe(bench: Bench, leaf: int, o: int, compared: Compared, linear: str) -> Discrepancy:
    """The discrepancy of one input and one output."""
    given, output = bench.subject.leaves[leaf], bench.outputs[o]
    kind, word, factor = compared.pattern()
    if linear in ("non-deterministic", "not-multiplied"):
        kind, word, factor = linear, "", None
    index = compared.worst
    position = int(compared.slopes.positions[index])
    made = Discrepancy(
        kind,
        output.name,
        given.name,
        "",
        argument=given.argument,
        index=_unravel(position, bench.points[leaf]),
        analytic=float(compared.analytic[index]),
        numeric=float(compared.numeric[index]),
        factor=factor,
        wrong=int(compared.wrong.sum()),
        checked=int(compared.measured.sum()),
        identity=_identity(bench, leaf, o),
        similar=compared.similar,
    )
    part = _part(position, bench.points[leaf])
    made.entry = f"d {output.name} (weighted sum) / d {part}{given.name}{_brackets(made.index)}"
    if linear not in ("not-linear", "not-multiplied", "non-deterministic") and kind not in ("ignored-output", "not-finite"):
        _entry(bench, leaf, o, position, made, part)
    made.text = _sentence(made, given, word, linear)
    made.hint = _hint(bench, leaf, o, compared, made)
    return made


def ignored_output(bench: Bench, o: int, found: list[Discrepancy]) -> Discrepancy:
    """All inputs are missing the gradient of one output."""
    first = max(found, key=lambda d: abs(d.numeric or 0.0))
    name = bench.outputs[o].name
    first.kind = "ignored-output"
    first.text = f"the gradient of output {o + 1} (`{name}`) reaches no input: the backward ignores it"
    first.hint = ""
    return first


def no_history(bench: Bench, leaf: int, o: int, compared: Compared) -> Discrepancy:
    """The output depends on the input and does not require grad."""
    made = describe(bench, leaf, o, compared, "no")
    made.kind = "no-history"
    made.text = (
        f"`{made.output}` depends on {bench.subject.leaves[leaf].words} but does not require grad: the history is cut inside the function"
    )
    return made


def raised(bench: Bench, o: int, error: Exception) -> Discrepancy:
    """The backward did not come to its end."""
    said = " ".join(f"{type(error).__name__}: {error}".split())[:300]
    return Discrepancy("raises", bench.outputs[o].name, "", f"the backward from `{bench.outputs[o].name}` raises {said}")


def not_linear(bench: Bench, o: int, kind: str) -> Discrepancy:
    """The backward agrees in one way of asking, and is still none that autograd's chain rule can use as it is."""
    name = bench.outputs[o].name
    if kind == "not-linear":
        text = f"the backward is not linear in the gradient that comes in at `{name}`: for small ones it agrees with finite differences"
    elif kind == "not-multiplied":
        text = f"the backward does not depend on the gradient that comes in at `{name}`"
    else:
        text = f"two backward passes from `{name}` with the same random numbers give different gradients"
    return Discrepancy(kind, name, "", text)


def number(value: float | None) -> str:
    """Few digits, and a zero that is one says so."""
    return "0" if value == 0 else f"{value:.4g}" if value is not None else ""


def _entry(bench: Bench, leaf: int, o: int, position: int, made: Discrepancy, part: str) -> None:
    """One entry of the Jacobian in place of the weighted sum, where one shows the mistake as clearly."""
    column = bench.column(leaf, position, o)
    if not bool(torch.isfinite(column).any()):
        return
    sized = torch.where(torch.isfinite(column), column.abs(), torch.zeros_like(column))
    rows = sized.argsort(descending=True)[:ROWS].tolist()
    best: tuple[float, int, float] | None = None
    for row in rows:
        answer = bench.analytic(o, [leaf], one=row)[0]
        analytic = float(answer[position]) if answer is not None else 0.0
        off = abs(analytic - float(column[row]))
        if math.isfinite(off) and (best is None or off > best[0] * (1 + 1e-9)):
            best = (off, row, analytic)
    if best is None or best[0] <= 1e-3 * max(float(sized.max()), abs(best[2])):
        return
    _, row, analytic = best
    output = bench.outputs[o]
    made.analytic, made.numeric = analytic, float(column[row])
    place = _brackets(_unravel(row, output.tensor))
    made.entry = f"d {_part(row, output.tensor)}{output.name}{place} / d {part}{made.input}{_brackets(made.index)}"


def _sentence(made: Discrepancy, given: Leaf, word: str, linear: str) -> str:
    what = f"the gradient for {given.words}"
    factor = made.factor
    if made.kind == "sign":
        return f"{what} has the wrong sign"
    if made.kind == "factor" and factor is not None:
        size = abs(factor)
        off = f"{_times(1 / size)} too small" if size < 1 else f"{_times(size)} too large"
        return f"{what} is {off}" + (" and has the wrong sign" if factor < 0 else "")
    if made.kind in ("transposed", "flipped"):
        return f"{what} has its elements in the wrong places: {word}"
    if made.kind == "missing":
        return f"the backward gives no gradient for {given.words}, and the output depends on it"
    if made.kind == "surrogate":
        return f"{what} is not zero, although the output does not change with it"
    if made.kind == "saturated":
        return f"{what} is not zero at {made.wrong} of {made.checked} elements where the output does not change with it"
    if made.kind == "not-finite":
        return f"{what} is NaN or Inf where the function has a finite slope"
    if made.kind == "not-multiplied":
        return f"{what} does not depend on the gradient that comes in: the backward does not multiply by grad_output"
    if made.kind == "non-deterministic":
        return f"{what} is another one at each backward pass"
    if made.kind == "elements":
        return f"{what} is wrong at {made.wrong} of {made.checked} elements"
    extra = ", and it is not linear in the gradient that comes in" if linear == "not-linear" else ""
    return f"{what} differs from finite differences{extra}"


def _times(factor: float) -> str:
    return f"{factor:.2f}x" if factor < 100 else f"{factor:.4g}x"


def _hint(bench: Bench, leaf: int, o: int, compared: Compared, made: Discrepancy) -> str:
    if made.kind == "factor" and made.factor is not None and made.factor > 0 and not made.identity:
        sizes: dict[str, int] = {}
        for name, tensor in ((made.input, bench.points[leaf]), (made.output, bench.outputs[o].tensor)):
            sizes |= {f"the size of dimension {d} of {name}": size for d, size in enumerate(tensor.shape)}
            sizes[f"the number of elements of {name}"] = tensor.numel()
        for other, point in zip(bench.subject.leaves, bench.points):
            sizes |= {f"the size of dimension {d} of {other.name}": size for d, size in enumerate(point.shape)}
            sizes.setdefault(f"the number of elements of {other.name}", point.numel())
        return known_number(made.factor, sizes)
    if made.kind in ("elements", "different") and bench.points[leaf].is_complex():
        return "for a complex input the backward multiplies by the conjugate of the derivative: grad_output * derivative.conj()"
    if made.kind in ("elements", "saturated"):
        return where_wrong(compared, real(bench.points[leaf]).cpu().double()[compared.slopes.positions])
    return ""


def _identity(bench: Bench, leaf: int, o: int) -> bool:
    """The function hands this input on as it is."""
    point, base = bench.points[leaf], bench.base[o]
    return point.shape == base.shape and point.dtype == base.dtype and point.numel() > 0 and torch.equal(real(point), real(base))


def _unravel(position: int, tensor: torch.Tensor) -> tuple[int, ...]:
    if tensor.is_complex():
        position //= 2
    return tuple(int(i) for i in torch.unravel_index(torch.tensor(position), tensor.shape)) if tensor.ndim else ()


def _part(position: int, tensor: torch.Tensor) -> str:
    return ("imag " if position % 2 else "real ") if tensor.is_complex() else ""


def _brackets(index: tuple[int, ...] | None) -> str:
    return f"[{', '.join(map(str, index))}]" if index else ""
