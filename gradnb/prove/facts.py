"""What one run of the cell in a child showed: plain data, sent back through a pipe."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from .claim import Kind

_MANY = 2000  # names among which a different one is not searched for any more


@dataclass(slots=True)
class Fed:
    """What became of one parameter: its best gradient at any step, and whether an optimizer moved it."""

    state: str = "none"  # "ok" | "none" | "zero" | "nan" | "inf"
    norm: float | None = None
    held: bool = False  # it took part in the last step of an optimizer that lives
    moved: bool = False


@dataclass(frozen=True, slots=True)
class Rival:
    """A line that keeps the gradient from the claim's parameters: its own, or one on a way beside."""

    cause: str
    filename: str
    line: int


@dataclass(slots=True)
class Facts:
    """One run. ``problem`` says why it came to no end: too long, killed, a fault of gradnb's own."""

    parameters: dict[str, Fed] = field(default_factory=dict)
    witnesses: list[Fed] = field(default_factory=list)  # tensors that the repair itself chose or made
    hits: dict[Kind, int] = field(default_factory=dict)  # how often the repair met what it undoes
    came_back: float = 0.0  # the largest norm of a gradient that went through a repaired value
    # at each place where a term is added to the loss: which operands require grad
    terms: dict[tuple[str, int], list[tuple[bool, ...]]] = field(default_factory=dict)
    raised: tuple[str, str] | None = None  # type and message of what the cell raised
    refused: str = ""  # what it was not allowed to do a second time, if it ended by that
    steps: int = 0
    # for each claim, found in the run without a repair: the lines at fault, whether the claim's kills a term of the loss, and
    # how a gradient became zero on it: "zero" | "factor" | "cancelled" …
    rivals: list[list[Rival]] = field(default_factory=list)
    kills: list[bool] = field(default_factory=list)
    zeros: list[frozenset[str]] = field(default_factory=list)
    problem: str = ""


def known_as(name: str, names: Collection[str]) -> str | None:
    """The name that a parameter has in another run: the module in front is left out where it is the only one so far."""
    if name in names or len(names) > _MANY:
        return name if name in names else None
    found = [other for other in names if other.endswith(f".{name}") or name.endswith(f".{other}")]
    return found[0] if len(found) == 1 else None
