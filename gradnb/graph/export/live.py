"""Finds the recorded operation behind each autograd node of a living loss, by the numbers that autograd gives its nodes."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from ...recorder.recording import Recording
from ..model import Graph
from ..walk.autograd import full_name, sequence
from ..walk.collect import Behind

_SURE = 0.9  # share of the nodes that has to fit before a loss of another step is taken for one of this step


@dataclass(slots=True)
class Match:
    """The graph of a recorded step and the living autograd nodes of each of its operations, oldest first."""

    graph: Graph
    nodes: dict[int, list[Any]] = field(default_factory=dict)  # position in graph.nodes -> autograd nodes
    node_of: dict[Any, int] = field(default_factory=dict)
    fits: float = 0.0  # share of the living nodes that has a place


def match(loss: torch.Tensor, behind: Behind, recording: Recording, graphs: Sequence[Graph]) -> Match | None:
    """The first of the graphs that the loss belongs to; else the first that it fits, because a later step runs the same code.

    None where it fits none.
    """
    if loss.grad_fn is None:
        return next((Match(graph) for graph in graphs if _ends_in_leaf(recording, graph, tuple(loss.shape))), None)
    for graph in graphs:
        found = _place(behind, recording, graph, 0)
        if loss.grad_fn in found.node_of:
            return found
    last = sequence(loss.grad_fn)
    for graph in graphs:
        for own in _losses(recording, graph):
            found = _place(behind, recording, graph, own - last)
            if found.fits >= _SURE and loss.grad_fn in found.node_of and _same_names(found):
                return found
    return None


def match_walk(behind: Behind, graph: Graph) -> Match | None:
    """A graph that ``walk`` made of the same tensors: its operations stand in the same order. None where it is of others."""
    made = [at for at, node in enumerate(graph.nodes) if node.kind == "operation"]
    living = behind.order()
    if [graph.nodes[at].grad_fn for at in made] != [full_name(node) for node in living]:
        return None
    return Match(graph, {at: [node] for at, node in zip(made, living)}, dict(zip(living, made)), 1.0)


def _place(behind: Behind, recording: Recording, graph: Graph, shift: int) -> Match:
    spans = []
    for at, node in enumerate(graph.nodes):
        op = recording.ops[node.op] if node.op >= 0 else None
        if op is not None and op.last_node > op.first_node >= 0:
            spans.append((op.first_node, op.last_node, at))
    spans.sort()
    starts = [first for first, _, _ in spans]
    found = Match(graph)
    living = sorted((node for node in behind.inputs if node not in behind.leaf_of), key=sequence)
    for node in living:
        number = sequence(node) + shift
        where = bisect_right(starts, number) - 1
        if where >= 0 and number < spans[where][1]:
            found.node_of[node] = spans[where][2]
            found.nodes.setdefault(spans[where][2], []).append(node)
    found.fits = len(found.node_of) / len(living) if living else 0.0
    return found


def _ends_in_leaf(recording: Recording, graph: Graph, shape: tuple[int, ...]) -> bool:
    """Is a loss of this shape one that no autograd node made."""
    ends = [at for at, node in enumerate(graph.nodes) if node.kind == "loss" and node.shape == shape]
    sources = [graph.nodes[edge.source] for edge in graph.edges if edge.target in ends]
    return any(node.op < 0 or recording.ops[node.op].first_node >= recording.ops[node.op].last_node for node in sources)


def _losses(recording: Recording, graph: Graph) -> list[int]:
    """The numbers of the autograd nodes that the losses of a step came out of."""
    sources = [edge.source for edge in graph.edges if graph.nodes[edge.target].kind == "loss"]
    ops = [recording.ops[graph.nodes[at].op] for at in sources if graph.nodes[at].op >= 0]
    return [op.last_node - 1 for op in ops if op.last_node > op.first_node >= 0]


def _same_names(found: Match) -> bool:
    """Where the recording knows an autograd node by its name, it is among the living ones."""
    known = [(found.graph.nodes[at].grad_fn, nodes) for at, nodes in found.nodes.items() if found.graph.nodes[at].grad_fn]
    return all(any(full_name(node) == name for node in nodes) for name, nodes in known)


def entrance(found: Match, behind: Behind, at: int) -> Any:
    """The autograd node of an operation that took data from outside the graph; its last one where none tells; None without any."""
    nodes = found.nodes.get(at, [])
    return next((node for node in nodes if node in behind.open), nodes[-1] if nodes else None)


def parameter_names(found: Match, behind: Behind) -> dict[str, torch.Tensor]:
    """The recorded names of the leaves behind a loss: by the operation that uses a leaf, and its shape."""
    given: dict[int, list[int]] = {}
    for edge in found.graph.edges:
        node = found.graph.nodes[edge.source]
        if node.kind in ("parameter", "input") and node.requires_grad:
            given.setdefault(edge.target, []).append(edge.source)
    names: dict[str, torch.Tensor] = {}
    taken: set[int] = set()
    named: set[int] = set()
    for made, at in found.node_of.items():
        for leaf in (behind.leaf_of[source] for source in behind.inputs[made] if source in behind.leaf_of):
            shape = tuple(behind.leaves[leaf].shape)
            fitting = [n for n in given.get(at, ()) if n not in taken and found.graph.nodes[n].shape == shape]
            if leaf not in named and fitting:
                named.add(leaf)
                taken.add(fitting[0])
                node = found.graph.nodes[fitting[0]]
                names[node.name or node.label] = behind.leaves[leaf]
    return names
