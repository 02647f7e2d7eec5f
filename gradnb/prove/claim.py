"""What a finding claims, and what would have to be undone at which line to test it: plain data that travels between processes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from ..recorder.recording import Location
from ..report.finding import Finding
from ..report.report import Report


class Kind(Enum):
    """What a line can do to a gradient, and a repair can undo."""

    DETACH = "detach"
    DATA = "data"
    NO_GRAD = "no-grad"
    ITEM = "item"
    NUMPY = "numpy"
    REWRAP = "rewrap"
    REPARAMETER = "reparameter"
    ROUND = "round"  # casts, comparisons, argmax: the forward value stays, a smooth neighbour gives the gradient
    SMOOTH = "smooth"  # the same, and the smooth neighbour gives the value too
    SECOND = "second"  # torch.autograd.grad without create_graph
    FUNCTION = "function"  # the backward of a custom Function is at fault
    APPLIED = "applied"  # what it is applied to, or not, is
    CHECKPOINT = "checkpoint"
    FROZEN = "frozen"
    NON_LEAF = "non-leaf"
    UNREGISTERED = "unregistered"
    NOT_IN_OPTIMIZER = "not-in-optimizer"
    DROPPED = "dropped"
    FLAT = "flat"
    CANCELLED = "cancelled"


ALONG = frozenset({Kind.DETACH, Kind.DATA, Kind.REPARAMETER})  # undone with any cut on the same line
CUTS = ALONG | {Kind.NO_GRAD, Kind.ITEM, Kind.NUMPY, Kind.REWRAP, Kind.ROUND}
WIRING = frozenset({Kind.UNREGISTERED, Kind.NOT_IN_OPTIMIZER, Kind.NON_LEAF})

# What a repair of each cause undoes, one set for each way to try it. Causes that are not here have no repair to try.
REPAIRS: dict[str, tuple[frozenset[Kind], ...]] = {
    "detach": (frozenset({Kind.DETACH}),),
    "data": (frozenset({Kind.DATA}),),
    "no-grad": (frozenset({Kind.NO_GRAD}),),
    "inference-tensor": (frozenset({Kind.NO_GRAD}),),
    "item": (frozenset({Kind.ITEM}),),
    "numpy": (frozenset({Kind.NUMPY}),),
    "rewrap": (frozenset({Kind.REWRAP}),),
    "reparameter": (frozenset({Kind.REPARAMETER}),),
    "integer-cast": (frozenset({Kind.ROUND}), frozenset({Kind.SMOOTH})),
    "nondifferentiable": (frozenset({Kind.ROUND}), frozenset({Kind.SMOOTH})),
    "custom-function": (frozenset({Kind.FUNCTION}), frozenset({Kind.APPLIED})),
    "checkpoint-reentrant": (frozenset({Kind.CHECKPOINT}),),
    "frozen": (frozenset({Kind.FROZEN}),),
    "non-leaf": (frozenset({Kind.NON_LEAF}),),
    "unregistered": (frozenset({Kind.UNREGISTERED}),),
    "not-in-optimizer": (frozenset({Kind.NOT_IN_OPTIMIZER}),),
    "unused": (frozenset({Kind.DROPPED}),),
    "inert-term": (CUTS | {Kind.SECOND},),
    # an exact zero has two reasons: the operation is flat there, or two ways through it cancel
    "zero-gradient": (frozenset({Kind.FLAT}), frozenset({Kind.CANCELLED})),
}
EXACT = frozenset({Kind.FLAT, Kind.CANCELLED})  # concern one expression, not all of its line

SAME_FAULT = ("and here",)
IN_SERIES = ("gradients are already off here", "cut again further on")
TERM = "the term is added to the loss here"


@dataclass(frozen=True, slots=True)
class Spot:
    """A line, and what a repair undoes there. ``span`` is (line, end line, column, end column) of the expression, where known."""

    filename: str
    line: int
    kinds: frozenset[Kind]
    span: tuple[int, int | None, int | None, int | None] | None = None


@dataclass(frozen=True, slots=True)
class Attempt:
    """One repair to try. ``own`` must be met at one of the spots at least once, or nothing was tried."""

    own: frozenset[Kind]
    spots: tuple[Spot, ...]
    without: tuple[Spot, ...] = ()  # this part alone must not do: then the claimed line is needed as well


@dataclass(frozen=True, slots=True)
class Claim:
    """The line that a finding blames, for what, and what suffers from it."""

    cause: str
    location: Location
    affected: tuple[str, ...] = ()
    term: Location | None = None  # where the dead term is added to the loss
    same: tuple[Location, ...] = ()  # more lines of the same fault
    series: tuple[Location, ...] = ()  # further cuts on the same way
    inert: bool = False  # a term of the loss is dead, the parameters live

    def attempts(self) -> Iterator[Attempt]:
        """The repairs to try, the smallest first."""
        for own in REPAIRS.get(self.cause, ()):
            kinds = own | ALONG if own & (CUTS | {Kind.SMOOTH}) else own
            spots = tuple(_spot(place, kinds) for place in (self.location, *self.same))
            yield Attempt(own, spots)
            if self.series and own & CUTS:
                others = tuple(_spot(place, CUTS) for place in self.series)
                yield Attempt(own, spots + others, without=others)


def _spot(place: Location, kinds: frozenset[Kind]) -> Spot:
    span = (place.line, place.end_line, place.column, place.end_column) if place.column is not None else None
    return Spot(place.filename, place.line, kinds, span)


def claim_of(finding: Finding) -> Claim | None:
    """The claim of a finding, None where no line is blamed or no repair of its cause is known."""
    if finding.location is None or finding.cause not in REPAIRS:
        return None

    def places(*notes: str) -> tuple[Location, ...]:
        found = [r.location for r in finding.related if r.note.startswith(notes)]
        return tuple(place for place in found if (place.filename, place.line) != (here.filename, here.line))

    here = finding.location
    term = next((r.location for r in finding.related if r.note.startswith(TERM)), None)
    inert = finding.cause == "inert-term" or (not finding.affected and (term is not None or finding.severity == "warning"))
    return Claim(finding.cause, here, tuple(finding.affected), term, places(*SAME_FAULT), places(*IN_SERIES), inert)


def claims_of(report: Report, most: int = 3) -> dict[int, Claim]:
    """The claims of the first findings that are no mere information, by the position of the finding."""
    claims: dict[int, Claim] = {}
    for number, finding in enumerate(report.findings):
        claim = claim_of(finding) if finding.severity != "info" else None
        if claim is not None and len(claims) < most:
            claims[number] = claim
    return claims
