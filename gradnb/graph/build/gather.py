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
    alive: set[int] = field(default_factory=set)  # values that a gradient of the losses comes back to, of whatever step
    dropped: set[tuple[int, int]] = field(default_factory=set)  # edges that autograd has, and that a backward sent nothing along
    earlier: int = 0  # values that come from a step before
    leaves: set[int] = field(default_factory=set)  # inputs that are leaves of autograd
    foreign: list[int] = field(default_factory=list)  # nodes whose history autograd has and the recording has not: see rest.foreign

    def of(self, recording: Recording, value: int) -> int:
        """The node of a value, -1 where it is not drawn."""
        v = recording.values[value]
        known = self.of_op.get(v.op, self.of_value.get(value, -1))
        return known if known >= 0 else self.of_parameter.get(v.parameter, -1)


def gather(recording: Recording, names: Names, origins: Origins, r: Round) -> Gathered:
    """Walk back from the losses of a round over data, as far as the step reaches."""
    found = Gathered(r, origins)
    ends = [(i, recording.events[i].losses) for i in r.events] or ([(-1, r.ends)] if r.ends else [])
    todo = [v for _, values in ends for v in values]
    found.alive = _alive(recording, origins, r, todo)
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
        if _before(recording, found, value):
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
    return found


def _of_this_step(recording: Recording, origins: Origins, r: Round, value: int) -> list[FlowEdge]:
    """What fed a value. Where a number that came out of torch in this step may be it, one of an earlier step is not."""
    if origins.parameter(value) >= 0 or origins.buffer(value):
        return []
    edges = _without_overwritten(recording, origins.flow.parents(value))
    new = [e for e in edges if e.op >= r.start or recording.ops[e.op].kind != "escape"]
    return new if any(recording.ops[e.op].kind == "escape" for e in new) else edges


def _without_overwritten(recording: Recording, edges: list[FlowEdge]) -> list[FlowEdge]:
    """A tensor that was written through another view of its memory has that write as its history: autograd rebased it."""
    groups = {recording.values[e.source].group: e.source for e in edges if e.carries and e.source not in recording.ops[e.op].inputs}
    if not groups:
        return edges
    values = recording.values
    return [e for e in edges if not e.carries or groups.get(values[e.source].group, e.source) == e.source]


def _alive(recording: Recording, origins: Origins, r: Round, losses: list[int]) -> set[int]:
    """The values that the gradient comes back to. A generator that ran before the other network's step is part of its own one."""
    found: set[int] = set()
    todo = [v for v in losses if recording.values[v].requires_grad]
    while todo:
        value = todo.pop()
        if value not in found:
            found.add(value)
            todo.extend(e.source for e in _of_this_step(recording, origins, r, value) if e.carries)
    return found


def _before(recording: Recording, found: Gathered, value: int) -> bool:
    """Was the value computed in an earlier step, and no gradient goes back there."""
    made = recording.values[value].op
    return 0 <= made < found.round.start and recording.values[value].parameter < 0 and value not in found.alive


def _node(recording: Recording, names: Names, found: Gathered, value: int) -> int:
    number = found.origins.parameter(value)
    if number >= 0:
        known = found.of_parameter.get(number)
        return known if known is not None else _parameter(recording, found, number, value)
    if found.origins.buffer(value):
        return _buffer(recording, found, value)
    if _before(recording, found, value):
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
    if v.leaf:
        found.leaves.add(len(found.nodes))
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
        source = found.of(recording, value)
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
