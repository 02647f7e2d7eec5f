"""What a numeric check found, in one object that shows itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

KINDS = {
    "sign": "the sign is reversed",
    "factor": "a constant factor is off",
    "transposed": "the gradient is transposed",
    "flipped": "the gradient is flipped",
    "missing": "no gradient for this input",
    "surrogate": "a gradient where the function does not change",
    "saturated": "a gradient at elements where the function does not change",
    "elements": "some elements are wrong",
    "different": "the values are wrong",
    "ignored-output": "the gradient that comes in at one output is ignored",
    "not-multiplied": "the gradient that comes in is ignored",
    "not-linear": "the backward is not linear in the gradient that comes in",
    "non-deterministic": "two calls with the same random numbers differ",
    "no-history": "the output has no history",
    "not-finite": "the gradient is NaN or Inf",
    "raises": "the backward raises",
    "gradcheck": "torch.autograd.gradcheck refuses it",
}


@dataclass(slots=True)
class Discrepancy:
    """One gradient that differs from finite differences.

    ``entry`` names the number that is compared, such as ``d out[0, 2] / d weight[1]``; ``analytic`` is what the backward says for it and
    ``numeric`` what finite differences say. ``wrong`` of ``checked`` elements of this input differ. ``identity``: the function hands this
    input on unchanged, so that its backward was written to differ.
    """

    kind: str
    output: str
    input: str
    text: str
    argument: int = 0
    index: tuple[int, ...] | None = None
    entry: str = ""
    analytic: float | None = None
    numeric: float | None = None
    factor: float | None = None
    wrong: int = 0
    checked: int = 0
    hint: str = ""
    identity: bool = False
    similar: float | None = None  # cosine between the two gradients

    @property
    def absolute(self) -> float | None:
        return abs(self.analytic - self.numeric) if self.analytic is not None and self.numeric is not None else None

    @property
    def relative(self) -> float | None:
        """The difference as a part of the numeric value; None where that is zero."""
        return self.absolute / abs(self.numeric) if self.absolute is not None and self.numeric else None

    def to_dict(self) -> dict[str, Any]:
        names = "kind output input argument entry analytic numeric factor wrong checked text hint".split()
        told = {name: getattr(self, name) for name in names}
        return told | {"index": list(self.index) if self.index is not None else None, "absolute": self.absolute, "relative": self.relative}


@dataclass(slots=True)
class Gradient:
    """One pair of output and input: how many elements were compared, how many could not be, how far off the worst is."""

    output: str
    input: str
    shape: tuple[int, ...]
    checked: int
    of: int
    skipped: int  # elements at a kink, where no derivative exists
    worst: float  # largest difference, as a part of the largest gradient
    state: str  # "agrees" | "differs" | "not measurable"

    def to_dict(self) -> dict[str, Any]:
        names = "output input checked of skipped worst state".split()
        return {name: getattr(self, name) for name in names} | {"shape": list(self.shape)}


@dataclass
class NumericResult:
    """The answer of a numeric check; true where every gradient that could be measured agrees.

    ``status`` is ``agrees``, ``differs`` or ``unchecked`` (then ``reason`` says why). ``repr()`` is the text form, a notebook shows the
    html form, ``to_dict()`` is JSON-ready.
    """

    name: str
    status: str = "agrees"
    reason: str = ""
    discrepancies: list[Discrepancy] = field(default_factory=list)
    gradients: list[Gradient] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    judged: str = ""  # what torch.autograd.gradcheck said
    dtype: str = "float64"
    eps: float = 1e-6
    order: int = 1
    second: NumericResult | None = None

    @property
    def ok(self) -> bool:
        return self.status == "agrees" and (self.second is None or self.second.ok)

    def __bool__(self) -> bool:
        return self.ok

    def to_dict(self) -> dict[str, Any]:
        return {
            "schema": 1,
            "ok": self.ok,
            "name": self.name,
            "status": self.status,
            "reason": self.reason,
            "discrepancies": [d.to_dict() for d in self.discrepancies],
            "gradients": [g.to_dict() for g in self.gradients],
            "notes": list(self.notes),
            "gradcheck": self.judged,
            "dtype": self.dtype,
            "eps": self.eps,
            "second": self.second.to_dict() if self.second else None,
        }

    def __repr__(self) -> str:
        from .show import text

        return text(self)

    def _repr_html_(self) -> str:
        from .show import html

        return html(self)
