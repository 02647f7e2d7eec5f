"""The picture as JSON-ready data."""

from __future__ import annotations

import json
import math
import os
from typing import TYPE_CHECKING, Any

from ...recorder.recording import Location
from ...report.files import write
from ..model import Box, Edge, Graph, Node, Tree

if TYPE_CHECKING:
    from ..picture import Picture


def to_json(picture: "Picture", file: str | os.PathLike[str] | None = None) -> dict[str, Any]:
    """All recorded steps as data that ``json.dumps`` takes, schema 1; written to ``file`` where one is given.

    ::

        {"schema": 1, "verdict": str, "step": int,                       # "step": the one that is drawn, from 1
         "findings": [{"cause", "severity", "title", "fix", "location"}],
         "steps": [{"title", "nodes": […], "edges": […], "boxes": […], "left_out": [str], "notes": [str]}]}

        node:     {"id", "kind": "parameter" | "input" | "operation" | "loss", "label", "name", "module", "class", "shape", "dtype",
                   "requires_grad", "trainable", "grad_fn", "state", "norm", "value", "location", "region", "function", "box",
                   "mark": null | {"cause", "word", "text", "severity", "finding", "root"}}
        edge:     {"source": id, "target": id, "kind": "flows" | "starved" | "lost" | "data", "cut": bool, "norm"}
        box:      {"id", "kind", "label", "detail", "parent": id or null, "children": [id], "node": id or null, "open": bool,
                   "operations": int, "parameters": int, "frozen": int, "state", "norm", "marks": [node id]}
        location: null | {"cell": execution count or null, "file": path or null, "line", "function", "code"}

    Ids are positions in their list, and box 0 is the whole picture. ``shape`` is a list, null where unknown. Norms are L2, null where
    they are not known or not finite (``state`` is then "nan" or "inf"). Edges lead from earlier nodes to later ones.

    Raises UsageError where the file cannot be written.
    """
    first = picture.graph
    data = {
        "schema": 1,
        "verdict": picture.verdict,
        "step": picture.step,
        "findings": [
            {"cause": f.cause, "severity": f.severity, "title": f.title, "fix": f.fix, "location": _location(f.location)}
            for f in first.findings
        ],
        "steps": [_step(graph, picture.tree if graph is first else picture.fold_of(graph, seen=True)) for graph in picture.graphs],
    }
    if file is not None:
        write(json.dumps(data, indent=1, allow_nan=False), file)
    return data


def _step(graph: Graph, tree: Tree) -> dict[str, Any]:
    return {
        "title": graph.title,
        "nodes": [_node(graph, tree, at, node) for at, node in enumerate(graph.nodes)],
        "edges": [_edge(edge) for edge in graph.edges],
        "boxes": [_box(at, box) for at, box in enumerate(tree.boxes)],
        "left_out": list(tree.left_out),
        "notes": list(graph.notes),
    }


def _node(graph: Graph, tree: Tree, at: int, node: Node) -> dict[str, Any]:
    mark = node.mark
    return {
        "id": at,
        "kind": node.kind,
        "label": node.label,
        "name": node.name,
        "module": node.module,
        "class": graph.classes.get(node.module, ""),
        "shape": list(node.shape) if node.shape is not None else None,
        "dtype": node.dtype,
        "requires_grad": node.requires_grad,
        "trainable": node.trainable,
        "grad_fn": node.grad_fn,
        "state": node.state,
        "norm": number(node.norm),
        "value": number(node.value),
        "location": _location(node.location),
        "region": node.region,
        "function": node.function,
        "box": tree.of_node[at] if tree.of_node[at] >= 0 else None,
        "mark": None
        if mark is None
        else {
            "cause": mark.cause,
            "word": mark.word,
            "text": mark.text,
            "severity": mark.severity,
            "finding": mark.finding if mark.finding >= 0 else None,
            "root": mark.root,
        },
    }


def _edge(edge: Edge) -> dict[str, Any]:
    return {"source": edge.source, "target": edge.target, "kind": edge.kind, "cut": edge.cut, "norm": number(edge.norm)}


def _box(at: int, box: Box) -> dict[str, Any]:
    return {
        "id": at,
        "kind": box.kind,
        "label": box.label,
        "detail": box.detail,
        "parent": box.parent if box.parent >= 0 else None,
        "children": list(box.children),
        "node": box.node if box.node >= 0 else None,
        "open": box.open,
        "operations": box.operations,
        "parameters": box.parameters,
        "frozen": box.frozen,
        "state": box.state,
        "norm": number(box.norm),
        "marks": list(box.marks),
    }


def number(value: float | None) -> float | None:
    """JSON knows no NaN and no infinity."""
    return value if value is not None and math.isfinite(value) else None


def _location(location: Location | None) -> dict[str, Any] | None:
    return location.to_dict() if location is not None else None
