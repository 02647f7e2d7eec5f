"""The part of a Recording that is about numbers: births of values that are not finite, and gradient profiles."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from .frames import Places
from .numeric import Profile, Stage, options
from .recording import Recording
from .spans import Spans

if TYPE_CHECKING:
    from .recorder import Recorder

STAGES = 60_000  # of all profiles together


def numeric(recorder: "Recorder", recording: Recording, places: Places, nodes: Spans) -> None:
    """Fill in ``nonfinite``, ``escaped``, ``profiles`` and ``inits``."""
    watch = recorder.nonfinite
    for births, into in ((watch.births, recording.nonfinite), (watch.escaped, recording.escaped)):
        for birth in births:
            stack = recording.ops[birth.op].stack if 0 <= birth.op < len(recording.ops) else ()
            if birth.phase == "late":
                stack = places.stack(watch.late_sites)
            into.append(dataclasses.replace(birth, stack=stack))
    for scan in recorder.backward.scans:
        if sum(len(p.stages) for p in recording.profiles) + len(scan.nodes) > STAGES:
            break
        profile = Profile(scan.event)
        for number, seen in enumerate(scan.nodes):
            parameter = scan.parameters.get(number, -1)
            came = seen.came if seen.came is not None else -2.0
            profile.stages.append(
                Stage(seen.name, nodes.op(seen.sequence), tuple(seen.edges), came, tuple(seen.went), parameter, seen.sequence, seen.note)
            )
        recording.profiles.append(profile)
    recording.weights = {n: norm for n, norm in recorder.gradients.prints.items() if norm is not None}
    for index, raw in enumerate(recorder.training.optimizers):
        optimizer = raw.reference()
        if optimizer is not None and optimizer.param_groups:
            recording.options[index] = options(optimizer.param_groups[0])
    recording.inits = [(n, places.stack(sites)) for n, sites in recorder.inits() if n < len(recording.parameters)]
