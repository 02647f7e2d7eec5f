"""Probabilities of classes and overlaps of masks that are minimised, where nobody wrote a minus: one was forgotten."""

from __future__ import annotations

from ...recorder.recording import Event, Recording
from ..graph import Cone
from ..lead import Lead
from ..rounds import held
from .entry import make, text
from .error import attacks
from .terms import ERRORS, LINEAR, scored, straight, terms, way

_SMOOTHING = set("add mul div __add__ __radd__ __mul__ __rmul__ __truediv__".split())
_PICKS = set("gather __getitem__ take_along_dim".split())
_PRODUCTS = set("mul __mul__ __rmul__ multiply".split())
_QUOTIENTS = set("div __truediv__ divide true_divide".split())


def soft_targets(recording: Recording, event: Event, cone: Cone) -> Lead | None:
    """The log-probabilities of classes, weighed with the probabilities of a target: a cross entropy without its minus."""
    if not _alone(recording, cone):
        return None
    for value in _made_by(recording, cone, {"log_softmax"}):
        made = recording.values[value].op
        for product, factor in scored(recording, cone, value) if event.signs.get(made) == "+" else ():
            result = recording.ops[product].outputs[0]
            kind = _probabilities(recording, factor)
            if kind == "one_hot" and _weighed(recording, cone, result):
                continue
            if kind and _plain(recording, event, cone, result) and not scored(recording, cone, result):
                return make(recording, "soft", product, text(recording, made), 52)
    return None


def picked(recording: Recording, event: Event, cone: Cone) -> Lead | None:
    """The log-probability of the labels, with no weight, is all that is minimised."""
    logs = _made_by(recording, cone, {"log_softmax", "logsigmoid", "log_sigmoid"})
    fitted = any(t.kind in ERRORS and event.signs.get(t.op) == "+" for t in terms(recording, cone))
    if not logs or fitted or not _alone(recording, cone) or any(event.signs.get(recording.values[v].op) in ("-", "±") for v in logs):
        return None
    for value in logs:
        made = recording.values[value].op
        if recording.ops[made].name == "log_softmax":
            picks = [e for e in cone.children.get(value, ()) if e.carries and recording.ops[e.op].name in _PICKS]
            if len(picks) != 1:
                continue
            made, value = picks[0].op, picks[0].target
        if event.signs.get(made) != "+" or _weighed(recording, cone, value) or scored(recording, cone, value):
            continue
        if _plain(recording, event, cone, value):
            return make(recording, "likelihood", made, text(recording, made), 50)
    return None


def overlap(recording: Recording, event: Event, cone: Cone) -> Lead | None:
    """The overlap of a prediction with a mask, divided by the sizes of both (Dice, IoU, Tversky), is minimised."""
    if not _alone(recording, cone):
        return None
    for value in _made_by(recording, cone, _QUOTIENTS):
        made = recording.values[value].op
        inputs = recording.ops[made].inputs
        if event.signs.get(made) != "+" or len(inputs) != 2 or not all(recording.values[v].requires_grad for v in inputs):
            continue
        if _masks(recording, inputs[0]) & _summands(recording, inputs[1]) and _plain(recording, event, cone, value):
            return make(recording, "overlap", made, text(recording, made), 48)
    return None


def _made_by(recording: Recording, cone: Cone, operations: set[str]) -> list[int]:
    found = [v for v in cone.order if recording.values[v].op >= 0 and recording.values[v].requires_grad]
    return [v for v in found if recording.ops[recording.values[v].op].name in operations]


def _alone(recording: Recording, cone: Cone) -> bool:
    """Is one optimizer all that learns: with two the one may work against the other, and a perturbation may mislead a network."""
    stepping = [i for i, o in enumerate(recording.optimizers) if o.steps]
    if len(stepping) != 1 or any(e.kind == "grad" for e in recording.events):
        return False
    return not attacks(recording, cone, held(recording, stepping[0]))


def _plain(recording: Recording, event: Event, cone: Cone, value: int) -> bool:
    """Is the way to the loss linear and without a turn: a minus that somebody wrote is meant."""
    ops = way(cone, value)
    if not ops:
        return value in cone.losses
    return straight(recording, cone, ops) and not any(event.signs.get(op) == "-" for op in (recording.values[value].op, *ops))


def _weighed(recording: Recording, cone: Cone, value: int) -> bool:
    """Is it multiplied on its way: what an action costs may be a Python number."""
    return any(recording.ops[op].name in _PRODUCTS for op in way(cone, value))


def _masks(recording: Recording, value: int) -> set[int]:
    """The memory of the constants with which sums of a numerator weigh what learns."""
    found = set()
    for v in _linear(recording, value):
        made = recording.values[v].op
        if made >= 0 and recording.ops[made].name in _PRODUCTS:
            inputs = recording.ops[made].inputs
            if any(recording.values[u].requires_grad for u in inputs):
                found |= {recording.values[u].group for u in inputs if not recording.values[u].requires_grad}
    return found


def _summands(recording: Recording, value: int) -> set[int]:
    """The memory of the constants that are added up in a denominator."""
    return {recording.values[v].group for v in _linear(recording, value) if not recording.values[v].requires_grad}


def _linear(recording: Recording, value: int, most: int = 40) -> set[int]:
    """What a value is a linear combination of, the steps between included."""
    found, todo = {value}, [value]
    while todo and len(found) < most:
        made = recording.values[todo.pop()].op
        if made >= 0 and recording.ops[made].name in LINEAR:
            new = set(recording.ops[made].inputs) - found
            found |= new
            todo.extend(new)
    return found


def _probabilities(recording: Recording, value: int) -> str:
    """What makes a constant a distribution over classes, softmax or one_hot, past changes of dtype and a smoothing; else ""."""
    for _ in range(8):
        made = recording.values[value].op
        if made < 0 or recording.values[value].requires_grad:
            return ""
        op = recording.ops[made]
        if op.name in ("softmax", "one_hot"):
            return op.name
        if op.name not in (*_SMOOTHING, "to", "float", "type", "__getitem__", "clone", "contiguous") or not op.inputs:
            return ""
        value = op.inputs[0]
    return ""
