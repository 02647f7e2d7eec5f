"""The picture for Graphviz, folded as it is shown: open boxes are clusters, closed ones nodes, a lost edge is dashed."""

from __future__ import annotations

import math

from ...report import words
from ...report.pen import BLUE, GREY, VERMILLION
from ..draw.shapes import STROKES
from ..draw.size import lines, opened, word
from ..draw.titles import KINDS, of_box
from ..model import Box, Graph, Tree
from .drawing import Drawing, multiline, paragraph, text
from .visible import Seen, edges

_EDGES = {"data": (GREY, "solid"), "flows": (BLUE, "solid"), "starved": (VERMILLION, "solid"), "lost": (VERMILLION, "dashed")}
_WIDTHS = {"data": 0.8, "flows": 1.4, "starved": 0.8, "lost": 2.0}
_FONT = "Helvetica,Arial,sans-serif"


def to_dot(graph: Graph, tree: Tree | None = None) -> Drawing:
    """A ``graphviz.Digraph`` of the graph, folded by ``tree`` (by default as ``fold`` does it).

    ``render(outfile="graph.pdf")`` writes PDF, PNG or SVG; where the ``dot`` program is missing it raises a UsageError that names
    what to install. Every node and edge has a tooltip with the facts.
    """
    if tree is None:
        from ..fold.tree import fold

        tree = fold(graph)
    drawing = Drawing("gradnb", comment=" ".join(graph.title.split()))
    drawing.attr(rankdir="TB", ranksep="0.35", nodesep="0.25", fontname=_FONT, fontsize="10", newrank="true", tooltip=" ")
    drawing.attr("node", shape="box", style="rounded", fontname=_FONT, fontsize="10", height="0.3", margin="0.12,0.05")
    drawing.attr("edge", arrowsize="0.6", fontname=_FONT, fontsize="9")
    notes = [words.clean(note, 400) for note in [*tree.left_out, *graph.notes]]
    if notes:
        drawing.attr(label=paragraph(notes), labelloc="b", labeljust="l")
    _inside(drawing, graph, tree, 0)
    for seen in edges(graph, tree):
        _edge(drawing, graph, tree, seen)
    return drawing


def _inside(drawing: Drawing, graph: Graph, tree: Tree, at: int) -> None:
    """The things in an open box; the depth is that of the modules, not of the graph."""
    for child in tree.boxes[at].children:
        box = tree.boxes[child]
        if not box.open or not box.children:
            _node(drawing, graph, tree, child)
            continue
        with drawing.subgraph(name=f"cluster_{child}") as cluster:
            label = " · ".join(part for part in (words.clean(box.label), opened(box)) if part)
            colour = VERMILLION if box.marks else GREY
            style = "rounded,dotted" if box.kind == "region" else "rounded"
            cluster.attr(
                label=text(label), tooltip=_tip(graph, tree, box), color=colour, style=style, labelloc="t", labeljust="l", fontsize="10"
            )
            _inside(cluster, graph, tree, child)


def _node(drawing: Drawing, graph: Graph, tree: Tree, at: int) -> None:
    box = tree.boxes[at]
    node = graph.nodes[box.node] if box.node >= 0 else None
    colour, width, dash = STROKES.get(box.state, STROKES["data"])
    look = {"color": colour, "penwidth": f"{width:g}", "style": "rounded"}
    told = [part for part in (word(graph, box), *lines(graph, box)) if part]
    if node is None:
        look |= {"style": "rounded,filled", "fillcolor": f"{colour}14", "peripheries": "2" if box.kind == "repeat" else "1"}
    elif node.kind == "parameter" and box.state == "flows" and node.trainable is not False:
        look |= {"style": "rounded,filled", "fillcolor": BLUE, "fontcolor": "white"}
    elif node.kind == "parameter" and box.state == "frozen":
        look["style"] = "rounded,dashed"
    elif node.kind == "input":
        look["style"] = "solid"
    elif node.kind == "loss":
        look["peripheries"] = "2"
    if dash and "dashed" not in look["style"] and not box.marks:
        look["style"] += ",dashed"
    if box.marks:
        look |= {"color": VERMILLION, "penwidth": "2.5"}
        told = [f"✗ {told[0]}", *told[1:]]
    drawing.node(f"box{at}", label=multiline(told), tooltip=_tip(graph, tree, box), **look)


def _edge(drawing: Drawing, graph: Graph, tree: Tree, seen: Seen) -> None:
    colour, style = _EDGES[seen.kind]
    look = {"color": colour, "style": style, "penwidth": f"{_WIDTHS[seen.kind]:g}"}
    ends = [words.clean(tree.boxes[at].label, 60) for at in (seen.source, seen.target)]
    tip = f"{ends[0]} → {ends[1]}: {'cut here, ' if seen.cut else ''}{KINDS[seen.kind]}"
    if seen.norm is not None:
        tip += f", norm {words.norm(seen.norm)}"
        if seen.kind == "flows" and 0 < seen.norm < math.inf:
            look["penwidth"] = f"{min(4.0, max(1.2, 2.0 + 0.4 * math.log10(seen.norm))):.2g}"
    if seen.count > 1:
        tip += f" ({seen.count} edges)"
    if seen.cut:
        look |= {"label": "✗", "fontcolor": VERMILLION, "fontsize": "13"}
    drawing.edge(f"box{seen.source}", f"box{seen.target}", tooltip=text(tip), **look)


def _tip(graph: Graph, tree: Tree, box: Box) -> str:
    return text(of_box(graph, tree, box))
