"""How a box looks in the static picture: one shape for each kind, one stroke for each state, never colour alone.

A trainable parameter is a filled pill, a frozen one a hollow dashed pill; an input has square corners, a loss a double frame; a
closed fold has the edges of further cards below it; a region without gradients is dotted; what is lost is dashed.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from html import escape

from ...report.pen import BLUE, GREY, VERMILLION
from ..model import Box, Graph, Tree, worst
from .place import HEADER, PADDING
from .scene import Placed
from .size import FIRST, FURTHER, LABEL, TAG, fitted, lines, mark_text, opened, word
from .titles import of_box

DARK = "#B84E00"  # vermillion that white letters stand out from
ORANGE = "#E69F00"
STROKE = 1.3  # px, unless a state says otherwise; the group around says it once
STROKES = {
    "flows": (BLUE, STROKE, ""),
    "zero": (VERMILLION, 1.6, "1.5 3"),
    "nan": (VERMILLION, 2.0, ""),
    "inf": (VERMILLION, 2.0, ""),
    "starved": (VERMILLION, STROKE, ""),
    "lost": (VERMILLION, 1.5, "5 3"),
    "data": (GREY, 1.0, ""),
    "frozen": (GREY, 1.2, "4 3"),
    "unused": (GREY, 1.6, ""),
}


def number(value: float) -> str:
    """Whole pixels: a half is not seen, and a picture is kept in the notebook."""
    return str(round(value))


def rect(x: float, y: float, w: float, h: float, more: str) -> str:
    return f'<rect x="{number(x)}" y="{number(y)}" width="{number(w)}" height="{number(h)}" {more}/>'


def write(x: float, y: float, content: str, more: str = "") -> str:
    return f'<text x="{number(x)}" y="{number(y)}"{" " + more if more else ""}>{escape(content)}</text>'


DOTS = 'stroke-linecap="round" stroke-dasharray="0.1 4.5"'
LABELS = 'font-size="12" font-family="monospace"'


def stroke(state: str) -> str:
    colour, width, dash = STROKES.get(state, STROKES["data"])
    wide = f' stroke-width="{width:g}"' if width != STROKE else ""
    return f'stroke="{colour}"{wide}' + (f' stroke-dasharray="{dash}"' if dash else "")


@dataclass(slots=True)
class Inside:
    """What a box does not say of what is in it."""

    off: set[int]  # the outermost folds in which all operations ran while gradients were switched off (no_grad and the like)
    parameters: dict[int, str]  # fold -> the worst state of the parameters in it


def look_inside(graph: Graph, tree: Tree) -> Inside:
    off, operations = [0] * len(tree.boxes), [0] * len(tree.boxes)
    states: dict[int, set[str]] = defaultdict(set)
    for node, box in zip(graph.nodes, tree.of_node):
        while box >= 0:
            if node.kind == "operation":
                operations[box] += 1
                off[box] += bool(node.region)
            elif node.kind == "parameter":
                states[box].add("frozen" if node.trainable is False else node.state)
            box = tree.boxes[box].parent
    folds = {i for i, box in enumerate(tree.boxes) if box.kind != "node" and i and operations[i] and off[i] == operations[i]}
    outermost = {i for i in folds if tree.boxes[i].parent not in folds}
    return Inside(outermost, {box: worst(sorted(found)) for box, found in states.items() if tree.boxes[box].kind != "node"})


def closed(graph: Graph, tree: Tree, placed: Placed, inside: Inside) -> str:
    """A closed box or a node. Texts are centred by the group around it."""
    box = tree.boxes[placed.box]
    x, y, w, h = placed.x, placed.y, placed.w, placed.h
    parts = [f"<g><title>{escape(of_box(graph, tree, box))}</title>"]
    if box.kind != "node":
        parts.append(_cards(box, x, y + h, w))
    parts.append(_plate(graph, box, x, y, w, h, placed.box in inside.off))
    if placed.box in inside.parameters:
        parts.append(rect(x - 4, y + h / 2 - 8, 8, 16, f'rx="4" {pill(inside.parameters[placed.box])}'))
    tag = word(graph, box)
    if tag:
        parts += _strip(graph, box, tag, x, y, w)
        y += TAG
    white = _filled(graph, box)
    first, *further = lines(graph, box)
    centre, base = x + w / 2, y + FIRST / 2 + (4.2 if not further else 3.7)
    bold = ' font-weight="700"' if tag or box.kind != "node" or graph.nodes[box.node].kind == "loss" else ""
    parts.append(write(centre, base, first, LABELS + bold + (' fill="#fff"' if white else "")))
    for i, line in enumerate(further):
        last = i == len(further) - 1 and mark_text(graph, box)
        look = 'font-weight="700"' if last else 'fill="#fff"' if white else 'opacity=".75"'
        parts.append(write(centre, base + FURTHER * (i + 1) - 0.5, line, look))
    return "".join(parts) + "</g>"


def _filled(graph: Graph, box: Box) -> bool:
    node = graph.nodes[box.node] if box.kind == "node" else None
    return node is not None and node.kind == "parameter" and not box.marks and _state(graph, box) == "flows"


def _state(graph: Graph, box: Box) -> str:
    """The state that a parameter's pill shows: a frozen one is hollow whatever arrives."""
    return "frozen" if graph.nodes[box.node].trainable is False else box.state


def _shown(box: Box) -> str:
    """The state of the border: a fold whose parameters all get their gradient is well, although data that lost it came in."""
    return "flows" if box.kind != "node" and box.learns == "flows" and box.state in ("lost", "starved", "zero") else box.state


def _plate(graph: Graph, box: Box, x: float, y: float, w: float, h: float, off: bool) -> str:
    """The frame and what fills it."""
    node = graph.nodes[box.node] if box.kind == "node" else None
    look = stroke(_shown(box))
    if box.marks:
        look = f'stroke="{_colour(graph, box)}" stroke-width="2.5"'
    tint = f'fill="{_colour(graph, box)}" ' if box.marks else f'fill="{VERMILLION}" ' if box.state in ("nan", "inf") else ""  # "": as text
    if node is None:
        dots = f" {DOTS}" if off and not box.marks and "dasharray" not in look else ""
        return rect(x, y, w, h, f'rx="6" {tint}fill-opacity=".07" {look}{dots}')
    if node.kind == "parameter":
        if box.marks:
            return rect(x, y, w, h, f'rx="6" {tint}fill-opacity=".1" {look}')
        return rect(x, y, w, h, f'rx="{number(min(h, 44) / 2)}" {pill(_state(graph, box))}')
    if node.kind == "input":
        return rect(x, y, w, h, f'fill="none" {look}')
    if node.kind == "loss":
        inner = rect(x + 3, y + 3, w - 6, h - 6, f'rx="5" fill="none" {stroke(box.state)}') if not box.marks else ""
        return rect(x, y, w, h, f'rx="8" {tint}fill-opacity=".07" {look}') + inner
    return rect(x, y, w, h, f'rx="5" {tint}fill-opacity="{".1" if box.marks else ".04"}" {look}')


def pill(state: str) -> str:
    """How a parameter is filled, and the small mark at the left of a fold that holds some.

    Trainable with a gradient: filled. Trainable without: tinted, in the colour of what is wrong. Frozen: hollow.
    """
    if state == "flows":
        return f'fill="{BLUE}"'
    if state == "frozen":
        return f'fill="none" {stroke(state)}'
    return f'fill="{GREY if state in ("unused", "data") else VERMILLION}" fill-opacity=".25" {stroke(state)}'


def _cards(box: Box, x: float, bottom: float, w: float) -> str:
    """The lower edges of the cards behind a closed fold: one, and of repeated blocks two more."""
    colour = STROKES.get(_shown(box), STROKES["data"])[0]
    path = "".join(
        f"M{number(x + 3 * i + 2)} {number(bottom + 3 * i)}q1 0 3 0h{number(w - 6 * i - 10)}q2 0 3 0"
        for i in range(1, 4 if box.kind == "repeat" else 2)
    )
    return f'<path d="{path}" fill="none" stroke="{colour}"/>'


def _strip(graph: Graph, box: Box, tag: str, x: float, y: float, w: float) -> list[str]:
    """The word on top of a marked box, white on the colour of how bad it is."""
    colour = _colour(graph, box)
    head = f"M{number(x)} {number(y + TAG)}v-{number(TAG - 5)}q0 -5 5 -5h{number(w - 10)}q5 0 5 5v{number(TAG - 5)}z"
    ink = "#000" if colour == ORANGE else "#fff"
    return [
        f'<path d="{head}" fill="{DARK if colour == VERMILLION else colour}"/>',
        write(x + w / 2, y + 13.5, tag, f'font-size="12" font-weight="700" fill="{ink}"'),
    ]


def _colour(graph: Graph, box: Box) -> str:
    found = {mark.severity for node in box.marks if (mark := graph.nodes[node].mark) is not None}
    return VERMILLION if "error" in found else ORANGE if "warning" in found else BLUE


def frame(graph: Graph, tree: Tree, placed: Placed, inside: Inside) -> str:
    """An open box: a light frame with its name."""
    box = tree.boxes[placed.box]
    look = 'stroke="currentColor" stroke-opacity=".35"'
    if placed.box in inside.off:
        look = f'stroke="currentColor" stroke-opacity=".8" stroke-width="1.8" {DOTS}'
    elif box.marks:
        look = f'stroke="{VERMILLION}" stroke-opacity=".6"'
    label, *_ = lines(graph, box)
    x, base = placed.x + PADDING, placed.y + HEADER / 2 + 4.5
    parts = [
        f"<g><title>{escape(of_box(graph, tree, box))}</title>",
        rect(placed.x, placed.y, placed.w, placed.h, f'rx="8" fill-opacity=".035" {look}'),
        write(x, base, label, f'{LABELS} font-weight="700"'),
    ]
    room = placed.w - 2 * PADDING - len(label) * LABEL - 8
    if (detail := opened(box)) and room >= 40:
        detail = fitted(detail, room)
        parts.append(write(x + len(label) * LABEL + 8, base, detail, 'opacity=".75"'))
    return "".join(parts) + "</g>"
