"""Gathers what one training step's losses depend on, as nodes and edges: operations, parameters, inputs, losses."""

from __future__ import annotations

from dataclasses import dataclass, field

from ...flow.graph import Edge as FlowEdge
from ...recorder.recording import Op, Recording
from ..model import Edge, Node
from .names import Names
from .origins import Origins
from .rounds import Round
from .shared import place_shared

_SAME = ("requires_grad_",)  # gives the tensor that it was given


@dataclass(slots=True)
class Gathered:
    """The nodes and edges of a round, and which recorded thing each node stands for."""

    round: Round
    origins: Origins
    nodes: list[Node] = field(default_factory=list)
    edges: dict[tuple[int, int], Edge] = field(default_factory=dict)
    carries: dict[tuple[int, int], bool] = field(default_factory=dict)
    of_op: dict[int, int] = field(default_factory=dict)  # op -> node
    of_value: dict[int, int] = field(default_factory=dict)  # value that no op made -> node
    of_parameter: dict[int, int] = field(default_factory=dict)  # parameter -> node
    of_buffer: dict[str, int] = field(default_factory=dict)  # path of a buffer -> node
    flow: list[tuple[FlowEdge, int, int]] = field(default_factory=list)  # the recorded edges behind the drawn ones
    losses: list[tuple[int, int, tuple[int, ...]]] = field(default_factory=list)  # node, event (-1), values
    notes: list[str] = field(default_factory=list)
    earlier: int = 0  # values that come from a step before


def gather(recording: Recording, names: Names, origins: Origins, r: Round) -> Gathered:
    """Walk back from the losses of a round over data, as far as the step reaches."""
    found = Gathered(r, origins)
    ends = [(i, recording.events[i].losses) for i in r.events] or ([(-1, r.ends)] if r.ends else [])
    todo = [v for _, values in ends for v in values]
    seen: set[int] = set()
    failed = recording.raised.op if recording.raised is not None else -1
    if not r.events and failed >= r.start and failed < r.end:
        _operation(recording, names, found, failed)
    while todo:
        value = todo.pop()
        if value in seen:
            continue
        seen.add(value)
        target = _node(recording, names, found, value)
        if _before(recording, r, value):
            continue
        for edge in _of_this_step(recording, origins, r, value):
            source = _node(recording, names, found, edge.source)
            _connect(recording, names, found, edge, source, target)
            todo.append(edge.source)
    if not r.events and failed in found.of_op:
        for value in recording.ops[failed].inputs:
            _link(found, _node(recording, names, found, value), found.of_op[failed], False)
    for event, values in ends:
        _loss(recording, found, event, values)
    place_shared(recording.shared, [found.nodes[n] for n in found.of_op.values()])
    _orders(found)
    _count_rest(recording, found)
    return found


def _of_this_step(recording: Recording, origins: Origins, r: Round, value: int) -> list[FlowEdge]:
    """What fed a value. Where a number that came out of torch in this step may be it, one of an earlier step is not."""
    if origins.parameter(value) >= 0 or origins.buffer(value):
        return []
    edges = origins.flow.parents(value)
    new = [e for e in edges if e.op >= r.start or recording.ops[e.op].kind != "escape"]
    return new if any(recording.ops[e.op].kind == "escape" for e in new) else edges


def _before(recording: Recording, r: Round, value: int) -> bool:
    """Was the value computed in an earlier step: its history belongs there."""
    made = recording.values[value].op
    return 0 <= made < r.start and recording.values[value].parameter < 0


def _node(recording: Recording, names: Names, found: Gathered, value: int) -> int:
    number = found.origins.parameter(value)
    if number >= 0:
        known = found.of_parameter.get(number)
        return known if known is not None else _parameter(recording, found, number, value)
    if found.origins.buffer(value):
        return _buffer(recording, found, value)
    if _before(recording, found.round, value):
        return _input(recording, names, found, value, earlier=True)
    made = recording.values[value].op
    if made >= 0:
        known = found.of_op.get(made)
        return known if known is not None else _operation(recording, names, found, made)
    return _input(recording, names, found, value)


def _parameter(recording: Recording, found: Gathered, number: int, value: int) -> int:
    p = recording.parameters[number]
    path, _, last = p.name.rpartition(".")
    module = recording.paths[path][0] if path in recording.paths else (recording.paths[p.root][0] if p.root in recording.paths else path)
    if not p.registered and not p.root:
        module = ""
    node = Node("parameter", last or p.name, p.name, module, tuple(p.shape), p.dtype, p.trainable, p.trainable)
    if value >= 0:
        node.requires_grad = recording.values[value].requires_grad
    found.of_parameter[number] = len(found.nodes)
    found.nodes.append(node)
    return len(found.nodes) - 1


def _operation(recording: Recording, names: Names, found: Gathered, index: int) -> int:
    op = recording.ops[index]
    node = Node("operation", names.operation(op), op=index, order=float(index))
    node.module = recording.paths[op.module][0] if op.module in recording.paths else op.module or ""
    node.function = op.function or ""
    node.name = names.variable(index)
    node.frames = tuple(recording.sites[s] for s in op.stack)
    node.location = node.frames[0] if node.frames else None
    if op.region >= 0:
        node.region = _region(recording, op)
    if op.outputs:
        v = recording.values[op.outputs[-1] if op.kind == "inplace" else op.outputs[0]]
        node.shape, node.dtype = v.shape, v.dtype
        node.requires_grad = any(recording.values[o].requires_grad for o in op.outputs)
    elif op.kind == "escape":
        node.dtype = "Python"
    if op.kind == "factory" and not op.inputs and not op.numbers and not node.requires_grad:
        node.kind, node.label = "input", node.name or node.label
    found.of_op[index] = len(found.nodes)
    found.nodes.append(node)
    return len(found.nodes) - 1


def _region(recording: Recording, op: Op) -> str:
    region = recording.regions[op.region]
    if region.library or region.site < 0:
        return region.kind
    return f"{region.kind}, line {recording.sites[region.site].line}"


def _input(recording: Recording, names: Names, found: Gathered, value: int, earlier: bool = False) -> int:
    known = found.of_value.get(value)
    if known is not None:
        return known
    v = recording.values[value]
    label, module, order = names.argument(value), "", -1.0
    met = recording.met.get(value)
    if met is not None and met[0] < len(recording.ops):
        op = recording.ops[met[0]]
        order = met[0] - 0.5
    node = Node("input", label or "input", label, module, v.shape, v.dtype, v.requires_grad, order=order)
    if earlier:
        op = recording.ops[v.op]
        node.label = names.variable(v.op) or names.operation(op)
        node.name = node.label
        node.frames = tuple(recording.sites[s] for s in op.stack)
        node.location = node.frames[0] if node.frames else None
        node.region = "earlier step"
        node.order = float(v.op)
        found.earlier += 1
    found.of_value[value] = len(found.nodes)
    found.nodes.append(node)
    return len(found.nodes) - 1


def _buffer(recording: Recording, found: Gathered, value: int) -> int:
    """A buffer of a module: one node, however often it was written."""
    path = found.origins.buffer(value)
    known = found.of_buffer.get(path)
    if known is None:
        v = recording.values[value]
        module, _, last = path.rpartition(".")
        known = found.of_buffer[path] = len(found.nodes)
        found.nodes.append(Node("input", last, path, module, v.shape, v.dtype, order=-1.0))
    return known


def _connect(recording: Recording, names: Names, found: Gathered, edge: FlowEdge, source: int, target: int) -> None:
    """One recorded edge; where a number left torch on the way, over the call that took it out."""
    through = edge.op
    made = recording.values[edge.target].op
    if through >= 0 and through != made and recording.ops[through].kind == "escape":
        middle = found.of_op.get(through)
        if middle is None:
            middle = _operation(recording, names, found, through)
        _link(found, source, middle, False)
        _link(found, middle, target, False)
        found.flow.append((edge, source, middle))
        return
    if source != target:
        _link(found, source, target, edge.carries)
        found.flow.append((edge, source, target))


def _link(found: Gathered, source: int, target: int, carries: bool) -> None:
    key = (source, target)
    if source == target:
        return
    found.edges.setdefault(key, Edge(source, target))
    found.carries[key] = found.carries.get(key, False) or carries


def _loss(recording: Recording, found: Gathered, index: int, values: tuple[int, ...]) -> None:
    """The end: the loss that backward was called on, or the result of a run without one."""
    event = recording.events[index] if index >= 0 else None
    for value in values:
        source = found.of_op.get(recording.values[value].op, found.of_value.get(value, -1))
        if source < 0:
            source = found.of_parameter.get(recording.values[value].parameter, -1)
        if source < 0:
            continue
        v = recording.values[value]
        node = Node("loss", "loss" if event is not None else "output", "", "", v.shape, v.dtype, v.requires_grad)
        if event is not None and event.stack:
            node.location = recording.sites[event.stack[0]]
            node.frames = (recording.sites[event.stack[-1]],)  # the end of the picture is no part of a function
            node.value = next((loss.value for loss in recording.losses if loss.index == index), None)
            node.order = event.time + 0.25
        else:
            node.order = len(recording.ops) + 0.25
        found.nodes.append(node)
        found.losses.append((len(found.nodes) - 1, index, values))
        _link(found, source, len(found.nodes) - 1, v.requires_grad)


def _orders(found: Gathered) -> None:
    """A parameter and an input stand just before what first uses them."""
    first: dict[int, float] = {}
    for source, target in found.edges:
        first[source] = min(first.get(source, float("inf")), found.nodes[target].order)
    for number, node in enumerate(found.nodes):
        if node.kind == "parameter" or node.kind == "input" and node.region != "earlier step" and number in first:
            own = first.get(number, node.order) - 0.5
            node.order = max(own, node.order) if node.kind == "input" and node.order >= 0 else own


def _count_rest(recording: Recording, found: Gathered) -> None:
    """What ran in this step and is not drawn, because no loss depends on it."""
    r = found.round
    ops = range(r.start, min(r.end, len(recording.ops)))
    outside = [i for i in ops if i not in found.of_op and recording.ops[i].parent < 0 and recording.ops[i].name not in _SAME]
    making = sum(1 for i in outside if i in found.origins.making)
    if making:
        found.notes.append(f"+ {making} {'operation' if making == 1 else 'operations'} that made parameters and buffers")
    rest = len(outside) - making
    if rest and r.events:
        found.notes.append(f"+ {rest} {'operation' if rest == 1 else 'operations'} that no loss of this step depends on")
    inner = sum(1 for i in range(r.start, min(r.end, len(recording.ops))) if recording.ops[i].parent >= 0)
    if inner:
        found.notes.append(f"+ {inner} {'operation' if inner == 1 else 'operations'} inside custom autograd Functions, each drawn as one")
    if found.earlier:
        noun = "tensor comes" if found.earlier == 1 else "tensors come"
        found.notes.append(f"{found.earlier} {noun} from an earlier step, whose operations are not drawn here")
