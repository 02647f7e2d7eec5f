"""A lead: one established fact about a lost or useless gradient, which a diagnosis puts into words."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..recorder.recording import Location
from ..report.finding import Hop


@dataclass(slots=True)
class Lead:
    """What the flow analysis established, with its evidence; a diagnosis file adds title, explanation and fix.

    ``inert`` says that only a term of the loss is dead while every parameter still gets a gradient from other terms;
    ``term`` is then the source text of that term.
    """

    cause: str
    location: Location | None
    severity: str = "error"
    expression: str = ""  # source text of the expression at the location, at most some 70 characters
    operation: str = ""  # the recorded operation: "detach", "argmax", "long", "item", …
    affected: list[str] = field(default_factory=list)
    related: list[tuple[Location, str]] = field(default_factory=list)
    path: list[Hop] = field(default_factory=list)
    inert: bool = False
    term: str = ""
    rank: float = 0.0
    details: dict = field(default_factory=dict)  # per cause, see gradnb/diagnoses/<cause>.py
