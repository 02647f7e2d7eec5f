"""Parameters whose gradient is exactly zero, or dropped by a custom Function, although the graph is whole."""

from __future__ import annotations

import ast

from ..recorder.recording import Location, Op, Recording, ZeroBirth
from ..recorder.slices import Slicer
from .constant import consumer
from .cuts import cut_lead, graph_of, group_cuts
from .lead import Lead
from .magnitude import faded
from .starved import Hunger, hungry

_FLAT = {"RoundBackward", "FloorBackward", "CeilBackward", "SignBackward", "TruncBackward", "FracBackward", "HeavisideBackward"}
_SATURATING = (
    "Clamp",
    "Relu",
    "Threshold",
    "Hardtanh",
    "Hardsigmoid",
    "Hardswish",
    "Sigmoid",
    "Tanh",
    "Softmax",
    "Maximum",
    "Minimum",
    "Where",
)


def zeros(recording: Recording) -> list[Lead]:
    """Leads for zero gradients and for custom Functions that return nothing."""
    explained: set[int] = recording.memo.setdefault("explained", set())
    leads: list[Lead] = []
    for hunger in hungry(recording):
        if hunger.event is not None:
            continue
        todo = {n for n in hunger.parameters if n not in explained and not _legitimate(recording, n, hunger.parameters)}
        births = sorted((b for b in recording.births if todo & set(b.parameters)), key=lambda b: _order(recording, b))
        for birth in births:
            numbers = [n for n in birth.parameters if n in todo]
            if not numbers:
                continue
            if _passing(recording, birth, numbers):
                continue
            lead = faded(recording, birth.op, numbers) if birth.detail == "faded" else None
            if lead is None:
                lead = _lead(recording, birth, numbers) if birth.kind != "left-out" else _beside(recording, hunger, numbers)
            if lead is None:
                continue
            leads.append(lead)
            todo -= set(numbers)
            explained.update(numbers)
    return leads


def _passing(recording: Recording, birth: ZeroBirth, numbers: list[int]) -> bool:
    """A zero that is no fault: a satisfied hinge, offsets that cancel in a difference, factors that are zero until the first step."""
    if birth.node.startswith(("Relu", "Clamp", "Threshold", "Maximum")) and all(loss.value == 0.0 for loss in recording.losses):
        return True
    if birth.kind == "cancelled":
        return all(sum(size > 1 for size in recording.parameters[n].shape) <= 1 for n in numbers)
    if birth.kind in ("zero", "factor") and _kind(birth, recording.ops[birth.op]) in ("unknown", "factor"):
        return all(len(recording.parameters[n].steps) <= 1 for n in numbers)
    return False


def _beside(recording: Recording, hunger: Hunger, numbers: list[int]) -> Lead | None:
    """The loss reads only other parts of a tensor with a gradient: what it needs of this part goes another, cut way."""
    graph = graph_of(recording)
    for losses in hunger.losses[:4]:
        cone = graph.cone(losses)
        groups = group_cuts(graph, cone, sum(1 << n for n in numbers) & cone.fed())
        if groups:
            best = max(groups, key=lambda g: (g.starved.bit_count(), g.depth))
            return cut_lead(graph, cone, hunger, best, numbers, [g for g in groups if g is not best])
    return None


def _order(recording: Recording, birth: ZeroBirth) -> tuple:
    """A custom Function first, then the birth that starves most, then the nearest to the loss; an underflow only where nothing else is."""
    return (not birth.kind.startswith("custom"), birth.detail == "faded", -len(birth.parameters), -birth.op)


def _legitimate(recording: Recording, number: int, starved: list[int]) -> bool:
    """A bias alone with a zero gradient is common and harmless (before a softmax, a normalisation, a balanced hinge)."""
    parameter = recording.parameters[number]
    if parameter.gradient != "zero":
        return False
    prefix = parameter.name.rpartition(".")[0]
    if len(parameter.shape) <= 1 and prefix:
        siblings = [
            i
            for i, p in enumerate(recording.parameters)
            if i != number and p.name.rpartition(".")[0] == prefix and p.ever_trainable and p.optimizer is not None
        ]
        return bool(siblings) and not any(i in starved for i in siblings)
    return False


def _lead(recording: Recording, birth: ZeroBirth, numbers: list[int]) -> Lead | None:
    names = [recording.parameters[n].name for n in numbers]
    if birth.kind.startswith("custom"):
        return _custom(recording, birth, names)
    if birth.kind == "none" or not birth.stack:
        return None
    op = recording.ops[birth.op]
    lead = Lead("zero-gradient", recording.location(birth.stack), affected=names, operation=op.name, rank=60 + len(names))
    lead.expression = graph_of(recording).text(birth.op)
    lead.details = {"kind": _kind(birth, op), "operation": op.name, "node": birth.node}
    if birth.detail == "even":
        user = consumer(recording, birth.op)
        lead.location, lead.expression = recording.location(recording.ops[user].stack), graph_of(recording).text(user)
        lead.details.update(kind="even", operation=recording.ops[user].name)
    if birth.kind == "factor" and birth.detail:
        lead.details["product"] = birth.detail
    return lead


def _kind(birth: ZeroBirth, op: Op) -> str:
    if birth.kind == "cancelled":
        return "cancelled"
    if birth.kind == "factor" and not birth.node.startswith(_SATURATING):
        return "factor"
    if birth.node.rstrip("0123456789") in _FLAT:
        return "flat"
    if birth.node.startswith(_SATURATING):
        return "saturated"
    return "factor" if birth.node.startswith("Mul") else "unknown"


def _custom(recording: Recording, birth: ZeroBirth, names: list[str]) -> Lead:
    slicer = graph_of(recording).slicer
    where, details = _backward_fault(recording, slicer, birth)
    lead = Lead("custom-function", where or recording.location(birth.stack), affected=names, operation="apply", rank=90 + len(names))
    lead.expression = slicer.text(where) if where else ""
    lead.details = {"function": birth.function, **details}
    called = recording.location(birth.stack)
    if where is not None and called is not None:
        lead.related.append((called, f"{birth.function} is used here"))
    return lead


def _backward_fault(recording: Recording, slicer: Slicer, birth: ZeroBirth) -> tuple[Location | None, dict]:
    """The line of the hand-written backward at fault: the return that gives None, or the argument it never reads."""
    here = recording.sites[birth.site] if birth.site >= 0 else None
    source = slicer.source(here.filename) if here else None
    details: dict = {}
    if here is None or source is None:
        return here, details
    body = next(
        (s for s in source.scopes if isinstance(s, ast.FunctionDef) and s.name == here.function and _starts(s) <= here.line <= s.lineno),
        None,
    )
    if body is None:
        return here, details
    position = birth.outputs[0] if birth.outputs else 0
    returns = [n for n in ast.walk(body) if isinstance(n, ast.Return) and n.value is not None]
    if birth.kind == "custom-none":
        for node in returns:
            parts = node.value.elts if isinstance(node.value, ast.Tuple) else [node.value]
            # autograd hands a gradient back for tensor arguments; in source they stand among the others
            blank = [i for i, e in enumerate(parts) if isinstance(e, ast.Constant) and e.value is None]  # type: ignore[arg-type]
            if blank:
                details["missing"] = (
                    f"returns None for argument {position + 1}" if position in blank else "returns None for a tensor argument"
                )
                return _at(recording, here, node), details
    arguments = [a.arg for a in body.args.args][1:]
    read = {n.id for n in ast.walk(body) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
    ignored = [a for a in arguments if a not in read]
    if ignored:
        details["ignored"] = ignored[0]
        return _at(recording, here, body, one_line=True), details
    if returns:
        details["missing"] = (
            f"returns zeros for argument {position + 1}" if birth.kind == "custom-zero" else f"returns None for argument {position + 1}"
        )
        return _at(recording, here, returns[-1]), details
    return here, details


def _starts(node: ast.FunctionDef) -> int:
    return min([node.lineno, *(d.lineno for d in node.decorator_list)])


def _at(recording: Recording, like: Location, node: ast.stmt, one_line: bool = False) -> Location:
    """A Location for a statement in the same source as another location."""
    lines = recording.sources.get(like.filename, "").split("\n")
    code = lines[node.lineno - 1].strip() if node.lineno <= len(lines) else ""
    end_line = node.lineno if one_line else node.end_lineno
    end = len(lines[node.lineno - 1].encode()) if one_line and node.lineno <= len(lines) else node.end_col_offset
    return Location(like.cell, like.file, node.lineno, like.function, code, end_line, node.col_offset, end, like.filename)
