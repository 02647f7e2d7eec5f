"""Where, in a backward pass, a non-zero gradient turns into an exact zero or is dropped.

Hooks on the autograd nodes see the gradients that enter and leave each node. They are attached to the first backward of
each training line where the graph is small, and else only once a step has shown a zero or a missing gradient.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from .recorder import Recorder

# Nodes that only move numbers around: a zero that comes out of one belongs to a part that was not read.
_MOVERS = (
    "View Reshape Select Slice Transpose TBackward Permute Squeeze Unsqueeze Expand Unbind Split Clone ToCopy Alias AsStrided Cat Stack "
    "Unfold Flatten Diagonal Repeat Index Neg".split()
)


@dataclass(slots=True)
class Seen:
    name: str
    sequence: int
    edges: list[tuple[int, int]]  # (node number, input number) each gradient goes to; node -1 is none
    arrived: str = "?"  # "zero" | "some" | "none" | "nan": what came in
    left: list[str] = field(default_factory=list)
    function: str | None = None
    function_code: Any = None
    factor: int = -1  # for a product: the node of the factor that was zero everywhere


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


def _look(grads: Any) -> list[str]:
    found = []
    for g in grads if isinstance(grads, (tuple, list)) else (grads,):
        if g is None:
            found.append("none")
        elif not isinstance(g, torch.Tensor) or g.is_meta:
            found.append("some")
        elif g.layout != torch.strided:
            found.append("some")
        else:
            found.append("some" if bool(g.any()) else "zero")
    return found


class ZeroScan:
    def __init__(self, recorder: "Recorder", event: int):
        self.recorder = recorder
        self.event = event
        self.nodes: list[Seen] = []
        self.leaves: dict[int, weakref.ref] = {}  # node number of an AccumulateGrad -> its tensor
        self.births: list[Birth] = []
        self._handles: list[Any] = []

    def attach(self, losses: list[torch.Tensor], limit: int) -> bool:
        numbers: dict[Any, int] = {}
        order: list[Any] = []
        todo = [t.grad_fn for t in losses if t.grad_fn is not None]
        while todo:
            node = todo.pop()
            if node in numbers:
                continue
            if len(order) > limit:
                return False
            numbers[node] = len(order)
            order.append(node)
            todo.extend(n for n, _ in node.next_functions if n is not None)
        if not order:
            return False
        for node in order:
            edges = [(numbers[n] if n is not None else -1, k) for n, k in node.next_functions]
            seen = Seen(node.name(), node._sequence_nr(), edges)
            forward = getattr(type(node), "_forward_cls", None)
            if forward is not None:
                seen.function = self.recorder.function_name(forward)
                seen.function_code = getattr(forward.backward, "__code__", None)
            self.nodes.append(seen)
            number = len(self.nodes) - 1
            if hasattr(node, "variable"):
                self.leaves[number] = weakref.ref(node.variable)
            else:
                self._handles.append(node.register_hook(self._hook(seen, node, numbers)))
        return True

    def _hook(self, seen: Seen, node: Any, numbers: dict[Any, int]) -> Any:
        recorder = self.recorder
        product = seen.name in ("MulBackward0", "DivBackward0")
        node = node if product else None

        def hook(grad_inputs: Any, grad_outputs: Any) -> None:
            with recorder.guard(), torch.no_grad():
                arrived = _look(grad_outputs)
                seen.arrived = "some" if "some" in arrived else "zero" if "zero" in arrived else "none"
                seen.left = _look(grad_inputs)
                if product and "zero" in seen.left and seen.arrived == "some":
                    factor = _blamed_factor(node)
                    seen.factor = -1 if factor is None else numbers.get(factor, -1)

        return hook

    def finish(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = []
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
                parameter = self.recorder.census.number(tensor)
                if parameter not in known.parameters:
                    known.parameters.append(parameter)
        self.births = list(found.values())
        self.nodes, self.leaves = [], {}

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
        sent = seen.left[position] if position < len(seen.left) else "none"
        if seen.function is not None:
            return Birth("custom-" + sent, seen.name, seen.sequence, [], seen.function, seen.function_code, (position,))
        if seen.factor >= 0:
            blamed = self.nodes[seen.factor]
            return Birth("factor", blamed.name, blamed.sequence, [], detail=seen.name)
        if any(m in seen.name for m in _MOVERS):
            sent = "left-out"  # the part of a tensor that the loss does not read
        return Birth(sent, seen.name, seen.sequence, [])

    def _sent(self, number: int, position: int) -> str:
        left = self.nodes[number].left
        return left[position] if position < len(left) else "none"

    def _cancelled_leaf(self, leaf: int) -> bool:
        reference = self.leaves.get(leaf)
        tensor = reference() if reference is not None else None
        return tensor is not None and tensor.grad is not None and not bool(tensor.grad.any())


def _blamed_factor(node: Any) -> Any:
    """Of a product or quotient that is zero: the node that made its zero factor zero, seen through further products."""
    blamed = None
    for _ in range(64):
        factor = _zero_operand(node)
        if factor is None:
            return blamed
        for _ in range(64):
            if factor is None or not any(m in factor.name() for m in _MOVERS):
                break
            factor = next((n for n, _ in factor.next_functions if n is not None), None)
        if factor is None or hasattr(factor, "variable"):
            return blamed
        blamed = node = factor
    return blamed


def _zero_operand(node: Any) -> Any:
    """The node behind the operand that is zero everywhere, None where none is (or it takes no gradient)."""
    kind = node.name().rstrip("0123456789")
    saved = {"MulBackward": (("_saved_self", 0), ("_saved_other", 1)), "DivBackward": (("_saved_self", 0),)}.get(kind, ())
    for name, position in saved:
        try:
            operand = getattr(node, name)
        except (RuntimeError, AttributeError):
            continue
        if isinstance(operand, torch.Tensor) and not operand.is_meta and operand.layout == torch.strided and not bool(operand.any()):
            return node.next_functions[position][0] if position < len(node.next_functions) else None
    return None
