"""The legend of the static picture: only what occurs in it, and what is left out."""

from __future__ import annotations

from html import escape

from ...report import words
from ...report.pen import BLUE, GREY, VERMILLION
from ..model import Graph, Tree
from .scene import Scene
from .shapes import DOTS, Inside, number, pill, rect, stroke
from .size import measure

SAMPLE = 34.0  # px of the small drawing before each text
LARGER, LINE = 11.5 / 11, 21.0  # the text is as much larger than that of boxes; from one item to the next
SAFE = 1.12  # room for a font that is wider than most
NOTE = 200.0  # px that a note has beside the picture at least: it is broken into lines


class Legend:
    """What each stroke means, as (drawing, text); a drawing is 28 x 12 px with its middle at 0."""

    def __init__(self, graph: Graph, tree: Tree, scene: Scene, norms: tuple[float, float] | None, inside: Inside) -> None:
        self.items: list[tuple[str, str]] = []
        self.notes = [words.clean(note, 400) for note in [*tree.left_out, *graph.notes]]
        kinds = {line.kind for line in scene.lines}
        shown = [tree.boxes[placed.box] for placed in scene.boxes if not placed.open]
        nodes = [graph.nodes[box.node] for box in shown if box.kind == "node"]
        pills = {"frozen" if node.trainable is False else node.state for node in nodes if node.kind == "parameter"}
        pills |= {inside.parameters[placed.box] for placed in scene.boxes if not placed.open and placed.box in inside.parameters}
        add = self._add
        add(any(line.cut for line in scene.lines), _CROSS, "the gradient is lost here")
        add("flows" in kinds, _line(BLUE, 1.6), "data goes down, its gradient comes back")
        if norms is not None:
            low, high = (words.norm(norm) for norm in norms)
            add(True, _WEDGE, f"width: gradient norm {low} … {high}")
        add("lost" in kinds, _line(VERMILLION, 2.2, "5 4"), "data goes on, its gradient is lost")
        add("starved" in kinds, _line(VERMILLION, 1.2), "has history, no gradient arrives")
        add("data" in kinds, _line(GREY, 1.2), "data only, no gradient wanted")
        add("flows" in pills, _pill("flows"), "parameter that gets a gradient")
        add(bool({"starved", "zero", "nan", "inf", "lost"} & pills), _pill("starved"), "parameter without a good gradient")
        add("frozen" in pills, _pill("frozen"), "frozen parameter")
        add(bool({"unused", "data"} & pills), _pill("unused"), "parameter without use for this loss")
        add(any(node.kind == "input" for node in nodes), rect(-13, -6, 26, 12, f'fill="none" {stroke("data")}'), "input")
        add(any(box.kind != "node" for box in shown), _cards(1), "closed: more inside")
        add(any(box.kind == "repeat" for box in shown), _cards(3), "equal blocks, one after the other")
        dotted = rect(-13, -6, 26, 12, f'rx="3" fill="none" stroke="currentColor" stroke-width="1.8" {DOTS}')
        add(any(placed.box in inside.off for placed in scene.boxes), dotted, "gradients were switched off")

    def _add(self, occurs: bool, drawing: str, text: str) -> None:
        if occurs:
            self.items.append((drawing, text))

    def beside(self) -> float:
        """The width that it takes in one column, px."""
        return max([NOTE if self.notes else 0.0, *(SAMPLE + _wide(text) for _, text in self.items)])

    def column(self, x: float, y: float, right: float) -> tuple[list[str], float]:
        """One below the other, beside the picture; also gives the y below it."""
        parts = ['<g font-size="11.5">']
        for drawing, text in self.items:
            parts.append(_item(x, y, drawing, text))
            y += LINE
        return self._notes(parts, x, y, right)

    def rows(self, x: float, y: float, right: float) -> tuple[list[str], float]:
        """In rows below the picture."""
        parts = ['<g font-size="11.5">']
        at = x
        for drawing, text in self.items:
            wide = SAMPLE + _wide(text) + 16
            if at > x and at + wide > right:
                at, y = x, y + LINE
            parts.append(_item(at, y, drawing, text))
            at += wide
        return self._notes(parts, x, y + LINE, right)

    def _notes(self, parts: list[str], x: float, y: float, right: float) -> tuple[list[str], float]:
        y += 6 if self.notes and self.items else 0
        for note in self.notes:
            for line in _wrapped(note, right - x):
                parts.append(f'<text x="{number(x)}" y="{number(y + 4)}" opacity=".8">{escape(line)}</text>')
                y += 16
        return [*parts, "</g>"], y


def _item(x: float, y: float, drawing: str, text: str) -> str:
    return (
        f'<g transform="translate({number(x + 14)} {number(y)})">{drawing}</g>'
        f'<text x="{number(x + SAMPLE)}" y="{number(y + 4)}" opacity=".8">{escape(text)}</text>'
    )


def _wide(text: str) -> float:
    return measure(text) * LARGER * SAFE


def _wrapped(text: str, room: float) -> list[str]:
    found = [""]
    for part in text.split():
        if found[-1] and _wide(f"{found[-1]} {part}") > room:
            found.append("")
        found[-1] = f"{found[-1]} {part}".strip()
    return found


def _line(colour: str, width: float, dash: str = "") -> str:
    dashed = f' stroke-dasharray="{dash}"' if dash else ""
    return f'<path d="M-14 0h28" stroke="{colour}" stroke-width="{width:g}"{dashed} fill="none"/>'


def _pill(state: str) -> str:
    return rect(-13, -6, 26, 12, f'rx="6" {pill(state)}')


def _cards(number_of: int) -> str:
    edges = "".join(f"M{-13 + 2 * i} {4 + 2.5 * i:g}h{26 - 4 * i}" for i in range(1, number_of + 1))
    plate = rect(-13, -8, 26, 12, f'rx="3" fill-opacity=".07" {stroke("data")}')
    return plate + f'<path d="{edges}" stroke="{GREY}" stroke-width="1.2" fill="none"/>'


_CROSS = (
    f'<circle r="7" fill="{VERMILLION}"/><path d="M-3 -3l6 6m0 -6l-6 6" stroke="#fff" stroke-width="2" stroke-linecap="round" fill="none"/>'
)
_WEDGE = f'<path d="M-14 -.6L14 -2V2L-14 .6z" fill="{BLUE}"/>'
