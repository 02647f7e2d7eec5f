"""A leaf that requires grad, or a view of one, is changed in place while autograd records."""

from __future__ import annotations

from ...recorder.recording import Recording
from ..cuts import graph_of
from ..lead import Lead
from .history import RANK, relate

MESSAGE = "leaf Variable that requires grad"
_SPLIT = "is a view and is being modified inplace"  # an element of unbind(), chunk(), split(): the same fault where the whole is a leaf


def leaf(recording: Recording) -> list[Lead]:
    """The lead for "a leaf Variable that requires grad is being used in an in-place operation"."""
    error = recording.raised
    if (
        error is None
        or not error.stack
        or not (MESSAGE in error.message or _SPLIT in error.message or "A view was created in" in error.message)
    ):
        return []
    graph = graph_of(recording)
    op = recording.ops[error.op] if error.op >= 0 else None
    value = _base(recording, op.inputs[0]) if op is not None and op.inputs else -1
    if MESSAGE not in error.message and not (value >= 0 and recording.values[value].leaf and recording.values[value].requires_grad):
        return []
    number = recording.values[value].parameter if value >= 0 else -1
    parameter = recording.parameters[number] if number >= 0 else None
    lead = Lead("leaf-inplace", recording.location(error.stack), rank=RANK, operation=op.name if op is not None else "")
    lead.expression = lead.location.code if lead.location else ""
    lead.details = {"raised": True, "view": "view" in error.message, "parameter": bool(parameter and parameter.is_parameter)}
    if parameter is not None and parameter.listed:
        lead.affected = [parameter.name]
    made = recording.values[value].op if value >= 0 else -1
    if made >= 0 and recording.ops[made].stack:
        relate(lead, recording.location(recording.ops[made].stack), f"the leaf is made here: `{graph.text(made)}`")
    return [lead]


def _base(recording: Recording, value: int) -> int:
    """The value that a view looks into, itself where it is no view."""
    for _ in range(64):
        made = recording.values[value].op
        if made < 0 or not recording.ops[made].inputs or recording.ops[made].kind not in ("op", "cut"):
            return value
        below = recording.ops[made].inputs[0]
        if recording.values[below].group != recording.values[value].group:
            return value
        value = below
    return value
