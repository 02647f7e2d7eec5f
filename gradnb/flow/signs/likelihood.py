"""Likelihoods and divergences with a wrong sign."""

from __future__ import annotations

from ...recorder.recording import Event, Recording
from ..graph import Cone
from ..lead import Lead
from .entry import entry, is_policy, make, of_kind, text
from .terms import ERRORS, Term, joins, scored, straight, terms, way


def likelihood(recording: Recording, event: Event, cone: Cone) -> Lead | None:
    """The log-probability of data, with no weight a sample, is minimised."""
    for term in of_kind(recording, cone, "log_prob"):
        if event.signs.get(term.op) != "+" or scored(recording, cone, term.value) or not straight(recording, cone, way(cone, term.value)):
            continue
        others = [t for t in terms(recording, cone) if t is not term]
        if others or _of_a_sample(recording, term):
            continue
        return make(recording, "likelihood", joins(recording, way(cone, term.value), term.value), text(recording, term.op), 55)
    return None


def _of_a_sample(recording: Recording, term: Term) -> bool:
    """Is it the probability of something that a distribution drew, or that learns itself."""
    stack = recording.ops[term.op].stack
    for index in range(term.op, -1, -1):
        op = recording.ops[index]
        if op.stack != stack:
            break
        for value in op.inputs:
            made = recording.values[value].op
            source = recording.ops[made] if made >= 0 else None
            if source is not None and source.stack != stack and (source.via == "torch.distributions" and not source.grad_enabled):
                return True
            if source is not None and source.stack != stack and source.via == "torch.distributions" and source.name in ("add", "normal"):
                return True
    return False


def divergence(recording: Recording, event: Event, cone: Cone) -> Lead | None:
    """A KL divergence enters with a minus while an error measure or a likelihood is fitted beside it."""
    for term in of_kind(recording, cone, "kl_divergence"):
        if event.signs.get(term.op) == "-" and not is_policy(recording, cone):
            ops = way(cone, term.value)
            if ops and straight(recording, cone, ops) and _fitted(recording, event, cone):
                return make(recording, "kl", entry(recording, event, ops, term.value), text(recording, term.op), 55)
    return None


def _fitted(recording: Recording, event: Event, cone: Cone) -> bool:
    return any(t.kind in ERRORS and event.signs.get(t.op) == "+" or t.kind == "log_prob" for t in terms(recording, cone))


def gaussian_divergence(recording: Recording, event: Event, cone: Cone) -> Lead | None:
    """The closed form of KL(N(mu, s) ‖ N(0, 1)) with the wrong sign: mu² and exp(log s²) in one sum, both pushed up without bound."""
    for value in cone.order:
        made = recording.values[value].op
        if made < 0 or recording.ops[made].name != "exp" or event.signs.get(made) != "-":
            continue
        ops = way(cone, value)
        if not straight(recording, cone, ops):
            continue
        joined = joins(recording, ops, value)
        squares = [v for v in recording.ops[joined].inputs if v != value] if joined >= 0 else []
        near = {u for v in squares for u in (v, *_sources(cone, v))}
        squared = [
            recording.values[u].op
            for u in near
            if recording.values[u].op >= 0 and recording.ops[recording.values[u].op].name in ("pow", "square")
        ]
        if any(event.signs.get(op) == "-" for op in squared):
            return make(recording, "kl", _taken(recording, event, ops, value), text(recording, joined), 55)
    return None


def _taken(recording: Recording, event: Event, ops: list[int], value: int) -> int:
    """Where a closed form meets the other terms, if a minus stands there or behind it; else the turn inside of it."""
    reduced = next((n for n, i in enumerate(ops) if recording.ops[i].name in ("sum", "mean")), None)
    if reduced is not None and ops[reduced + 1 :]:
        rest = ops[reduced + 1 :]
        meets = joins(recording, rest, recording.ops[ops[reduced]].outputs[0])
        mine = [v for v in recording.ops[meets].inputs if recording.values[v].op in (ops[reduced], *rest)]
        if len(recording.ops[meets].inputs) > 1 and any(event.signs.get(recording.values[v].op) == "-" for v in mine):
            return meets
    return entry(recording, event, ops, value)


def _sources(cone: Cone, value: int) -> list[int]:
    return [e.source for e in cone.edges.get(value, ()) if e.carries]
