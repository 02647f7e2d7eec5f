"""From a Recording and its findings to a Graph for each recorded training step."""

from __future__ import annotations

from collections.abc import Sequence

from ...flow.cuts import graph_of
from ...recorder.recording import Recording
from ...report.finding import Finding
from ..model import Edge, Graph, Told
from .dropped import drop
from .gather import Gathered, gather
from .marks import LOSES, cut_edges, mark
from .names import Names
from .origins import Origins
from .parameters import add_absent
from .rest import count_rest, tell_failure, tell_foreign, tell_norms
from .rounds import Round, rounds
from .states import give_norms, give_states


def build(recording: Recording, findings: Sequence[Finding] = ()) -> list[Graph]:
    """The graphs of the recorded steps in order, each complete: nothing is folded. Empty where no operation was recorded."""
    told = list(findings)
    flow = graph_of(recording)
    names = Names(recording, flow)
    origins = Origins(recording, flow, [f.location for f in told if f.cause in LOSES and f.location is not None])
    graphs = [_graph(recording, names, origins, r, told) for r in rounds(recording)]
    for graph in graphs[1:]:
        _same_names(graphs[0], graph)
    _tell_unmarked(graphs, told)
    return graphs


def _tell_unmarked(graphs: list[Graph], findings: list[Finding]) -> None:
    """What a finding says of the training loop stands at no node: the picture must not look as if all were well."""
    marked = {node.mark.finding for graph in graphs for node in graph.nodes if node.mark is not None}
    told = []
    for index, finding in enumerate(findings):
        if index not in marked and finding.severity != "info":
            at = f", {finding.location}" if finding.location is not None else ""
            told.append(f"{finding.severity}: {finding.cause}{at}: no operation drawn here is at fault")
    for graph in graphs:
        graph.notes[:0] = told  # before what is only counted


def _graph(recording: Recording, names: Names, origins: Origins, r: Round, findings: list[Finding]) -> Graph:
    found = gather(recording, names, origins, r)
    drop(recording, found)
    cuts = cut_edges(recording, names.flow, found, findings)
    give_states(recording, found, set(cuts))
    add_absent(recording, found, _roots(recording, found))
    give_norms(recording, found)
    count_rest(recording, found)
    tell_foreign(found)
    tell_norms(recording, found)
    tell_failure(recording, found)
    mark(recording, names, found, findings, cuts)
    return _in_order(recording, found, findings)


def _roots(recording: Recording, found: Gathered) -> set[str]:
    """The modules that this step is about: those whose parameters or operations are in it, or whose optimizer steps."""
    roots = {recording.parameters[n].root for n in found.of_parameter}
    roots |= {node.module.split(".")[0] for node in found.nodes if node.module}
    step = recording.events[found.round.step] if found.round.step >= 0 else None
    if step is not None and step.optimizer is not None:
        roots |= {recording.parameters[n].root for group in recording.optimizers[step.optimizer].groups for n in group}
    return roots - {""}


def _in_order(recording: Recording, found: Gathered, findings: list[Finding]) -> Graph:
    """Number the nodes by time, so that the same run gives the same picture."""
    order = sorted(range(len(found.nodes)), key=lambda n: (found.nodes[n].order, n))
    place = {old: new for new, old in enumerate(order)}
    nodes = [found.nodes[n] for n in order]
    marked = {n for n, node in enumerate(found.nodes) if node.mark is not None}
    edges = [Edge(place[e.source], place[e.target], e.kind, e.cut and e.target in marked, e.norm) for e in found.edges.values()]
    edges.sort(key=lambda e: (e.target, e.source))
    files = {where.filename for node in nodes for where in node.frames}
    return Graph(
        nodes,
        edges,
        found.round.title,
        {path: name for path, name in recording.paths.values()},
        [Told(f.cause, f.severity, f.title, f.fix, f.location) for f in findings],
        {name: recording.sources[name] for name in sorted(files) if name in recording.sources},
        found.notes,
    )


def _same_names(first: Graph, graph: Graph) -> None:
    """Only the first backward of a line is looked into: steps of the same shape have the same autograd nodes."""
    if len(first.nodes) != len(graph.nodes):
        return
    if any(a.label != b.label or a.kind != b.kind for a, b in zip(first.nodes, graph.nodes)):
        return
    for a, b in zip(first.nodes, graph.nodes):
        b.grad_fn = b.grad_fn or a.grad_fn
