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

    kind: str  #: what is wrong, one of KINDS
    output: str  #: which output of the function
    input: str  #: which input
    text: str  #: one sentence
    argument: int = 0  #: the number of the input among the arguments, from 1; 0 where it is none
    index: tuple[int, ...] | None = None  #: the index of the element in the input that differs most
    entry: str = ""
    analytic: float | None = None
    numeric: float | None = None
    factor: float | None = None  #: the constant factor by which the backward is off
    wrong: int = 0
    checked: int = 0
    hint: str = ""  #: where such a fault comes from
    identity: bool = False
    similar: float | None = None  #: cosine between the two gradients

    @property
    def absolute(self) -> float | None:
        """The difference, in the unit of the gradient."""
        return abs(self.analytic - self.numeric) if self.analytic is not None and self.numeric is not None else None

    @property
    def relative(self) -> float | None:
        """The difference as a part of the numeric value; None where that is zero."""
        return self.absolute / abs(self.numeric) if self.absolute is not None and self.numeric else None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        names = "kind output input argument entry analytic numeric factor wrong checked text hint".split()
        told = {name: getattr(self, name) for name in names}
        return told | {"index": list(self.index) if self.index is not None else None, "absolute": self.absolute, "relative": self.relative}


@dataclass(slots=True)
class Gradient:
    """One pair of output and input: how many elements were compared, how many could not be, how far off the worst is."""

    output: str  #: which output of the function
    input: str  #: which input
    shape: tuple[int, ...]  #: the shape of the input
    checked: int  #: elements that were compared one by one
    of: int  #: elements that there are
    skipped: int  #: elements at a kink, where no derivative exists
    worst: float  #: largest difference, as a part of the largest gradient
    state: str  #: "agrees" | "differs" | "not measurable"

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        names = "output input checked of skipped worst state".split()
        return {name: getattr(self, name) for name in names} | {"shape": list(self.shape)}


@dataclass
class NumericResult:
    """The answer of a numeric check; true where every gradient that could be measured agrees.

    ``status`` is ``agrees``, ``differs`` or ``unchecked`` (then ``reason`` says why). ``repr()`` is the text form, a notebook shows the
    html form, ``to_dict()`` is JSON-ready.
    """

    name: str  #: what was checked
    status: str = "agrees"
    reason: str = ""
    discrepancies: list[Discrepancy] = field(default_factory=list)  #: the gradients that differ
    gradients: list[Gradient] = field(default_factory=list)  #: every pair of output and input that was compared
    notes: list[str] = field(default_factory=list)  #: what else the reader should know
    judged: str = ""  #: what torch.autograd.gradcheck said
    dtype: str = "float64"  #: in which it was computed
    eps: float = 1e-6  #: the step of the differences: absolute for elements up to 1, above that a part of the element
    order: int = 1  #: 2 for the check of second derivatives: the order of the derivative
    second: NumericResult | None = None  #: that of the second derivatives, where they were asked for

    @property
    def ok(self) -> bool:
        """Does all agree, the second derivatives too where they were checked."""
        return self.status == "agrees" and (self.second is None or self.second.ok)

    def __bool__(self) -> bool:
        return self.ok

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, schema 1."""
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
