"""Flat vectors of parameters and gradients that belong to different sets of parameters."""

from __future__ import annotations

import ast
import math
from dataclasses import dataclass

from ...recorder.recording import Location, Op, Recording
from ...recorder.source import Scope, Source
from ..cuts import graph_of
from ..lead import Lead
from ..places import locate
from .history import RANK, relate
from .unreached import unreached_inputs

_SIZES = (
    "must match the size of tensor",
    "inconsistent tensor size",
    "is invalid for input of size",
    "must match the existing size",
    "assign a gradient of size",
)
_THROUGH = set(
    "view reshape flatten ravel contiguous detach data clone T t transpose squeeze unsqueeze __getitem__ narrow float double to neg "
    "__neg__ requires_grad_ div mul __mul__ __rmul__ __truediv__ mul_ div_ __imul__ __itruediv__ split chunk".split()
)


@dataclass(slots=True)
class Flat:
    """A vector that holds parameters, or gradients of parameters, one behind the other."""

    value: int
    numbers: frozenset[int]
    op: int  # the cat that made it
    gradients: bool


def vectors(recording: Recording) -> list[Lead]:
    """The lead for an error about sizes in which flat vectors of parameters take part."""
    error = recording.raised
    if error is None or error.op < 0 or not any(text in error.message for text in _SIZES):
        return []
    op = recording.ops[error.op]
    found = {f.op: f for v in op.inputs for f in _flats(recording, v)}
    flats = list(found.values())
    if len(flats) < 2:
        return _single(recording, op, flats)
    first, second = flats[0], next((f for f in flats[1:] if f.numbers != flats[0].numbers), flats[1])
    if first.numbers == second.numbers:
        return []
    wrong, right = _odd(recording, first, second)
    return [_lead(recording, wrong, right)]


def _odd(recording: Recording, a: Flat, b: Flat) -> tuple[Flat, Flat]:
    """Which of two vectors has the wrong set: the one with parameters that the loss never reaches, else the smaller one."""
    if a.gradients == b.gradients:
        fed = 0
    else:
        gradients = a if a.gradients else b
        fed = _fed(recording, gradients.op)
    for mine, other in ((a, b), (b, a)):
        extra = mine.numbers - other.numbers
        if extra and not (other.numbers - mine.numbers):
            needless = not any(fed >> n & 1 for n in extra)
            return (mine, other) if needless else (other, mine)
    return (a, b) if not a.gradients else (b, a)


def _fed(recording: Recording, op: int) -> int:
    """Bit set of the parameters that the losses behind a vector of gradients reach."""
    events = [e for e in recording.events if e.kind in ("grad", "backward") and e.ok and e.losses and e.time <= op]
    graph = graph_of(recording)
    found = 0
    for event in events[-4:]:
        found |= graph.cone(event.losses).fed()
    return found


def _flats(recording: Recording, value: int) -> list[Flat]:
    """The flat vectors that a value is made of by arithmetic."""
    found: list[Flat] = []
    todo, seen = [value], set[int]()
    while todo and len(seen) < 200:
        v = todo.pop()
        if v in seen:
            continue
        seen.add(v)
        made = recording.values[v].op
        if made < 0:
            continue
        op = recording.ops[made]
        if op.name in ("cat", "concat", "concatenate", "hstack"):
            flat = _flat(recording, v, made, op)
            if flat is not None:
                found.append(flat)
            continue
        size = recording.values[v].shape
        for source in op.inputs:
            shape = recording.values[source].shape
            if shape is not None and len(shape) == 1 and (shape == size or op.name in _THROUGH or len(size or ()) != 1):
                todo.append(source)
    return found


def _flat(recording: Recording, value: int, made: int, op: Op) -> Flat | None:
    numbers: set[int] = set()
    gradients = False
    if all(_read_off(recording, v) for v in op.inputs):
        numbers, gradients = _by_size(recording, op), True
    for source in op.inputs if not numbers else ():
        number, gradient = _origin(recording, source)
        if number < 0:
            return None
        numbers.add(number)
        gradients = gradients or gradient
    return Flat(value, frozenset(numbers), made, gradients) if len(numbers) > 1 else None


def _origin(recording: Recording, value: int) -> tuple[int, bool]:
    """The parameter that a piece of a vector is, or is the gradient of; -1 for anything else."""
    values = recording.values
    for _ in range(32):
        if values[value].parameter >= 0:
            return values[value].parameter, False
        made = values[value].op
        if made < 0:
            return -1, False
        op = recording.ops[made]
        if op.kind == "grad" and value in op.outputs:
            return _asked_for(recording, op, value), True
        if op.name not in _THROUGH or not op.inputs:
            return -1, False
        value = op.inputs[0]
    return -1, False


def _read_off(recording: Recording, value: int) -> bool:
    """Is a piece of a vector a ``.grad`` that was read."""
    for _ in range(32):
        made = recording.values[value].op
        op = recording.ops[made] if made >= 0 else None
        if op is None or op.name == "grad" and op.kind == "op":
            return op is not None
        if op.name not in _THROUGH or not op.inputs:
            return False
        value = op.inputs[0]
    return False


def _by_size(recording: Recording, op: Op) -> set[int]:
    """The parameters that pieces of a vector fit to, in the order of the modules; empty where they do not."""
    found: list[int] = []
    pieces = [math.prod(recording.values[v].shape or (1,)) for v in op.inputs]
    for number, parameter in enumerate(recording.parameters):
        if len(found) < len(pieces) and parameter.listed and math.prod(parameter.shape) == pieces[len(found)]:
            found.append(number)
    return set(found) if len(found) == len(pieces) else set()


def _asked_for(recording: Recording, op: Op, value: int) -> int:
    """Which input of autograd.grad a gradient belongs to: by its place, and by its shape where some inputs had none."""
    event = next((e for e in recording.events if e.kind == "grad" and e.stack == op.stack and e.losses + e.inputs == op.inputs), None)
    if event is None:
        return -1
    inputs, at = list(event.inputs), op.outputs.index(value)
    if len(inputs) != len(op.outputs):
        missing = unreached_inputs(recording, event)
        inputs = [v for v in inputs if v not in missing]
    if at >= len(inputs):
        return -1
    number = recording.values[inputs[at]].parameter
    return number if number >= 0 else 10_000_000 + inputs[at]  # a tensor that is no parameter still is an item of its own


# -- one vector and the parameters it is written into ----------------------------------------------------------------------------


def _single(recording: Recording, op: Op, flats: list[Flat]) -> list[Lead]:
    """``flat[i:j].view_as(p)`` runs past the end: the vector was made from other parameters than those it is written into."""
    if not flats or recording.raised is None:
        return []
    flat = flats[0]
    target = next((recording.values[v].parameter for v in op.inputs if recording.values[v].parameter >= 0), -1)
    if target >= 0 and target in flat.numbers:
        return []
    lead = _bare(recording, flat)
    lead.details["into"] = recording.parameters[target].name if target >= 0 else ""
    return [lead]


# -- the lead ----------------------------------------------------------------------------------------------------------------------


def _lead(recording: Recording, wrong: Flat, right: Flat) -> Lead:
    lead = _bare(recording, wrong)
    extra = [n for n in sorted(wrong.numbers - right.numbers) if n < len(recording.parameters)]
    missing = [n for n in sorted(right.numbers - wrong.numbers) if n < len(recording.parameters)]
    lead.details["extra"] = [recording.parameters[n].name for n in extra]
    lead.details["missing"] = [recording.parameters[n].name for n in missing]
    lead.details["other"] = (recording.values[right.value].shape or (0,))[0]
    if wrong.gradients != right.gradients and not missing and _skipped(recording, right if right.gradients else wrong):
        # the parameters without a gradient were left out where the gradients were glued together
        lead.location = recording.location(recording.ops[(right if right.gradients else wrong).op].stack)
        lead.expression = graph_of(recording).slicer.text(lead.location) if lead.location else ""
        lead.details.update(gradients=True, skipped=True, size=lead.details["other"], other=lead.details["size"])
        lead.details.update(missing=lead.details["extra"], extra=[])
    relate(lead, chosen(recording, right.op), "the other vector is made here")
    if recording.raised is not None:
        relate(lead, recording.location(recording.raised.stack), "the error is raised here")
    return lead


def _skipped(recording: Recording, flat: Flat) -> bool:
    """Did autograd.grad give None for some inputs, and the vector holds the rest."""
    calls = {o.stack for o in recording.ops[: flat.op] if o.kind == "grad"}
    asked = [e for e in recording.events if e.kind == "grad" and e.ok and e.stack in calls and e.time <= flat.op]
    return bool(asked) and bool(unreached_inputs(recording, asked[-1]))


def _bare(recording: Recording, flat: Flat) -> Lead:
    lead = Lead("shape-mismatch", chosen(recording, flat.op), rank=RANK)
    lead.expression = graph_of(recording).slicer.text(lead.location) if lead.location else ""
    lead.details = {"kind": "vectors", "size": (recording.values[flat.value].shape or (0,))[0], "gradients": flat.gradients, "raised": True}
    if recording.raised is not None:
        relate(lead, recording.location(recording.raised.stack), "the error is raised here")
    return lead


def chosen(recording: Recording, op: int) -> Location | None:
    """Where the list of parameters was chosen: outside of the helper that flattens what it is given."""
    slicer = graph_of(recording).slicer
    stack = recording.ops[op].stack
    place = recording.location(stack)
    for site in stack:
        place = recording.sites[site]
        found = slicer.at(place)
        if found is None:
            return place
        source, scope, node = found
        listed = _lists(source, scope, node)
        if listed is not None:
            return locate(recording, source, listed)
        arguments = [p for p in source.bindings(scope).parameters if p not in ("self", "cls")]
        if not _read(source, scope, node) & set(arguments):
            return place
        if site != stack[0] and _hands_over(node, arguments):
            return place
    return place


def _hands_over(node: ast.expr, arguments: list[str]) -> bool:
    """Is a helper called with something that is kept for longer: ``flat_grad(loss, self.policy_params)``."""
    given = [*node.args, *(k.value for k in node.keywords)] if isinstance(node, ast.Call) else []
    kept = [a for a in given if isinstance(a, ast.Attribute)]
    return any(not any(isinstance(n, ast.Name) and n.id in arguments for n in ast.walk(a)) for a in kept)


def _read(source: Source, scope: Scope, node: ast.expr) -> set[str]:
    """The names that an expression reads, through local names."""
    read = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
    names = source.bindings(scope).names
    while True:
        more = {n.id for name in read for e in names.get(name, ()) for n in ast.walk(e) if isinstance(n, ast.Name)}
        if more <= read:
            return read
        read |= more


def _lists(source: Source, scope: Scope, node: ast.expr) -> ast.expr | None:
    """The expression that asks a module for its parameters, in this function."""
    names = source.bindings(scope).names
    for expression in [node, *(e for name in sorted(_read(source, scope, node)) for e in names.get(name, ()))]:
        if any(isinstance(n, ast.Attribute) and n.attr in ("parameters", "named_parameters") for n in ast.walk(expression)):
            return expression
    return None
