"""Where, in a backward pass, a non-zero gradient turns into an exact zero or is dropped."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .readable import readable
from .scan import ABSENT, Scan, Seen, moves, word

if TYPE_CHECKING:
    from .recorder import Recorder


FADED = 1e-20  # a gradient of this size ends as zero because the product underflows


@dataclass(slots=True)
class Birth:
    kind: str
    node: str
    sequence: int
    parameters: list[int] = field(default_factory=list)
    function: str | None = None
    function_code: Any = None
    outputs: tuple[int, ...] = ()
    detail: str = ""


def _as_dict(birth: Birth) -> dict[tuple, Birth]:
    return {(birth.kind, birth.sequence, birth.node, birth.outputs): birth}


def births(recorder: "Recorder", scan: Scan) -> list[Birth]:
    """The births of the zeros that some parameter got in a finished scan."""
    return Zeros(recorder, scan).found


class Zeros:
    """Walks from each leaf with a dead gradient towards the loss, to where the gradient was last alive."""

    def __init__(self, recorder: "Recorder", scan: Scan):
        self.nodes, self.leaves = scan.nodes, scan.leaves
        consumers: dict[int, list[tuple[int, int]]] = {}
        for number, seen in enumerate(self.nodes):
            for position, (target, _) in enumerate(seen.edges):
                if target >= 0:
                    consumers.setdefault(target, []).append((number, position))
        found: dict[tuple, Birth] = {}
        memo: dict[int, dict[tuple, Birth]] = {}
        for number, reference in self.leaves.items():
            tensor = reference()
            if tensor is None:
                continue
            for key, birth in self._births(number, consumers, memo).items():
                known = found.setdefault(key, birth)
                parameter = recorder.census.number(tensor)
                if parameter not in known.parameters:
                    known.parameters.append(parameter)
        self.found = list(found.values())

    def _births(self, leaf: int, consumers: dict[int, list[tuple[int, int]]], memo: dict[int, dict[tuple, Birth]]) -> dict[tuple, Birth]:
        """Walk from a leaf towards the loss along dead gradients, to where they were last alive."""
        feeding = consumers.get(leaf, [])
        if not feeding or any(self._sent(n, p) == "some" for n, p in feeding):
            if len(feeding) > 1 and self._cancelled_leaf(leaf):
                return _as_dict(Birth("cancelled", "AccumulateGrad", min(self.nodes[n].sequence for n, _ in feeding)))
            return {}
        return self._along(feeding, consumers, memo)

    def _along(self, dead: list[tuple[int, int]], consumers: dict, memo: dict[int, dict[tuple, Birth]]) -> dict[tuple, Birth]:
        found: dict[tuple, Birth] = {}
        for number, position in dead:
            seen = self.nodes[number]
            if seen.arrived == "some":
                found.update(_as_dict(self._born(seen, position)))
            else:
                found.update(self._above(number, consumers, memo))
        return found

    def _above(self, start: int, consumers: dict, memo: dict[int, dict[tuple, Birth]]) -> dict[tuple, Birth]:
        """The births of the zero that arrived at a node; each node is worked out once, deep graphs without recursion."""
        todo: list[int] = [start]
        open_nodes: set[int] = set()
        while todo:
            number = todo[-1]
            if number in memo:
                todo.pop()
                continue
            above = consumers.get(number, [])
            if self.nodes[number].arrived != "?" and any(
                self._sent(n, p) == "some" for n, p in above
            ):  # they met here and added up to nothing
                memo[number] = _as_dict(Birth("cancelled", self.nodes[number].name, min(self.nodes[n].sequence for n, _ in above)))
                continue
            open_nodes.add(number)
            wait = [n for n, _ in above if self.nodes[n].arrived != "some" and n not in memo and n not in open_nodes]
            if wait:
                todo.extend(wait)
                continue
            found: dict[tuple, Birth] = {}
            for n, p in above:
                found.update(_as_dict(self._born(self.nodes[n], p)) if self.nodes[n].arrived == "some" else memo.get(n, {}))
            memo[number] = found
        return memo[start]

    def _born(self, seen: Seen, position: int) -> Birth:
        sent = self._sent_by(seen, position)
        if seen.function is not None:
            return Birth("custom-" + sent, seen.name, seen.sequence, [], seen.function, seen.function_code, (position,))
        if seen.factor >= 0:
            blamed = self.nodes[seen.factor]
            return Birth("factor", blamed.name, blamed.sequence, [], detail=seen.name)
        if moves(seen.name):
            sent = "left-out"  # the part of a tensor that the loss does not read
        faded = sent == "zero" and seen.came is not None and 0.0 < seen.came < FADED
        return Birth(sent, seen.name, seen.sequence, [], detail="faded" if faded else seen.note)

    def _sent(self, number: int, position: int) -> str:
        return self._sent_by(self.nodes[number], position)

    @staticmethod
    def _sent_by(seen: Seen, position: int) -> str:
        return word(seen.went[position] if position < len(seen.went) else ABSENT)

    def _cancelled_leaf(self, leaf: int) -> bool:
        reference = self.leaves.get(leaf)
        tensor = reference() if reference is not None else None
        return tensor is not None and tensor.grad is not None and readable(tensor.grad) and not bool(tensor.grad.any())
