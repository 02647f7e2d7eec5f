"""A gradient was differentiated again, and an operation on its way has no second derivative."""

from __future__ import annotations

import ast
import re

from ...recorder.recording import Location, Op, Recording
from ..cuts import graph_of
from ..lead import Lead
from ..places import locate, methods

_ONCE = "marked with @once_differentiable"
_MISSING = re.compile(r"derivative for (?:aten::|')_?(\w+?)_backward'? is not implemented")


def twice(recording: Recording) -> list[Lead]:
    """A lead for a custom Function that may be differentiated once only, or an operation of torch whose backward has no derivative."""
    raised = recording.raised
    if raised is None:
        return []
    missing = _MISSING.search(raised.message)
    if missing is not None:
        op = _operation(recording, missing.group(1))
        location, kind = (recording.location(op.stack) if op is not None else None), "no-formula"
    elif _ONCE in raised.message:
        op, location = _function(recording)
        kind = "once"
    else:
        return []
    symptom = recording.location(raised.stack)
    lead = Lead("not-twice-differentiable", location or symptom, rank=110)
    lead.operation = (op.function or op.name) if op is not None else missing.group(1) if missing is not None else ""
    lead.expression = graph_of(recording).slicer.text(lead.location) if lead.location else ""
    lead.details = {"kind": kind, "operation": lead.operation, "raised": True}
    used = recording.location(op.stack) if op is not None else None
    for place, note in ((used, "it is used here"), (symptom, "the second derivative is asked for here")):
        if place is not None and place != lead.location:
            lead.related.append((place, note))
    return [lead]


def _function(recording: Recording) -> tuple[Op | None, Location | None]:
    """The last custom Function that was applied and whose backward is marked, and the mark; without a source, the one applied last."""
    applied = [op for op in reversed(recording.ops) if op.kind == "function" and op.stack]
    for op in applied:
        for source, backward in methods(recording, op.function, "backward"):
            mark = next((mark for mark in backward.decorator_list if "once_differentiable" in ast.unparse(mark)), None)
            if mark is not None:
                return op, locate(recording, source, mark, "backward")
    return (applied[0], recording.location(applied[0].stack)) if applied else (None, None)


def _operation(recording: Recording, kernel: str) -> Op | None:
    """The recorded operation behind a kernel: ``grid_sample`` is ``grid_sampler_2d``; of several the longest name, then the last."""
    words = kernel.split("_")
    known = [
        op
        for op in reversed(recording.ops)
        if op.stack and len(op.name) > 3 and all(any(w.startswith(part) for w in words) for part in op.name.strip("_").split("_"))
    ]
    return max(known, key=lambda op: len(op.name), default=None)
