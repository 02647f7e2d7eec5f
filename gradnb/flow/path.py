"""The gradient path: the hops of the data from a parameter to the loss, with the break between them."""

from __future__ import annotations

from ..recorder.recording import Recording
from ..report.finding import Hop
from .graph import Cone, Edge, Graph


def gradient_path(graph: Graph, cone: Cone, cut: Edge, parameter: int, behind: Edge | None = None) -> list[Hop]:
    """The shortest way from a parameter over a lost edge to the loss; empty where there is none.

    ``behind`` is a second lost edge further on, for which the finding is named.
    """
    recording = graph.recording
    before = _back(cone, cut.source, parameter, recording)
    after = _forward(cone, cut.target)
    if not before:
        return []
    hops = [_parameter_hop(recording, before[0].source if before[0].op >= 0 else cut.source, parameter)]
    hops.extend(_hop(graph, edge, "flowing") for edge in before if edge.op >= 0)
    hops.append(_hop(graph, cut, "lost"))
    hops.extend(_hop(graph, edge, "lost" if behind is not None and edge.op == behind.op else "after") for edge in after)
    loss = recording.values[cone.losses[0]]
    hops.append(Hop("loss", "loss", None, loss.dtype, loss.shape, loss.requires_grad, "on", "after"))
    return hops


def _back(cone: Cone, value: int, parameter: int, recording: Recording) -> list[Edge]:
    """Edges from the parameter to a value, along which the gradient flows."""
    todo: list[int] = [value]
    came: dict[int, Edge | None] = {value: None}
    while todo:
        v = todo.pop(0)
        if recording.values[v].parameter == parameter:
            path: list[Edge] = []
            at = came[v]
            while at is not None:
                path.append(at)
                at = came[at.target]
            return path or [Edge(v, v, -1, True)]
        for edge in cone.edges.get(v, ()):
            if edge.carries and edge.source not in came and cone.live.get(edge.source, 0) >> max(parameter, 0) & 1:
                came[edge.source] = edge
                todo.append(edge.source)
    return []


def _forward(cone: Cone, value: int) -> list[Edge]:
    todo: list[int] = [value]
    came: dict[int, Edge | None] = {value: None}
    while todo:
        v = todo.pop(0)
        if v in cone.losses:
            path: list[Edge] = []
            at = came[v]
            while at is not None:
                path.append(at)
                at = came[at.source]
            return list(reversed(path))
        for edge in cone.children.get(v, ()):
            if edge.target not in came:
                came[edge.target] = edge
                todo.append(edge.target)
    return []


def _parameter_hop(recording: Recording, value: int, parameter: int) -> Hop:
    v = recording.values[value]
    name = recording.parameters[parameter].name if parameter >= 0 else "input"
    return Hop(name, "parameter", None, v.dtype, v.shape, v.requires_grad, "on", "flowing")


def _hop(graph: Graph, edge: Edge, state: str) -> Hop:
    recording = graph.recording
    op = recording.ops[edge.op]
    value = recording.values[edge.target]
    mode = "on" if op.grad_enabled else "off"
    if op.region >= 0 and recording.regions[op.region].kind == "inference_mode":
        mode = "inference"
    where = recording.sites[op.stack[0]] if op.stack else None
    requires = value.requires_grad and op.kind not in ("escape", "cut")
    return Hop(op.name, "op", where, value.dtype, value.shape, requires, mode, state, op.module)
