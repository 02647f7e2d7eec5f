"""A loss refuses its target: an axis too many, or class indices that were made floats and taken for something else."""

from __future__ import annotations

from ...recorder.recording import Op, Recording
from ..cuts import graph_of
from ..lead import Lead
from .dtypes import origin
from .history import RANK, relate

_SIZES = (
    "must match the size of tensor",
    "that is different to the input size",
    "must be the same as input size",
    "doesn't match the broadcast shape",
    "multi-target not supported",
    "Expected input batch_size",
    "input tensors should have same dimension",
    "Expected target size",
)
_LOSSES = set(
    "mse_loss l1_loss smooth_l1_loss huber_loss kl_div nll_loss cross_entropy binary_cross_entropy binary_cross_entropy_with_logits "
    "poisson_nll_loss gaussian_nll_loss soft_margin_loss margin_ranking_loss cosine_embedding_loss hinge_embedding_loss".split()
)


def targets(recording: Recording) -> list[Lead]:
    """The lead for a size error between a prediction and its target."""
    error = recording.raised
    if error is None or error.op < 0 or not any(text in error.message for text in _SIZES):
        return []
    op = recording.ops[error.op]
    if len(op.inputs) < 2:
        return []
    cast = _cast_indices(recording, op)
    if cast is not None:
        return [cast]
    pair = _extra_axis(recording, op)
    if pair is None and op.name in _LOSSES:
        pair = (op.inputs[0], op.inputs[1])
    return [_lead(recording, op, *pair)] if pair is not None else []


def unnoticed(recording: Recording) -> list[Lead]:
    """Leads for losses that take such indices and do not raise, because a batch has as many samples as there are classes."""
    found: dict[tuple[str, int], Lead] = {}
    for op in recording.ops:
        if op.name not in _LOSSES or len(op.inputs) < 2 or _raises(recording, op):
            continue
        lead = _cast_indices(recording, op)
        if lead is not None and lead.location is not None:
            found.setdefault((lead.location.filename, lead.location.line), lead)
    return list(found.values())[:3]


def _raises(recording: Recording, op: Op) -> bool:
    error = recording.raised
    return error is not None and error.op >= 0 and recording.ops[error.op] is op


def _cast_indices(recording: Recording, op: Op) -> Lead | None:
    """``[N, C, …]`` meets ``[N, …]`` that was made a float: class indices that some code takes for a distribution."""
    values = recording.values
    for logits, target in ((op.inputs[0], op.inputs[1]), (op.inputs[1], op.inputs[0])):
        a, b = values[logits].shape or (), values[target].shape or ()
        if not (values[logits].requires_grad and len(a) == len(b) + 1 >= 2 and a[0] == b[0] and a[2:] == b[1:]):
            continue
        made = origin(recording, target)
        if made < 0 or not recording.ops[made].inputs or not recording.ops[made].stack:
            continue
        source = values[recording.ops[made].inputs[0]]
        if not source.dtype.startswith(("int", "uint")) or not values[target].dtype.startswith("float"):
            continue
        lead = Lead("dtype", recording.location(recording.ops[made].stack), rank=RANK, operation=recording.ops[made].name)
        lead.expression = graph_of(recording).text(made)
        lead.details = {"dtype": values[target].dtype, "from": source.dtype, "operation": op.name, "indices": True}
        lead.details.update(shape=b, logits=a, raised=_raises(recording, op))
        _symptom(recording, op, lead)
        return lead
    return None


def _extra_axis(recording: Recording, op: Op) -> tuple[int, int] | None:
    """Operands that agree on their samples, where one has an axis that the other has not."""
    if op.name not in _LOSSES and not _feeds_a_loss(op):
        return None
    values = recording.values
    for more, less in ((op.inputs[0], op.inputs[1]), (op.inputs[1], op.inputs[0])):
        a, b = values[more].shape or (), values[less].shape or ()
        if len(a) == len(b) + 1 >= 2 and a[0] == b[0] and (op.name in _LOSSES or values[more].requires_grad or values[less].requires_grad):
            return more, less
    return None


def _feeds_a_loss(op: Op) -> bool:
    return op.name in ("sub", "mul", "add", "__sub__", "__mul__", "__add__", "__radd__", "__rsub__", "__rmul__", "rsub")


def _lead(recording: Recording, op: Op, more: int, less: int) -> Lead:
    graph, values = graph_of(recording), recording.values
    lead = Lead("shape-mismatch", recording.location(op.stack), rank=RANK - 50, operation=op.name)
    lead.expression = graph.text(recording.raised.op) if recording.raised is not None else ""
    kind = "axis" if len(values[more].shape or ()) == len(values[less].shape or ()) + 1 else "target"
    lead.details = {"kind": kind, "small": values[more].shape, "other": values[less].shape, "operation": op.name, "raised": True}
    for value in (more, less):
        made = values[value].op
        if made >= 0 and recording.ops[made].stack:
            shape = list(values[value].shape or ())
            relate(lead, recording.location(recording.ops[made].stack), f"{shape} comes from `{graph.text(made, 50)}`")
    _symptom(recording, op, lead)
    return lead


def _symptom(recording: Recording, op: Op, lead: Lead) -> None:
    raised = lead.details["raised"]
    relate(lead, recording.location(op.stack), f"`{op.name}` {'cannot take' if raised else 'broadcasts'} it here")
    if raised and recording.raised is not None:
        relate(lead, recording.location(recording.raised.stack), "the error is raised here")
