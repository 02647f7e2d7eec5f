"""The picture as JSON-ready data for the explorer (static/model.js reads it).

It is kept small, because a page or a widget carries it whole: columns instead of rows, each text, place and source line once,
and of a step whose structure an earlier one has only what differs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ...errors import UsageError
from ...report.words import clean
from ..draw import place, size
from ..model import Box, Graph, Link, Node, Tree
from .excerpts import Excerpts

if TYPE_CHECKING:
    from ..picture import Picture

# What a step of the same structure may have otherwise than the first.
VARIES = {
    "nodes": ("label", "state", "norm", "value", "mark", "grad"),
    "boxes": ("label", "detail", "lines", "tag", "told", "wide", "tall", "head", "state", "norm", "marks", "open"),
}
# What layout.js computes with, so that both lay out alike.
SIZES = (
    "TAG",
    "HEADER",
    "TOP",
    "PADDING",
    "COLUMN",
    "LANE",
    "ROW",
    "BEND",
    "PORT",
    "PORT_GAP",
    "REACH",
    "MORE",
    "SWEEPS",
    "STIFF",
    "LOOSE",
    "SIDE",
    "EDGE",
    "APART",
    "CLEAR",
)
KINDS = ("flows", "starved", "lost", "data")
TEXTS = {"kind", "label", "name", "module", "shape", "dtype", "fn", "state", "region", "function", "detail", "tag"}


def payload(picture: Picture) -> dict[str, Any]:
    """What the explorer shows, schema 1. Numbers are finite: NaN and infinities are the texts "nan", "inf" and "-inf"."""
    steps: list[tuple[Graph, Tree]] = []
    notes = []
    first = 0
    for graph in picture.graphs:
        if graph is picture.graph:
            first = len(steps)
        try:  # every box knows what stands where in it: it may be opened
            steps.append((graph, picture.fold_of(graph)))
        except UsageError as error:  # focus= names what another step does not have
            notes.append(f"{graph.title or 'another step'} is left out: {error}")
    return pack([graph for graph, _ in steps], [tree for _, tree in steps], first, picture.verdict, notes)


def pack(graphs: list[Graph], trees: list[Tree], first: int = 0, verdict: str = "", notes: Sequence[str] = ()) -> dict[str, Any]:
    """One tree a graph, in the order of the recorded steps; ``first`` (from 0) is the step that is shown at first."""
    sources: dict[str, str] = {}
    for graph in graphs:
        sources.update(graph.sources)
    packer = _Packer(Excerpts(sources))
    for graph, tree in zip(graphs, trees, strict=True):
        packer.step(graph, tree if tree.boxes else Tree([Box("whole", "", open=True)]))
    excerpts, places = packer.excerpts.cut()
    return {
        "schema": 1,
        "verdict": clean(verdict, 400),
        "notes": [clean(note, 400) for note in notes],
        "first": first,
        "sizes": {name: getattr(place if hasattr(place, name) else size, name) for name in SIZES},
        "texts": packer.texts,
        "findings": packer.findings,
        "sources": excerpts,
        "places": places,
        "graphs": [{name: column for name, column in shared.items() if name not in ("key", "given")} for shared in packer.graphs],
        "steps": packer.steps,
    }


@dataclass
class _Packer:
    excerpts: Excerpts
    texts: list[str] = field(default_factory=lambda: [""])
    findings: list[dict] = field(default_factory=list)
    graphs: list[dict] = field(default_factory=list)
    steps: list[dict] = field(default_factory=list)
    _text: dict[str, int] = field(default_factory=lambda: {"": 0})
    _finding: dict[tuple, int] = field(default_factory=dict)

    def step(self, graph: Graph, tree: Tree) -> None:
        told = [self._told(graph, i) for i in range(len(graph.findings))]
        rows = {
            "nodes": [self._node(node, told) for node in graph.nodes],
            "boxes": [self._box(graph, tree, i) for i in range(len(tree.boxes))],
        }
        links = [[_link(link) for link in box.links] for box in tree.boxes]
        norms = {
            str(i): [_number(link.norm) for link in box.links]
            for i, box in enumerate(tree.boxes)
            if any(link.norm is not None for link in box.links)
        }
        notes = [clean(note, 400) for note in [*graph.notes, *tree.left_out]]
        key = _structure(rows, links, notes)
        for number, shared in enumerate(self.graphs):
            if shared["key"] == key:
                self.steps.append({"title": clean(graph.title, 80), "graph": number, "changes": self._changes(shared, rows, links, norms)})
                return
        self.graphs.append(
            {
                "key": key,
                "nodes": self._columns(rows["nodes"], _NODE),
                "boxes": self._columns(rows["boxes"], _BOX),
                "links": links,
                "norms": norms,
                "notes": notes,
                "given": rows,
            }
        )
        self.steps.append({"title": clean(graph.title, 80), "graph": len(self.graphs) - 1, "changes": {}})

    def _changes(self, shared: dict, rows: dict, links: list, norms: dict) -> dict:
        changes: dict[str, Any] = {}
        for part, names in VARIES.items():
            for name in names:
                first, own = [r.get(name) for r in shared["given"][part]], [r.get(name) for r in rows[part]]
                default = (_NODE if part == "nodes" else _BOX)[name]
                found = {str(i): self._cell(name, default if b is None else b) for i, (a, b) in enumerate(zip(first, own)) if a != b}
                if found:
                    changes.setdefault(part, {})[name] = found
        moved = {str(i): b for i, (a, b) in enumerate(zip(shared["links"], links)) if a != b}
        if moved:
            changes["links"] = moved
        if norms != shared["norms"]:
            changes["norms"] = norms
        return changes

    def _told(self, graph: Graph, position: int) -> int:
        """Steps share their findings."""
        told = graph.findings[position]
        place = self.excerpts.add(told.location)
        key = (told.cause, told.title, place)
        if key not in self._finding:
            self._finding[key] = len(self.findings)
            kept = {"cause": clean(told.cause, 40), "severity": told.severity, "title": clean(told.title, 400), "fix": told.fix[:2000]}
            self.findings.append({**kept, "at": place})
        return self._finding[key]

    def _node(self, node: Node, told: list[int]) -> dict[str, Any]:
        row: dict[str, Any] = {
            "kind": node.kind,
            "label": clean(node.label, 120),
            "name": clean(node.name, 160),
            "module": clean(node.module, 160),
            "shape": "" if node.shape is None else "×".join(map(str, node.shape)) or "scalar",
            "dtype": clean(node.dtype.removeprefix("torch."), 30),
            "grad": int(node.requires_grad),
            "train": -1 if node.trainable is None else int(node.trainable),
            "fn": clean(node.grad_fn, 80),
            "state": node.state,
            "norm": _number(node.norm),
            "value": _number(node.value),
            "at": self.excerpts.add(node.location),
            "from": [self.excerpts.add(place) for place in node.frames[:6] if place != node.location],
            "region": clean(node.region, 60),
            "function": clean(node.function, 80),
        }
        if node.mark is not None:
            mark = node.mark
            finding = told[mark.finding] if 0 <= mark.finding < len(told) else -1
            row["mark"] = [clean(mark.word), clean(mark.text), mark.severity, finding, int(mark.root)]
        return {name: value for name, value in row.items() if value != _NODE[name]}

    def _box(self, graph: Graph, tree: Tree, name: int) -> dict[str, Any]:
        box = tree.boxes[name]
        wide, tall = size.closed(graph, box)
        row = {
            "kind": box.kind,
            "label": clean(box.label),
            "parent": box.parent,
            "node": box.node,
            "detail": clean(box.detail),
            "lines": [self._cell("label", line) for line in size.lines(graph, box)[1:]],
            "tag": size.word(graph, box),
            "told": int(bool(size.mark_text(graph, box))),
            "wide": wide,
            "tall": tall,
            "head": place.header(graph, tree, name) if box.children else 0,
            "operations": box.operations,
            "parameters": box.parameters,
            "frozen": box.frozen,
            "state": box.state,
            "norm": _number(box.norm),
            "marks": list(box.marks),
            "open": int(box.open),
            "rows": [list(row) for row in box.rows],
            "entries": list(box.entries),
            "exits": list(box.exits),
        }
        return {name: value for name, value in row.items() if value != _BOX[name]}

    def _columns(self, rows: list[dict], defaults: dict[str, Any]) -> dict[str, Any]:
        """Each key as one list, or as {position: value} where few rows have it."""
        columns: dict[str, Any] = {"count": len(rows)}
        for name, default in defaults.items():
            found = {i: self._cell(name, row[name]) for i, row in enumerate(rows) if name in row}
            if len(found) * 3 < len(rows):
                columns[name] = {str(i): value for i, value in found.items()}
            else:
                empty = self._cell(name, default)
                columns[name] = [found.get(i, empty) for i in range(len(rows))]
        return columns

    def _cell(self, name: str, value: Any) -> Any:
        """Texts that many rows share are kept once: a row has their number."""
        if name not in TEXTS:
            return value
        if value not in self._text:
            self._text[value] = len(self.texts)
            self.texts.append(value)
        return self._text[value]


# The keys of a row, with what a row has that does not name one; model.js knows the same.
_NODE: dict[str, Any] = {
    **{name: "" for name in ("kind", "label", "name", "module", "shape", "dtype", "fn", "state", "region", "function")},
    **{"grad": 0, "train": -1, "norm": None, "value": None, "at": -1, "from": [], "mark": None},
}
_BOX: dict[str, Any] = {
    **{name: "" for name in ("kind", "label", "detail", "tag", "state")},
    **{
        "parent": -1,
        "node": -1,
        "operations": 0,
        "parameters": 0,
        "frozen": 0,
        "norm": None,
        "open": 0,
        "told": 0,
        "wide": 0,
        "tall": 0,
        "head": 0,
    },
    **{"lines": [], "marks": [], "rows": [], "entries": [], "exits": []},
}


def _link(link: Link) -> list[int]:
    """[source, target, kind, cut, edges], without the tail that says nothing. The norms stand apart: they change from step to step."""
    row = [link.source, link.target, KINDS.index(link.kind), int(link.cut), link.count]
    if row[4] == 1:
        del row[4 if row[3] else 3 :]
    return row


def _structure(rows: dict, links: list, notes: list[str]) -> Any:
    """What two steps must have in common to share a graph."""
    fixed = {part: [[(name, row[name]) for name in row if name not in VARIES[part]] for row in rows[part]] for part in rows}
    return fixed, [[(link[0], link[1]) for link in box] for box in links], notes


def _number(value: float | None) -> float | str | None:
    """Three digits are enough to read; JSON knows no NaN and no infinity."""
    if value is None:
        return None
    value = float(value)
    if math.isnan(value):
        return "nan"
    if math.isinf(value):
        return "inf" if value > 0 else "-inf"
    return float(f"{value:.3g}") if value else 0
