"""A tensor made in inference mode takes part in training: where it was made."""

from __future__ import annotations

from ...recorder.recording import Raised, Recording
from ..cuts import graph_of
from ..lead import Lead
from ..places import mentioned


def inference(recording: Recording) -> list[Lead]:
    error = recording.raised
    if error is None or "nference tensor" not in error.message:
        return []
    graph = graph_of(recording)
    found = None
    if error.op >= 0:
        for value in recording.ops[error.op].inputs:
            found = found or _made_in_inference(recording, value)
    if found is None:
        return _inference_before(recording, error)
    region, made = found
    lead = Lead("inference-tensor", recording.sites[recording.regions[region].site], rank=98)
    lead.operation = recording.ops[made].name
    lead.expression = lead.location.code if lead.location else ""
    lead.details = {"region": "inference_mode", "decorator": recording.regions[region].decorator, "raised": True}
    where = recording.location(recording.ops[made].stack)
    if where is not None:
        lead.related.append((where, f"the tensor is made here, in inference mode: {graph.text(made)}"))
    symptom = recording.location(error.stack)
    if symptom is not None:
        lead.related.append((symptom, "and is used here, where autograd would have to save it"))
    return [lead]


def _inference_before(recording: Recording, error: Raised) -> list[Lead]:
    """The tensor was made before the recording: the earlier code that reads like it."""
    inputs = recording.ops[error.op].inputs if error.op >= 0 else ()
    seen = [v for v in inputs if recording.values[v].inference or recording.values[v].op >= 0]
    places = mentioned(recording, "inference_mode")
    if not places or not seen and error.op >= 0:
        return []
    lead = Lead("inference-tensor", places[0], rank=98, expression=places[0].code)
    lead.details = {"region": "inference_mode", "decorator": places[0].code.startswith("@"), "raised": True}
    symptom = recording.location(error.stack)
    if symptom is not None:
        lead.related.append((symptom, "a tensor made in inference mode is used here, where autograd would have to save it"))
    return [lead]


def _made_in_inference(recording: Recording, value: int) -> tuple[int, int] | None:
    """The region and the op that made a value in inference mode, seen through views of it."""
    for _ in range(64):
        made = recording.values[value].op
        if made < 0:
            return None
        op = recording.ops[made]
        if op.region >= 0 and recording.regions[op.region].kind == "inference_mode":
            return op.region, made
        if not op.inputs:
            return None
        value = op.inputs[0]
    return None
