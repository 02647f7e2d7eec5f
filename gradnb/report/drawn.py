"""The graph of the training step as a section of the html report."""

from __future__ import annotations

from dataclasses import replace
from html import escape

from . import words
from .blocks import fold
from .pen import WIDTH, standalone
from .report import Report

LARGE = 40_000  # recorded operations: up to here the graph is drawn in a few seconds


def section(report: Report, boxes: int, still: bool) -> str:
    """The graph, folded to some ``boxes``, below a summary that tells the place of the cut; empty where there is none to draw.

    ``still`` adds the image for front ends that strip SVG. A fault in here costs the section, never the report.
    """
    if not report.show_graph or report.recording is None:
        return ""
    recorded = len(report.recording.ops)
    if recorded > LARGE:
        return f"<p>The graph of these {recorded:,} operations is not drawn here, because that takes a while: {_HOW}.</p>"
    try:
        told = _summary(report)
        if not boxes:
            return fold(told, f"<p>It does not fit here: {_HOW}.</p>")
        drawn = report.drawings.get(boxes)
        if drawn is None:
            drawn = report.drawings[boxes] = replace(report.graph, budget=boxes).svg()
    except Exception as error:
        return f"<p>Note: the graph could not be drawn ({escape(words.clean(f'{type(error).__name__}: {error}', 200))}).</p>"
    twin = f'<img class="gradnb-still" alt="{escape(told)}" width="{WIDTH}" src="{standalone(drawn)}">' if still else ""
    return fold(told, f'<figure><div class="gradnb-picture" hidden="hidden">{drawn}</div>{twin}</figure><p>{_HOW}.</p>')


_HOW = "<code>gradnb.last_report().explore()</code> opens boxes, searches and shows the line behind each node"


def _summary(report: Report) -> str:
    graph = report.graph.graph
    steps = len(report.graph.graphs)
    which = words.clean(graph.title, 60) + (
        f" of {steps}" if steps > 1 and graph.title.startswith("step ") and " of " not in graph.title else ""
    )
    operations = sum(node.kind == "operation" for node in graph.nodes)
    return f"Graph of {which} ({words.count(operations, 'operation')})"
