"""Policy gradients with a wrong sign: the objective itself, or the entropy bonus beside it."""

from __future__ import annotations

import ast
import re

from ...recorder.recording import Event, Recording
from ..cuts import graph_of
from ..graph import Cone
from ..lead import Lead
from .entry import is_policy, make, of_kind, slope, text
from .terms import joins, scored, spread, straight, way

_GAIN = re.compile(r"reward|return|advantage|\badv|gae\b|score", re.IGNORECASE)


def entropy(recording: Recording, event: Event, cone: Cone) -> Lead | None:
    """An entropy that is minimised beside a policy gradient: a bonus with the wrong sign."""
    for term in of_kind(recording, cone, "entropy"):
        if event.signs.get(term.op) == "+" and is_policy(recording, cone):
            ops = way(cone, term.value)
            return make(recording, "entropy", joins(recording, ops, term.value), text(recording, term.op)) if ops else None
    return None


def own_samples(recording: Recording, event: Event, cone: Cone) -> Lead | None:
    """Beside the policy gradient stands minus the mean log-probability of the same samples, an estimate of the entropy."""
    for term in of_kind(recording, cone, "log_prob"):
        if not scored(recording, cone, term.value):
            continue
        value = spread(recording, cone, term.value)
        for edge in cone.children.get(value, ()):
            ops = [edge.op, *way(cone, edge.target)]
            if not edge.carries or not straight(recording, cone, ops) or scored(recording, cone, edge.target):
                continue
            direction = {"+": 1, "-": -1}.get(event.signs.get(edge.op, ""), 0) * slope(recording, edge.op, value)
            weighed = any(_many(recording, v) for v in recording.ops[edge.op].inputs if v != value)
            if direction < 0 and not weighed:
                return make(recording, "log-prob", joins(recording, ops, value), text(recording, term.op))
    return None


def _many(recording: Recording, value: int) -> bool:
    return any(size > 1 for size in recording.values[value].shape or ())


def policy(recording: Recording, event: Event, cone: Cone) -> Lead | None:
    """PPO's pessimistic minimum, or log-probability times reward, is minimised."""
    for value in cone.order:
        made = recording.values[value].op
        if made < 0 or recording.ops[made].name not in ("min", "minimum") or event.signs.get(made) != "+":
            continue
        op = recording.ops[made]
        live = [v for v in op.inputs if recording.values[v].requires_grad]
        if len(live) == 2 and all(_follows(recording, cone, v, "exp") for v in live) and any(_clipped(recording, cone, v) for v in live):
            return make(recording, "policy", made, text(recording, made), 58)
    for term in of_kind(recording, cone, "log_prob"):
        for product, _ in (*scored(recording, cone, term.value), *_numbered(recording, cone, term.value)):
            if _uphill(event, cone, product, recording) and _GAIN.search(_words(recording, product)):
                if not _follows(recording, cone, recording.ops[product].outputs[0], "exp"):
                    return make(recording, "policy", product, text(recording, product), 42)
    return None


def _uphill(event: Event, cone: Cone, op: int, recording: Recording) -> bool:
    """Is the product itself minimised, counting a minus that stands in front of its log-probability."""
    outputs = recording.ops[op].outputs
    if not outputs or event.signs.get(op) != "+" or not straight(recording, cone, way(cone, outputs[0])):
        return False
    written = text(recording, op)
    negated = any(recording.ops[recording.values[v].op].name == "neg" for v in recording.ops[op].inputs if recording.values[v].op >= 0)
    return not negated and "-" not in re.sub(r"\([^()]*\)|dim=-1|\[[^\]]*\]", "", written)


def _numbered(recording: Recording, cone: Cone, value: int) -> list[tuple[int, int]]:
    """Products of a log-probability with a Python number, as an episode's returns are."""
    edges = [e for e in cone.children.get(spread(recording, cone, value), ()) if e.carries]
    return [(e.op, -1) for e in edges if recording.ops[e.op].name in ("mul", "__mul__", "__rmul__") and recording.ops[e.op].numbers]


def _words(recording: Recording, op: int) -> str:
    """The user's words for what a log-probability is multiplied with: its expression, and those that its value comes from."""
    slicer = graph_of(recording).slicer
    stack = recording.ops[op].stack
    found = slicer.at(recording.sites[stack[0]]) if stack else None
    if found is None or not isinstance(found[2], ast.BinOp):
        return text(recording, op)
    sides = [
        side
        for side in (found[2].left, found[2].right)
        if not re.search(r"log|prob", ast.unparse(side)) and not isinstance(side, ast.Constant)
    ]
    traced = slicer.trace([recording.sites[s] for s in stack], list(sides)) if sides else None
    words = [ast.unparse(side) for side in sides]
    return " ".join([*words, *(ast.unparse(e) for _, e in traced.expressions[:40])] if traced else words)


def _follows(recording: Recording, cone: Cone, value: int, name: str) -> bool:
    return any(recording.values[v].op >= 0 and recording.ops[recording.values[v].op].name == name for v in cone.upstream(value))


def _clipped(recording: Recording, cone: Cone, value: int) -> bool:
    return _follows(recording, cone, value, "clamp") or _follows(recording, cone, value, "clip")
