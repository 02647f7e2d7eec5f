"""How the gradient grows or falls on its way from the loss to a parameter, node by node."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field

from ..recorder.numeric import Profile
from ..recorder.recording import Recording

PRODUCTS = frozenset("Mul Mm Bmm Addmm Baddbmm Mv Convolution Div".split())
NEAR = 12  # nodes
_SUFFIX = re.compile(r"Backward\d*$")


@dataclass(slots=True)
class Step:
    """One node on the way; ``gain`` is the change of the gradient's L2 norm there, in powers of ten."""

    position: int  # which of the node's inputs the way comes from
    op: int
    kind: str  # the node's name without "Backward0"
    gain: float


@dataclass(slots=True)
class Group:
    """The nodes of one kind that one line of the user's made, on one way."""

    site: int
    kind: str
    steps: list[Step] = field(default_factory=list)

    @property
    def gain(self) -> float:
        return sum(step.gain for step in self.steps)


class Ways:
    """The ways of the gradient in one profile."""

    def __init__(self, recording: Recording, profile: Profile):
        self.recording, self.profile = recording, profile
        self._users: dict[int, list[tuple[int, int]]] = {}
        for number, stage in enumerate(profile.stages):
            for position, (target, _) in enumerate(stage.edges):
                if target >= 0:
                    self._users.setdefault(target, []).append((number, position))
        self.leaves: dict[int, list[int]] = {}
        for number, stage in enumerate(profile.stages):
            if stage.parameter >= 0:
                self.leaves.setdefault(stage.parameter, []).append(number)

    def way(self, parameter: int) -> list[Step]:
        """From the loss to the parameter, everywhere along the largest gradient. Empty where no size is known."""
        best: list[Step] = []
        for leaf in self.leaves.get(parameter, ())[:4]:
            found = self._climb(leaf)
            if len(found) > len(best):
                best = found
        return best

    def from_op(self, op: int) -> list[Step]:
        """From the loss to the node of an op at which the gradient is smallest but not yet zero."""
        made = [(stage.came, number) for number, stage in enumerate(self.profile.stages) if stage.op == op and stage.came > 0]
        return self._climb(min(made)[1]) if made else []

    def _climb(self, leaf: int) -> list[Step]:
        stages, at = self.profile.stages, leaf
        steps: list[Step] = []
        shares: list[tuple[int, float]] = []
        for _ in range(len(stages)):
            users = [(self._sent(n, p), n, p) for n, p in self._users.get(at, ())]
            users = [u for u in users if u[0] > 0 and math.isfinite(u[0])]
            if not users:
                break
            sent, number, position = max(users)
            stage = stages[number]
            arrived = stages[at].came if stages[at].came > 0 else sent
            if stage.came <= 0 or not math.isfinite(stage.came):
                break
            steps.append(Step(position, stage.op, _SUFFIX.sub("", stage.node), math.log10(sent / stage.came)))
            if math.isfinite(arrived):
                shares.append((len(steps) - 1, math.log10(arrived / sent)))
            at = number
        for start, gain in shares:  # several uses of one value add up: that belongs to what each use multiplies with
            near = range(start, min(start + NEAR, len(steps)))
            steps[next((i for i in near if steps[i].kind in PRODUCTS), start)].gain += gain
        return steps[::-1]

    def _sent(self, number: int, position: int) -> float:
        went = self.profile.stages[number].went
        return went[position] if position < len(went) else -2.0


def groups(recording: Recording, way: list[Step]) -> list[Group]:
    """The steps of a way by line and kind."""
    found: dict[tuple[int, str], Group] = {}
    for step in way:
        stack = recording.ops[step.op].stack if step.op >= 0 else ()
        if stack:
            found.setdefault((stack[0], step.kind), Group(stack[0], step.kind)).steps.append(step)
    return list(found.values())


def total(way: list[Step]) -> float:
    """The change of the gradient's norm over a whole way, in powers of ten."""
    return sum(step.gain for step in way)


def rise(way: list[Step]) -> float:
    """The largest growth between any place on the way and its end, in powers of ten."""
    best = height = 0.0
    for step in reversed(way):
        height += step.gain
        best = max(best, height)
    return best
