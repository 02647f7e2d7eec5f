"""What a diagnosis says: one cause, at one place, with its evidence and its repair."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..recorder.recording import Location

SEVERITIES = ("error", "warning", "info")


@dataclass(slots=True)
class Related:
    """A second place that belongs to a finding, with a word on what happens there."""

    location: Location  #: the line
    note: str  #: what happens there

    def to_dict(self) -> dict:
        """JSON-ready."""
        return {"location": self.location.to_dict(), "note": self.note}


@dataclass(slots=True)
class Hop:
    """One step on the way of the data from a parameter to the loss."""

    label: str  #: "encoder.0.weight", "linear", "detach", "loss"
    kind: str  #: "parameter" | "op" | "loss"
    location: Location | None  #: the line that ran
    dtype: str  #: of the tensor that comes out
    shape: tuple[int, ...] | None  #: the shape of the tensor that comes out; None where it is no tensor
    requires_grad: bool  #: of the tensor that comes out
    grad_mode: str  #: "on" | "off" | "inference"
    state: str  #: "flowing" | "lost" (the break) | "after" (data goes on, gradient does not)
    module: str | None = None  #: the path of the module that it belongs to


@dataclass(slots=True)
class Finding:
    """One diagnosed cause.

    ``location`` is None only where no line of the user's code can be named. ``path`` is the gradient path from the
    first affected parameter to the loss, empty where the cause has none.
    """

    cause: str  #: the stable name; ``gradnb.explain`` tells about it
    severity: str  #: "error" | "warning" | "info"
    title: str  #: one line: what is wrong, and for which parameters
    explanation: str  #: why
    fix: str  #: what repairs it
    location: Location | None
    related: list[Related] = field(default_factory=list)  #: further places
    affected: list[str] = field(default_factory=list)  #: names of the parameters
    path: list[Hop] = field(default_factory=list)
    rank: float = 0.0  #: no unit: the higher this number, the closer to the root; orders findings of one severity
    proof: dict | None = None  #: {"proven": True | False | None, "text": …}, only where --prove asked for it

    def to_dict(self) -> dict:
        """JSON-ready."""
        found = {
            "cause": self.cause,
            "severity": self.severity,
            "title": self.title,
            "explanation": self.explanation,
            "fix": self.fix,
            "location": self.location.to_dict() if self.location else None,
            "related": [r.to_dict() for r in self.related],
            "affected": list(self.affected),
        }
        return found if self.proof is None else {**found, "proof": dict(self.proof)}
