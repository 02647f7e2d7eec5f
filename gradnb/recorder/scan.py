"""Looks into one backward pass: how large the gradients are that enter and leave each autograd node.

The hooks are attached to the first backward of each training line, and to a later one only once a step has shown a gradient
that is missing, zero, not finite or out of proportion.
"""

from __future__ import annotations

import math
import weakref
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from .readable import readable

if TYPE_CHECKING:
    from .recorder import Recorder

UNKNOWN = -1.0  # a size that could not be read
ABSENT = -2.0  # no gradient at all
_PRODUCTS = ("MulBackward0", "DivBackward0")


@dataclass(slots=True)
class Seen:
    """One node. Sizes are L2 norms."""

    name: str
    sequence: int
    edges: list[tuple[int, int]]  # (node number, input number) each gradient goes to; node -1 is none
    came: float | None = None  # size of what came in, None where the node did not run
    went: list[float] = field(default_factory=list)  # … and of what went out
    function: str | None = None
    function_code: Any = None
    factor: int = -1  # for a product: the node of the factor that was zero everywhere
    note: str = ""  # for a softmax that lets next to nothing through: "saturated", or "even" where every class got the same gradient

    @property
    def arrived(self) -> str:
        """ "some", "zero", "none", or "?" where the node did not run."""
        return "?" if self.came is None else word(self.came)


def word(size: float) -> str:
    """What a gradient of this size is: "some", "zero" or "none"."""
    return "none" if size == ABSENT else "zero" if size == 0.0 else "some"


def size(grad: Any) -> float:
    """L2 norm of a gradient; UNKNOWN for one that cannot be read."""
    if grad is None:
        return ABSENT
    if not isinstance(grad, torch.Tensor) or not readable(grad) or grad.layout != torch.strided or not grad.numel():
        return UNKNOWN
    if not (grad.is_floating_point() or grad.is_complex()):
        return UNKNOWN
    norm = float(torch.linalg.vector_norm(grad))
    if norm == 0.0 or not math.isfinite(norm):  # the squares may have underflowed or overflowed
        norm = float(torch.linalg.vector_norm(grad, dtype=torch.complex128 if grad.is_complex() else torch.float64))
    return norm


class Scan:
    """Attach it before a backward pass; ``finish`` when it is over, and ``nodes`` and ``leaves`` are the facts."""

    def __init__(self, recorder: "Recorder", event: int):
        self.recorder = recorder
        self.event = event
        self.nodes: list[Seen] = []
        self.leaves: dict[int, weakref.ref] = {}  # node number of an AccumulateGrad -> its tensor
        self.parameters: dict[int, int] = {}  # node number of an AccumulateGrad -> its parameter
        self.births: list[Any] = []  # of zeros, see zeros.py
        self._handles: list[Any] = []

    def attach(self, losses: list[torch.Tensor], limit: int) -> bool:
        """Hook every node behind the losses; False, and nothing is hooked, where they are more than ``limit``."""
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
        return bool(order)

    def _hook(self, seen: Seen, node: Any, numbers: dict[Any, int]) -> Any:
        recorder = self.recorder
        product = seen.name in _PRODUCTS

        def hook(grad_inputs: Any, grad_outputs: Any) -> None:
            with recorder.guard(), torch.no_grad():
                sizes = [size(g) for g in grad_outputs]
                present = [s for s in sizes if s != ABSENT]
                seen.came = math.hypot(*present) if present and UNKNOWN not in present else UNKNOWN if present else ABSENT
                seen.went = [size(g) for g in grad_inputs]
                if product and 0.0 in seen.went and seen.arrived == "some":
                    factor = blamed_factor(node)
                    seen.factor = -1 if factor is None else numbers.get(factor, -1)
                if "Softmax" in seen.name and 0.0 <= max(seen.went, default=1.0) < 1e-5 * seen.came:
                    seen.note = _why_flat(node)
                if any(not math.isfinite(s) for s in seen.went) and all(math.isfinite(s) for s in sizes):
                    recorder.nonfinite.at_node(node, self.event, "nan" if any(math.isnan(s) for s in seen.went) else "inf")

        return hook

    def finish(self) -> None:
        """Take the hooks off, and let go of the tensors."""
        for handle in self._handles:
            handle.remove()
        self._handles = []
        for number, reference in self.leaves.items():
            tensor = reference()
            if tensor is not None:
                self.parameters[number] = self.recorder.census.number(tensor)


# Nodes that only move numbers around: a zero that comes out of one belongs to a part that was not read.
MOVERS = (
    "View Reshape Select Slice Transpose TBackward Permute Squeeze Unsqueeze Expand Unbind Split Clone ToCopy Alias AsStrided Cat Stack "
    "Unfold Flatten Diagonal Repeat Index Neg".split()
)


def moves(name: str) -> bool:
    """Does a node of this name only move numbers."""
    return any(m in name for m in MOVERS)


def _why_flat(node: Any) -> str:
    """Is a softmax that passes no gradient on saturated (one class has all), or is what it got the same for all classes."""
    result = getattr(node, "_saved_result", None)
    if not isinstance(result, torch.Tensor) or not readable(result) or not result.numel():
        return ""
    dim = getattr(node, "_saved_dim", -1)
    top = result.amax(dim if -result.dim() <= dim < result.dim() else -1)
    top = top.exp() if "Log" in node.name() else top
    return "saturated" if float(top.float().mean()) > 0.999 else "even"


def blamed_factor(node: Any) -> Any:
    """Of a product or quotient that is zero: the node that made its zero factor zero, seen through further products."""
    blamed = None
    for _ in range(64):
        factor = _zero_operand(node)
        if factor is None:
            return blamed
        for _ in range(64):
            if factor is None or not moves(factor.name()):
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
        if isinstance(operand, torch.Tensor) and readable(operand) and operand.layout == torch.strided and not bool(operand.any()):
            return node.next_functions[position][0] if position < len(node.next_functions) else None
    return None
