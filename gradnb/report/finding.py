"""What a diagnosis says: one cause, at one place, with its evidence and its repair."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..recorder.recording import Location

SEVERITIES = ("error", "warning", "info")


@dataclass(slots=True)
class Related:
    """A second place that belongs to a finding, with a word on what happens there."""

    location: Location
    note: str

    def to_dict(self) -> dict:
        return {"location": self.location.to_dict(), "note": self.note}


@dataclass(slots=True)
class Hop:
    """One step on the way of the data from a parameter to the loss."""

    label: str  # "encoder.0.weight", "linear", "detach", "loss"
    kind: str  # "parameter" | "op" | "loss"
    location: Location | None
    dtype: str
    shape: tuple[int, ...] | None
    requires_grad: bool
    grad_mode: str  # "on" | "off" | "inference"
    state: str  # "flowing" | "lost" (the break) | "after" (data goes on, gradient does not)
    module: str | None = None


@dataclass(slots=True)
class Finding:
    """One diagnosed cause.

    ``location`` is None only where no line of the user's code can be named. ``path`` is the gradient path from the
    first affected parameter to the loss, empty where the cause has none.
    """

    cause: str
    severity: str
    title: str
    explanation: str
    fix: str
    location: Location | None
    related: list[Related] = field(default_factory=list)
    affected: list[str] = field(default_factory=list)
    path: list[Hop] = field(default_factory=list)
    rank: float = 0.0  # the higher, the closer to the root; orders findings of one severity
    proof: dict | None = None  # {"proven": True | False | None, "text": …}, only where --prove asked for it

    def to_dict(self) -> dict:
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
