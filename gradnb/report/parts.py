"""What part each parameter plays in a cell: which are listed at all, and which of them the headline is about."""

from __future__ import annotations

import re
from collections.abc import Iterable

from ..recorder.recording import Parameter, Recording

TRAINED = "trained"  # of a model that an optimizer of this cell holds, that got a gradient or on which a loss depends
APART = "apart"  # of a model that this cell leaves alone
WRITTEN = "written"  # changed without an optimizer and without a gradient: a moving average, a target network


def listed(recording: Recording) -> list[Parameter]:
    """The parameters that a report shows, in the order the modules define."""
    copied, read = _copied(recording), _read(recording)
    used = {p.name for p in recording.parameters if p.value >= 0}
    busy = {_holder(p) for number, p in enumerate(recording.parameters) if _trains(p) or number in read}
    return [
        p
        for number, p in enumerate(recording.parameters)
        if p.listed and not _gone(p, number in copied - read) and not _replaced(p, used) and not _only_kept(p, busy)
    ]


def parts(recording: Recording, blamed: Iterable[str]) -> dict[int, str]:
    """``id`` of each parameter -> its part; ``blamed`` are those that an error or a warning names."""
    named = set(blamed)
    models: dict[str, list[Parameter]] = {}
    for p in recording.parameters:
        models.setdefault(_holder(p), []).append(p)

    def idle(p: Parameter) -> bool:
        return p.optimizer is None and p.gradient == "none" and p.name not in named

    written = {name for name, held in models.items() if all(map(idle, held)) and any(p.moved for p in held)}
    concerned = {name for name, held in models.items() if any(p.reached or not idle(p) for p in held)} - written
    found: dict[int, str] = {}
    for name, held in models.items():
        for p in held:
            if not concerned:  # nothing was trained by the usual means: nothing to tell the rest apart from
                found[id(p)] = TRAINED
            elif name in written or idle(p) and p.moved:
                found[id(p)] = WRITTEN
            else:
                found[id(p)] = TRAINED if name in concerned else APART
    return found


def _trains(parameter: Parameter) -> bool:
    return parameter.optimizer is not None or parameter.gradient != "none" or parameter.reached


def _holder(parameter: Parameter) -> str:
    """The variable that holds it: its model's, or that of the list or object in which it was found."""
    return parameter.root or re.split(r"[.\[]", parameter.name, maxsplit=1)[0]


def _gone(parameter: Parameter, copied: bool) -> bool:
    """Of a module that was thrown away unused: built to count its parameters, copied from, or replaced before the training."""
    return parameter.anonymous and not parameter.alive and (copied or not parameter.reached) and parameter.optimizer is None


def _replaced(parameter: Parameter, used: set[str]) -> bool:
    """Of the model that an earlier run of this cell built: its name means another one now. A traceback, an output or the variable of a
    loop over its parameters may keep it alive."""
    if parameter.value >= 0 or parameter.optimizer is not None:
        return False
    loose = parameter.anonymous or not parameter.registered and not parameter.trainable
    return loose or not parameter.alive or not parameter.current or parameter.name in used


def _only_kept(parameter: Parameter, busy: set[str]) -> bool:
    """In a list or a dict (of param groups, say) nothing of which took part, while something else did: its model is there no more."""
    loose = parameter.is_parameter and not parameter.registered and "[" in parameter.name
    return loose and bool(busy) and _holder(parameter) not in busy


def _copied(recording: Recording) -> set[int]:
    return {n for op in recording.ops if op.name == "deepcopy" for v in op.inputs if (n := recording.values[v].parameter) >= 0}


def _read(recording: Recording) -> set[int]:
    """The parameters that an operation read, other than to copy them, as those of a layer that a stack of layers is cloned from."""
    reading = (op for op in recording.ops if op.name != "deepcopy" and op.kind not in ("inplace", "leaf"))
    return {n for op in reading for v in op.inputs if (n := recording.values[v].parameter) >= 0}
