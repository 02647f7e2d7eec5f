"""Which line is to blame for a gradient that grows or falls: the operation, the factor it multiplies with, or how its weights began."""

from __future__ import annotations

import ast
from collections import Counter
from dataclasses import dataclass, field

from ..recorder.recording import Location, Op, Recording
from .cuts import graph_of
from .places import locate, sources
from .profile import Group, Step

GATES = ("sigmoid", "tanh", "softmax", "hardsigmoid", "relu", "softplus", "exp", "hardtanh")
_LINEAR = ("Addmm", "Mm", "Bmm", "Convolution", "Mv", "Addmv", "Baddbmm")
_MODULES = {
    "Sigmoid": "Sigmoid",
    "Tanh": "Tanh",
    "Relu": "ReLU",
    "LogSigmoid": "LogSigmoid",
    "Softmax": "Softmax",
    "Hardtanh": "Hardtanh",
    "Hardsigmoid": "Hardsigmoid",
    "Softplus": "Softplus",
}


@dataclass(slots=True)
class Blame:
    """``kind`` is "operation", "factor" (made once, used again and again), "gate" or "weights" (how they were initialised)."""

    location: Location
    kind: str
    operation: str
    related: list[tuple[Location, str]] = field(default_factory=list)
    parameters: tuple[int, ...] = ()
    factor: str = ""
    learned: bool = False  # the factor is a parameter, which training can change


def blame(recording: Recording, group: Group) -> Blame:
    """The line to name for the steps of one group."""
    here = recording.sites[group.site]
    op = recording.ops[group.steps[0].op]
    if group.kind in ("Mul", "Div") or group.kind in _LINEAR:
        found = _by_weights(recording, group) if group.kind in _LINEAR else None
        found = found or _by_factor(recording, group)
        if found is not None:
            if found.location != here:
                found.related.append((here, f"the gradient passes here {_times(len(group.steps))}"))
            return found
    built = _constructor(recording, here, group.kind)
    blamed = Blame(built or here, "operation", op.name)
    if built is not None:
        blamed.related.append((here, f"it runs here {_times(len(group.steps))}"))
    return blamed


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


# -- factors ---------------------------------------------------------------------------------------------------------------


def _by_factor(recording: Recording, group: Group) -> Blame | None:
    factors = [_factor(recording, step) for step in group.steps]
    known = [v for v in factors if v >= 0]
    if not known or len(known) < len(factors) / 2:
        return None
    made = Counter(_maker(recording, v) for v in known)
    source, often = made.most_common(1)[0]
    value = recording.values[source]
    text = graph_of(recording)
    if value.parameter >= 0:
        where = _began(recording, value.parameter) or recording.location(recording.ops[value.op].stack if value.op >= 0 else ())
        if where is None:
            return None
        return Blame(where, "factor", "mul", parameters=(value.parameter,), factor=recording.parameters[value.parameter].name, learned=True)
    maker = recording.ops[value.op] if value.op >= 0 else None
    if maker is None or not maker.stack or not value.requires_grad:
        return None
    if often >= max(4, 0.7 * len(known)):
        return Blame(recording.sites[maker.stack[0]], "factor", maker.name, factor=text.text(value.op))
    if maker.name in GATES:
        biases = [n for n in _feeding(recording, value.op) if sum(size > 1 for size in recording.parameters[n].shape) <= 1]
        for number in biases:
            where = _began(recording, number)
            if where is not None:
                return Blame(where, "gate", maker.name, parameters=(number,), factor=text.text(value.op))
    return None


def _factor(recording: Recording, step: Step) -> int:
    """The other operand of a product, -1 where the operation is not one product of two tensors."""
    op = recording.ops[step.op]
    if len(op.inputs) != 2 or op.kind not in ("op", "inplace") or step.position > 1:
        return -1
    if op.name not in ("mul", "__mul__", "__rmul__", "mul_", "__imul__", "multiply", "matmul", "__matmul__", "mm", "bmm", "mv", "div"):
        return -1
    return op.inputs[1 - step.position]


def _maker(recording: Recording, value: int) -> int:
    """The value behind views, casts and the like."""
    for _ in range(32):
        made = recording.values[value].op
        if made < 0 or not recording.ops[made].inputs:
            return value
        source = recording.ops[made].inputs[0]
        shares = recording.values[source].group == recording.values[value].group
        if not shares and recording.ops[made].name not in ("__getitem__", "repeat", "contiguous", "to", "float", "expand", "clone"):
            return value
        value = source
    return value


def _feeding(recording: Recording, gate: int) -> list[int]:
    """The parameters of the linear map right in front of a gate."""
    found: list[int] = []
    todo, seen = [gate], {gate}
    while todo and len(seen) < 40:
        op = recording.ops[todo.pop()]
        for position, value in enumerate(op.inputs):
            number = recording.values[value].parameter
            if number >= 0:
                found.append(number)
                continue
            made = recording.values[value].op
            data = position == 0 and op.name in ("linear", "conv1d", "conv2d", "matmul", "__matmul__", "mm", "addmm")
            if made >= 0 and made not in seen and not data and _passes(recording.ops[made]):
                seen.add(made)
                todo.append(made)
    return list(dict.fromkeys(found))


def _passes(op: Op) -> bool:
    return (
        op.name
        in (
            "add __add__ __radd__ sub linear addmm matmul __matmul__ mm chunk split unbind __getitem__ view reshape squeeze unsqueeze "
            "select layer_norm cat narrow conv1d conv2d transpose permute baddbmm __iadd__"
        ).split()
    )


# -- weights ---------------------------------------------------------------------------------------------------------------


def _by_weights(recording: Recording, group: Group) -> Blame | None:
    """The user's own line that filled the weights these operations multiply with."""
    numbers: list[int] = []
    for step in group.steps:
        op = recording.ops[step.op]
        numbers.extend(recording.values[v].parameter for v in op.inputs if recording.values[v].parameter >= 0)
        numbers.extend(_behind_views(recording, op))
    weights = [n for n in dict.fromkeys(numbers) if len(recording.parameters[n].shape) > 1]
    began = [place for place in (_began(recording, n) for n in weights) if place is not None]
    if not began or len(began) < len(weights) / 2:
        return None
    where, _ = Counter(began).most_common(1)[0]
    return Blame(where, "weights", recording.ops[group.steps[0].op].name, parameters=tuple(weights))


def _behind_views(recording: Recording, op: Op) -> list[int]:
    found = []
    for value in op.inputs:
        made = recording.values[value].op
        if (
            made >= 0
            and recording.ops[made].inputs
            and recording.values[recording.ops[made].inputs[0]].group == recording.values[value].group
        ):
            found.append(recording.values[recording.ops[made].inputs[0]].parameter)
    return [n for n in found if n >= 0]


def _began(recording: Recording, number: int) -> Location | None:
    """Where the user's code filled a parameter, after the library had; or made it out of numbers of its own."""
    graph = graph_of(recording)
    places = [recording.sites[stack[0]] for n, stack in recording.inits if n == number and stack]
    explicit = [place for place in places if _fills(graph.slicer.at(place))]
    if explicit:
        return explicit[-1]
    value = recording.parameters[number].value
    group = recording.values[value].group if value >= 0 else -1
    written = [
        op.stack
        for op in recording.ops
        if op.kind == "inplace"
        and op.stack
        and op.inputs
        and (recording.values[op.inputs[0]].parameter == number or _same(recording, op, group))
    ]
    if written:
        return recording.sites[written[-1][0]]
    made = recording.values[value].op if value >= 0 else -1
    if made >= 0 and recording.ops[made].stack:
        place = recording.sites[recording.ops[made].stack[0]]
        found = graph.slicer.at(place)
        if found is not None and not recording.parameters[number].library:
            return place
    return None


def _same(recording: Recording, op: Op, group: int) -> bool:
    return group >= 0 and recording.values[op.inputs[0]].group == group


def _fills(found: object) -> bool:
    """Is the expression a call of ``normal_``, ``nn.init.constant_`` and their like, rather than the making of a module."""
    node = found[2] if isinstance(found, tuple) else None
    if not isinstance(node, ast.Call):
        return False
    name = node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id if isinstance(node.func, ast.Name) else ""
    return name.endswith("_") and not name.startswith("__")


# -- modules ---------------------------------------------------------------------------------------------------------------


def _constructor(recording: Recording, here: Location, kind: str) -> Location | None:
    """Where the one module of this kind is built, if the line that runs it does not say what it is."""
    name = _MODULES.get(kind)
    if name is None or name.lower() in here.code.lower():
        return None
    places = [
        locate(recording, source, node)
        for source in sources(recording)
        for node in ast.walk(source.tree)  # type: ignore[arg-type]
        if isinstance(node, ast.Attribute) and node.attr == name or isinstance(node, ast.Name) and node.id == name
    ]
    return places[0] if len({(p.filename, p.line) for p in places}) == 1 else None
