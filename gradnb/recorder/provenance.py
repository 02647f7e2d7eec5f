"""Follows values through Python: which tensors a number, a list or an array came from when it comes back as a tensor.

Nothing of the user's is touched for this. A value that comes back is looked up in the source by a backward slice; an
escape (``.item()``, ``.numpy()``, …) is linked to it where the stack that was recorded at the escape runs through that slice.
"""

from __future__ import annotations

import ast
from bisect import bisect_left

from .recording import Location, Op, Recording
from .slices import Slice, Slicer, place
from .source import span

# Operations whose Python-number operand can carry a value of the user's, and is worth a look.
_ARITHMETIC = set(
    "add sub mul div true_divide rsub rdiv __add__ __radd__ __sub__ __rsub__ __mul__ __rmul__ __truediv__ __rtruediv__ __rdiv__ pow "
    "__pow__ __rpow__ add_ sub_ mul_ div_ __iadd__ __isub__ __imul__ __itruediv__ __setitem__ fill_ copy_ where full full_like masked_fill "
    "masked_fill_ index_fill lerp addcmul clamp minimum maximum stack cat data".split()
)


class Provenance:
    """Resolves, on demand, the Python side of values and operations."""

    def __init__(self, recording: Recording, slicer: Slicer):
        self.recording = recording
        self.slicer = slicer
        self._escapes = [i for i, op in enumerate(recording.ops) if op.kind == "escape" and op.name not in ("__bool__",) and op.inputs]
        self._by_stack: dict[tuple[int, ...], list[int]] = {}
        for i in self._escapes:
            self._by_stack.setdefault(recording.ops[i].stack, []).append(i)
        self._producers: dict[tuple[int, ...], list[int]] = {}
        for i, op in enumerate(recording.ops):
            if op.outputs and op.kind not in ("escape", "python"):
                self._producers.setdefault(op.stack, []).append(i)
        self._all: dict[tuple[int, ...], list[int]] = {}
        for i, op in enumerate(recording.ops):
            self._all.setdefault(op.stack, []).append(i)
        self._slices: dict[tuple, Slice] = {}
        self._matches: dict[tuple, tuple[list[int], list[int]]] = {}

    # -- what feeds an op from Python ------------------------------------------------------------------------------------

    def of_op(self, index: int, op: Op) -> list[int]:
        """Escape ops whose numbers reach this op's Python arguments."""
        if op.kind == "factory" or op.name == "full":
            return self._escaped(("factory", op.stack), op.stack, index, lambda node: _arguments(node))
        if op.numbers and (op.name in _ARITHMETIC) and op.stack:
            return self._escaped(("number", op.stack), op.stack, index, lambda node: self._number_side(op, node))
        return []

    def _number_side(self, op: Op, node: ast.expr) -> list[ast.expr]:
        """The operand that is the number: not a literal's partner, and not the side that made the tensor operand."""
        sides = _operands(node)
        if not isinstance(node, ast.BinOp):
            return sides
        if any(isinstance(s, ast.Constant) or isinstance(s, ast.UnaryOp) and isinstance(s.operand, ast.Constant) for s in sides):
            return []
        made = [self.recording.values[v].op for v in op.inputs]
        spans = {place(self.recording.sites[self.recording.ops[m].stack[0]]) for m in made if m >= 0 and self.recording.ops[m].stack}
        return [s for s in sides if span(s) not in spans]

    def of_fresh(self, index: int, position: int) -> tuple[list[int], list[int]]:
        """For a tensor first met as argument ``position`` of op ``index``: escapes and tensor-making ops it comes from."""
        op = self.recording.ops[index]
        key = ("fresh", op.stack, position)
        found = self._lookup(key, op.stack, lambda node: _argument(node, op.name, position))
        escapes, producers = self._match(key, found)
        escapes = self._recent(escapes, index, key)
        producers = self._recent(producers, index, key)
        # a tensor-making op counts only where it runs inside the making of the value, not where it merely uses it
        producers = [p for p in producers if p != index]
        return escapes, producers

    def constructor(self, value: int) -> str:
        """What the source makes an unseen tensor with: ``torch.FloatTensor``, ``torch.from_numpy``, …; empty where unknown."""
        met = self.recording.met.get(value)
        if met is None or met[0] >= len(self.recording.ops):
            return ""
        found = self._slices.get(("fresh", self.recording.ops[met[0]].stack, met[1]))
        for _, expression in found.expressions if found else ():
            for node in ast.walk(expression):
                if isinstance(node, ast.Call):
                    name = (
                        node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id if isinstance(node.func, ast.Name) else ""
                    )
                    if name.endswith("Tensor") or name in ("from_numpy", "Variable", "from_dlpack", "frombuffer"):
                        return ast.unparse(node.func)
        return ""

    def of_expression(self, stack: tuple[int, ...], expressions: list[ast.expr], before: int) -> tuple[list[int], list[int]]:
        """For expressions read at a place, such as the object of a ``.backward()`` that does not exist."""
        locations = [self.recording.sites[s] for s in stack]
        key = ("expression", stack)
        self._slices[key] = self.slicer.trace(locations, expressions)
        escapes, producers = self._match(key, self._slices[key])
        return self._recent(escapes, before, key), self._recent(producers, before, key)

    # -- inside ------------------------------------------------------------------------------------------------------------

    def _escaped(self, key: tuple, stack: tuple[int, ...], index: int, pick) -> list[int]:  # type: ignore[no-untyped-def]
        if not self._escapes or self._escapes[0] >= index:
            return []
        found = self._lookup(key, stack, pick)
        return self._recent(self._match(key, found)[0], index, key)

    def _lookup(self, key: tuple, stack: tuple[int, ...], pick) -> Slice:  # type: ignore[no-untyped-def]
        known = self._slices.get(key)
        if known is None:
            known = Slice()
            locations = [self.recording.sites[s] for s in stack]
            found = self.slicer.at(locations[0]) if locations else None
            if found is not None:
                picked = [e for e in pick(found[2]) if not isinstance(e, ast.Constant)]
                if picked:
                    known = self.slicer.trace(locations, picked)
            self._slices[key] = known
        return known

    def _match(self, key: tuple, found: Slice) -> tuple[list[int], list[int]]:
        known = self._matches.get(key)
        if known is None:
            escapes: list[int] = []
            producers: list[int] = []
            if found.regions:
                for stack, ops in self._by_stack.items():
                    if self._runs_through(stack, found):
                        escapes.extend(ops)
                if key[0] in ("fresh", "expression"):
                    for stack, ops in self._producers.items():
                        if self._runs_through(stack, found):
                            producers.extend(ops)
            known = self._matches[key] = (sorted(escapes), sorted(producers))
        return known

    def _runs_through(self, stack: tuple[int, ...], found: Slice) -> bool:
        """Does a stack pass through the slice, and does each function below that place return what it made."""
        locations: list[Location] = [self.recording.sites[s] for s in stack]
        for depth, location in enumerate(locations):
            if found.holds(location):
                return all(
                    self.slicer.returned(inner).holds(inner) or found.holds(inner) or inner.function == "__init__"
                    for inner in locations[:depth]
                )
        return False

    def _recent(self, ops: list[int], index: int, key: tuple) -> list[int]:
        """Those before ``index``; of a loop's rounds only the last one that has any."""
        end = bisect_left(ops, index)
        if not end:
            return []
        previous = -1
        if key[0] != "expression":
            rounds = self._all.get(key[1], [])
            at = bisect_left(rounds, index)
            previous = rounds[at - 1] if at else -1
        # consecutive uses of one list (its elements, its slices) share a round
        start = bisect_left(ops, previous)
        return ops[start:end] if start < end else ops[:end]


def _arguments(node: ast.expr) -> list[ast.expr]:
    if isinstance(node, ast.Call):
        return (
            [*node.args[:2], *(k.value for k in node.keywords if k.arg in ("data", "fill_value"))]
            if node.args
            else [k.value for k in node.keywords]
        )
    return [node]


def _operands(node: ast.expr) -> list[ast.expr]:
    if isinstance(node, ast.BinOp):
        return [node.left, node.right]
    if isinstance(node, ast.Call):
        return [*node.args, *(k.value for k in node.keywords)]
    return [node]


def _argument(node: ast.expr, name: str, position: int) -> list[ast.expr]:
    """The expression of an argument: exact where the call names the operation itself, else all arguments."""
    if isinstance(node, ast.BinOp):
        return [node.left, node.right][position : position + 1] or [node.left, node.right]
    if isinstance(node, ast.Call):
        called = node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id if isinstance(node.func, ast.Name) else ""
        if called.strip("_") == name.strip("_"):
            module = isinstance(node.func, ast.Attribute) and _is_library(node.func.value)
            method = isinstance(node.func, ast.Attribute) and not module
            arguments = [node.func.value, *node.args] if method and isinstance(node.func, ast.Attribute) else list(node.args)
            if position < len(arguments):
                return [arguments[position]]
        receiver = [node.func.value] if isinstance(node.func, ast.Attribute) else []
        return [*node.args, *(k.value for k in node.keywords), *receiver]
    if isinstance(node, ast.Attribute):
        return [node.value]
    return [node]


def _is_library(node: ast.expr) -> bool:
    """``torch``, ``F``, ``nn.functional``, ``torch.linalg``, …: what stands before the dot is a module, not a tensor."""
    names = ("torch", "F", "functional", "linalg", "special", "fft", "nn", "np", "numpy", "nnf", "tnf")
    return isinstance(node, ast.Name) and node.id in names or isinstance(node, ast.Attribute) and node.attr in names
