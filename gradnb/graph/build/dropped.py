"""Edges that autograd has and that a backward pass sent nothing along: the backward of a Function returned None there."""

from __future__ import annotations

from collections.abc import Hashable

from ...recorder.numeric import Profile, Stage
from ...recorder.recording import Recording
from ...recorder.scan import ABSENT
from .gather import Gathered


def drop(recording: Recording, found: Gathered) -> None:
    """Take the gradient off those edges; where a pass was not looked into, what another pass of the same lines did holds for it."""
    exact: dict[tuple[int, int], bool] = {}
    alike: dict[Hashable, bool] = {}
    for profile in recording.profiles:
        if not recording.events[profile.event].ok:
            continue  # what had not run yet when it raised was not dropped
        for key, sent in _sent(recording, found, profile).items():
            exact[key] = exact.get(key, False) or sent
        for like, sent in _sent_alike(recording, profile).items():
            alike[like] = alike.get(like, False) or sent
    if all(exact.values()) and all(alike.values()):
        return
    who = {node: _like(recording, op, -1) for op, node in found.of_op.items()}
    who |= {node: _like(recording, -1, number) for number, node in found.of_parameter.items()}
    for key, carries in found.carries.items():
        if carries and not exact.get(key, alike.get((who.get(key[0]), who.get(key[1])), True)):
            found.carries[key] = False
            found.dropped.add(key)


def hit(recording: Recording, found: Gathered) -> set[int]:
    """The drawn operations that a backward pass came to; in a step that was not looked into, those of the same lines."""
    exact = [p for p in recording.profiles if p.event in found.round.events]
    stages = [stage for p in exact or recording.profiles for stage in p.stages if stage.op >= 0 and stage.came != ABSENT]
    if exact:
        return {found.of_op[stage.op] for stage in stages if stage.op in found.of_op}
    alike = {_like(recording, stage.op, -1) for stage in stages}
    return {node for op, node in found.of_op.items() if found.nodes[node].requires_grad and _like(recording, op, -1) in alike}


def _sent(recording: Recording, found: Gathered, profile: Profile) -> dict[tuple[int, int], bool]:
    """Drawn edge -> did this pass send a gradient along it."""
    sent: dict[tuple[int, int], bool] = {}
    if profile.event not in found.round.events:
        return sent
    for stage, behind, size in _ways(profile):
        target = found.of_op.get(stage.op, -1)
        source = found.of_parameter.get(behind.parameter, -1) if behind.parameter >= 0 else found.of_op.get(behind.op, -1)
        if target >= 0 and source >= 0 and source != target:
            sent[source, target] = sent.get((source, target), False) or size != ABSENT
    return sent


def _sent_alike(recording: Recording, profile: Profile) -> dict[Hashable, bool]:
    sent: dict[Hashable, bool] = {}
    for stage, behind, size in _ways(profile):
        key = (_like(recording, behind.op, behind.parameter), _like(recording, stage.op, -1))
        sent[key] = sent.get(key, False) or size != ABSENT
    return sent


def _ways(profile: Profile) -> list[tuple[Stage, Stage, float]]:
    """Each way from a node that got a gradient to the one behind it, and the size of what went there."""
    found = []
    for stage in profile.stages:
        if stage.came == ABSENT:
            continue  # nothing to send on: it was dropped before
        for k, (other, _) in enumerate(stage.edges):
            if other >= 0 and stage.op >= 0:
                behind = profile.stages[other]
                if behind.op >= 0 or behind.parameter >= 0:
                    found.append((stage, behind, stage.went[k] if k < len(stage.went) else ABSENT))
    return found


def _like(recording: Recording, op: int, parameter: int) -> Hashable:
    """The same for the calls that one line makes in one step after another."""
    return (recording.ops[op].name, recording.ops[op].stack) if op >= 0 else parameter
