"""Operations whose result does not depend on what goes in: a normalisation over one element, probabilities that are summed up."""

from __future__ import annotations

import math

from ..recorder.recording import Op, Recording
from .cuts import graph_of
from .lead import Lead

_NORMS = ("layer_norm", "rms_norm", "group_norm", "instance_norm", "normalize")
_SHAPE = ("squeeze unsqueeze view reshape transpose permute contiguous flatten to float __getitem__ chunk split unbind").split()


def constants(recording: Recording) -> list[Lead]:
    """Leads for parameters that feed only such an operation; their gradient is zero up to rounding."""
    if recording.memo.get("nan from") is not None:
        return []
    explained: set[int] = recording.memo.setdefault("explained", set())
    leads = []
    for index, kind, blamed in [*_of_one(recording), *_even(recording)]:
        same = [
            i
            for i, op in enumerate(recording.ops)
            if op.stack[:1] == recording.ops[index].stack[:1] and op.name == recording.ops[index].name
        ]
        numbers = [n for n in _only_through(recording, same) if n not in explained]
        if not numbers:
            continue
        op = recording.ops[blamed]
        lead = Lead("zero-gradient", recording.location(op.stack), operation=op.name, rank=60 + len(numbers))
        lead.expression = graph_of(recording).text(blamed)
        lead.affected = [recording.parameters[n].name for n in numbers]
        lead.details = {"kind": kind, "operation": op.name}
        leads.append(lead)
        explained.update(numbers)
    return leads


def _of_one(recording: Recording) -> list[tuple[int, str, int]]:
    """Normalisations over a single element: what comes out is 0, or 1, whatever goes in."""
    found: dict[tuple, tuple[int, str, int]] = {}
    for index, op in enumerate(recording.ops):
        if op.name not in _NORMS or not op.inputs or not op.outputs or not op.stack or not recording.values[op.outputs[0]].requires_grad:
            continue
        shape = recording.values[op.inputs[0]].shape or ()
        if op.name == "normalize" and len(shape) != 2 or not shape or shape[-1] != 1 or _more_than_one(recording, op, shape):
            continue
        found.setdefault(op.stack[:1], (index, "constant", index))
    return list(found.values())


def _more_than_one(recording: Recording, op: Op, shape: tuple[int, ...]) -> bool:
    """Does it normalise over further dimensions than the last."""
    if op.name in ("group_norm", "instance_norm"):
        return math.prod(shape[2:]) != 1 or op.name == "group_norm" and _weights(recording, op) != math.prod(shape[1:2])
    return op.name != "normalize" and _weights(recording, op) > 1


def _weights(recording: Recording, op: Op) -> int:
    return max((math.prod(recording.values[v].shape or ()) for v in op.inputs[1:] if recording.values[v].parameter >= 0), default=1)


def _even(recording: Recording) -> list[tuple[int, str, int]]:
    """A softmax whose classes all get the same gradient: the probabilities sum up to 1, and only their sum is used."""
    found: dict[int, tuple[int, str, int]] = {}
    for profile in recording.profiles:
        for stage in profile.stages:
            if stage.note == "even" and stage.op >= 0:
                user = consumer(recording, stage.op)
                found.setdefault(user, (stage.op, "even", user))
    return list(found.values())


def consumer(recording: Recording, index: int) -> int:
    """The first operation, past changes of shape, that computes with an op's result; the op itself where none does."""
    values = set(recording.ops[index].outputs)
    for later in range(index + 1, min(index + 400, len(recording.ops))):
        op = recording.ops[later]
        if values & set(op.inputs) and op.kind in ("op", "function") and op.stack:
            if op.name not in _SHAPE:
                return later
            values.update(op.outputs)
    return index


def _only_through(recording: Recording, calls: list[int]) -> list[int]:
    """The parameters whose every way to a loss leads through one of the calls (their own weights are no such)."""
    graph = graph_of(recording)
    blocked = {v for i in calls for v in recording.ops[i].outputs}
    own = {recording.values[v].parameter for i in calls for v in recording.ops[i].inputs[1:]}
    inside: set[int] = set()
    outside: set[int] = set()
    for losses in dict.fromkeys(e.losses for e in recording.events if e.kind == "backward" and e.ok and e.losses):
        cone = graph.cone(losses)
        free: set[int] = set()
        todo = [v for v in losses if v not in blocked]
        while todo:
            value = todo.pop()
            if value in free:
                continue
            free.add(value)
            todo.extend(e.source for e in cone.edges.get(value, ()) if e.carries and e.source not in blocked)
        outside |= {recording.values[v].parameter for v in free}
        for i in calls:
            if blocked & set(cone.edges) and recording.ops[i].inputs:
                inside |= {recording.values[v].parameter for v in cone.upstream(recording.ops[i].inputs[0])}
    return sorted(n for n in inside - outside - own if n >= 0 and recording.parameters[n].optimizer is not None)
