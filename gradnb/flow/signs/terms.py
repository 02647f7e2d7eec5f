"""Quantities with a meaning inside a loss (an entropy, a log-probability, an error measure), and their way into it."""

from __future__ import annotations

import ast
from dataclasses import dataclass

from ...recorder.recording import Op, Recording
from ..cuts import graph_of
from ..graph import Cone

LINEAR = set(
    "add sub mul div neg mean sum nanmean __add__ __sub__ __radd__ __rsub__ __mul__ __rmul__ __truediv__ __neg__ rsub subtract multiply "
    "divide true_divide to float double half bfloat16 type squeeze unsqueeze view reshape flatten __getitem__ stack cat concat "
    "concatenate clone contiguous permute transpose expand expand_as select __iadd__ __isub__ add_ "
    "sub_ mul_ div_ t broadcast_tensors".split()
)
SUBTRACT = set("sub __sub__ subtract __isub__ sub_".split())
FLIPPED = set("rsub __rsub__".split())
ERRORS = set(
    "cross_entropy nll_loss mse_loss l1_loss smooth_l1_loss huber_loss binary_cross_entropy binary_cross_entropy_with_logits ctc_loss "
    "gaussian_nll_loss poisson_nll_loss soft_margin_loss multi_margin_loss multilabel_margin_loss multilabel_soft_margin_loss".split()
)
_METHODS = {"entropy", "log_prob", "kl_divergence"}


@dataclass(slots=True)
class Term:
    """A quantity: what it is, the op that finished it, and the value."""

    kind: str  # "entropy" | "log_prob" | "kl_divergence" | name of an error measure
    op: int
    value: int


def terms(recording: Recording, cone: Cone) -> list[Term]:
    """The quantities that a loss depends on by gradient, in the order in which they were computed."""
    key = ("terms", cone.losses)
    if key not in recording.memo:
        recording.memo[key] = list(_terms(recording, cone))
    return recording.memo[key]


def _terms(recording: Recording, cone: Cone):  # type: ignore[no-untyped-def]
    last: dict[tuple, Term] = {}
    for value in cone.order:
        made = recording.values[value].op
        if made < 0 or not recording.values[value].requires_grad:
            continue
        op = recording.ops[made]
        if op.name in ERRORS:
            yield Term(op.name, made, value)
        elif op.via is None and op.stack and recording.sites[op.stack[0]].function == "log_prob" and _is_result(recording, op):
            yield Term("log_prob", made, value)
        elif op.via == "torch.distributions" and op.stack:
            method = _method(recording, op)
            if method:
                # several operations of one call: the last of an unbroken run is its result
                key = (op.stack, method)
                known = last.get(key)
                if known is not None and _same_call(recording, known.op, made):
                    known.op, known.value = made, value
                else:
                    if known is not None:
                        yield known
                    last[key] = Term(method, made, value)
    yield from last.values()


def _method(recording: Recording, op: Op) -> str:
    found = graph_of(recording).slicer.at(recording.sites[op.stack[0]])
    if found is None or not isinstance(found[2], ast.Call):
        return ""
    function = found[2].func
    name = function.attr if isinstance(function, ast.Attribute) else function.id if isinstance(function, ast.Name) else ""
    return name if name in _METHODS else ""


def _is_result(recording: Recording, op: Op) -> bool:
    """Is the operation's value what the function around it returns."""
    from ..places import statement_of

    found = statement_of(recording, recording.sites[op.stack[0]])
    expression = graph_of(recording).slicer.at(recording.sites[op.stack[0]])
    return found is not None and expression is not None and isinstance(found[1], ast.Return) and found[1].value is expression[2]


def _same_call(recording: Recording, first: int, second: int) -> bool:
    stack = recording.ops[second].stack
    return all(recording.ops[i].stack == stack for i in range(first, second))


def way(cone: Cone, value: int, limit: int = 80) -> list[int]:
    """The ops through which a value's gradient comes, in order, from the value to the loss; [] beyond ``limit``."""
    found: set[int] = set()
    todo, seen = [value], {value}
    while todo:
        for edge in cone.children.get(todo.pop(), ()):
            if edge.carries:
                found.add(edge.op)
                if edge.target not in seen:
                    seen.add(edge.target)
                    todo.append(edge.target)
        if len(found) > limit:
            return []
    return sorted(found)


def spread(recording: Recording, cone: Cone, value: int) -> int:
    """The value at which a quantity is first used in more than one way, past sums and changes of shape."""
    for _ in range(8):
        edges = [e for e in cone.children.get(value, ()) if e.carries]
        if len(edges) != 1 or recording.ops[edges[0].op].name not in (
            "sum",
            "view",
            "reshape",
            "squeeze",
            "unsqueeze",
            "flatten",
            "float",
            "to",
        ):
            break
        value = edges[0].target
    return value


def straight(recording: Recording, cone: Cone, ops: list[int]) -> bool:
    """Is the way to the loss linear: sums, means, constants, and no product of two quantities that both learn."""
    for index in ops:
        op = recording.ops[index]
        if op.name not in LINEAR:
            return False
        if op.name in ("mul", "__mul__", "__rmul__", "multiply", "mul_", "div", "__truediv__", "div_", "divide", "true_divide"):
            if sum(recording.values[v].requires_grad for v in set(op.inputs)) > 1:
                return False
    return bool(ops)


def joins(recording: Recording, ops: list[int], start: int) -> int:
    """The op where a term meets the others: the first sum or difference with another learning operand; else the last op of its way."""
    on_way = {start}
    for index in ops:
        op = recording.ops[index]
        others = [v for v in op.inputs if v not in on_way and recording.values[v].requires_grad]
        on_way.update(op.outputs)
        if others and (op.name in SUBTRACT or op.name in FLIPPED or op.name in ("add", "__add__", "__radd__", "__iadd__", "add_", "stack")):
            return index
    return ops[-1] if ops else -1


def scored(recording: Recording, cone: Cone, value: int) -> list[tuple[int, int]]:
    """(op, factor) for each product of a value with a factor that does not learn and has one number a sample."""
    found = []
    todo, seen = [value], {value}
    while todo:
        v = todo.pop()
        for edge in cone.children.get(v, ()):
            op = recording.ops[edge.op]
            if not edge.carries:
                continue
            if op.name in ("mul", "__mul__", "__rmul__", "multiply", "mul_") and len(op.inputs) > 1:
                other = next((u for u in op.inputs if u != v), -1)
                shape = recording.values[other].shape if other >= 0 else None
                if other >= 0 and not recording.values[other].requires_grad and _several(shape):
                    found.append((edge.op, other))
                    continue
            passes = op.name in (
                "neg",
                "__neg__",
                "sum",
                "squeeze",
                "unsqueeze",
                "view",
                "reshape",
                "stack",
                "cat",
                "__getitem__",
                "flatten",
            )
            follows = passes or op.name in ("exp", *SUBTRACT)  # a ratio of two policies
            if follows and edge.target not in seen and len(seen) < 40:
                seen.add(edge.target)
                todo.append(edge.target)
    return found


def _several(shape: tuple[int, ...] | None) -> bool:
    size = 1
    for extent in shape or ():
        size *= extent
    return size > 1
