"""Where a term enters a loss the wrong way, and the lead that says so."""

from __future__ import annotations

import ast

from ...recorder.recording import Event, Recording
from ..cuts import graph_of
from ..graph import Cone
from ..lead import Lead
from .terms import FLIPPED, SUBTRACT, Term, joins, scored, terms


def entry(recording: Recording, event: Event, ops: list[int], start: int) -> int:
    """Where a term enters the wrong way: the op that turns its direction on the way to the loss, else the sum where it meets the others."""
    for index in ops:
        op = recording.ops[index]
        before = [event.signs.get(recording.values[v].op) for v in op.inputs if recording.values[v].op in event.signs]
        if (
            event.signs.get(index) == "+"
            and "-" in before
            and op.name in (*SUBTRACT, *FLIPPED, "neg", "__neg__", "mul", "__mul__", "__rmul__")
        ):
            return index
    return joins(recording, ops, start)


def make(recording: Recording, kind: str, op: int, term: str, rank: float = 40) -> Lead | None:
    """The lead for a term that enters at an op."""
    stack = recording.ops[op].stack if op >= 0 else ()
    if not stack:
        return None
    lead = Lead("sign", recording.sites[stack[0]], rank=rank)
    lead.expression = graph_of(recording).text(op)
    lead.details = {"kind": kind, "term": term}
    return lead


def text(recording: Recording, op: int) -> str:
    """The user's expression of an op."""
    return graph_of(recording).text(op, 60)


def of_kind(recording: Recording, cone: Cone, kind: str) -> list[Term]:
    """The terms of one kind."""
    return [t for t in terms(recording, cone) if t.kind == kind]


def is_policy(recording: Recording, cone: Cone) -> bool:
    """Does the loss weigh log-probabilities with one constant a sample, as policy gradients do."""
    return any(scored(recording, cone, t.value) for t in of_kind(recording, cone, "log_prob"))


def slope(recording: Recording, op: int, value: int) -> int:
    """The sign of an operation's derivative with respect to one operand, read from its name and its source."""
    made = recording.ops[op]
    if made.name in ("neg", "__neg__", "rsub", "__rsub__"):
        return -1
    if made.name in ("sub", "__sub__", "subtract") and len(made.inputs) > 1 and made.inputs[1] == value and made.inputs[0] != value:
        return -1
    if made.name in ("mul", "__mul__", "__rmul__", "div", "__truediv__") and made.stack:
        found = graph_of(recording).slicer.at(recording.sites[made.stack[0]])
        if found is not None and isinstance(found[2], ast.BinOp):
            sides = (found[2].left, found[2].right)
            return -1 if any(isinstance(s, ast.UnaryOp) and isinstance(s.op, ast.USub) for s in sides) else 1
    return 1
