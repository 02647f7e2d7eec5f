"""The static picture: one inline SVG, no script and no style sheet, in the text's own colour on any background."""

from __future__ import annotations

import math
from dataclasses import replace
from html import escape

from ...report import words
from ...report.pen import BLUE, GREY, VERMILLION, WIDTH, alone, standalone
from ...report.pen import svg as sheet
from ..model import CHILD, Graph, Tree
from .legend import Legend
from .order import LIMIT, order
from .place import place
from .scene import Line, Scene
from .shapes import STROKE, Inside, closed, frame, look_inside, number
from .titles import of_line

Point = tuple[float, float]
LEAST = 0.75  # a wider picture is scaled down to this, not further: its rows are broken once more
EDGE, BESIDE = 4.0, 24.0  # px around the picture; between it and its legend
THIN, THICK, PLAIN = 1.2, 4.0, 1.6  # px: a line of the smallest and of the largest norm, of no known norm
KINDS = {"data": (GREY, "", 1.2), "flows": (BLUE, "", PLAIN), "starved": (VERMILLION, "", 1.2), "lost": (VERMILLION, "5 4", 2.2)}


def draw(graph: Graph, tree: Tree, *, width: float = WIDTH, legend: bool = True) -> str:
    """The picture as an ``<svg>`` element, at most ``width`` px wide. Boxes are open as ``Box.open`` says."""
    tree, scene = _fitting(graph, tree, width)
    inside = look_inside(graph, tree)
    scale = _Widths(scene)
    told = Legend(graph, tree, scene, scale.told, inside)
    beside = scene.w + 2 * EDGE + BESIDE + told.beside() <= width
    wide = max(scene.w + 2 * EDGE, width)
    left = EDGE if beside else (wide - scene.w) / 2
    parts = [
        f'<g transform="translate({number(left)} {EDGE:g})">',
        *_frames(graph, tree, scene, inside),
        *_lines(graph, tree, scene, scale),
    ]
    shut = [closed(graph, tree, placed, inside) for placed in scene.boxes if not placed.open]
    parts += [f'<g font-size="11" text-anchor="middle" stroke-width="{STROKE:g}">', *shut, "</g>", *_crosses(tree, scene), "</g>"]
    height = scene.h + 2 * EDGE
    if legend:
        if beside:
            drawn, below = told.column(left + scene.w + BESIDE, EDGE + 14, wide)
            parts += drawn
            height = max(height, below)
        else:
            drawn, height = told.rows(EDGE, height + 14, wide)
            parts += drawn
    return sheet(math.ceil(height), _spoken(graph, tree), parts, wide, width)


def _fitting(graph: Graph, tree: Tree, width: float) -> tuple[Tree, Scene]:
    """The scene, with rows broken until it can be read at this width."""
    scene = place(graph, tree)
    for limit in (0.75 * LIMIT, 0.5 * LIMIT):
        if scene.w + 2 * EDGE <= width / LEAST:
            break
        other = Tree([replace(box) for box in tree.boxes], tree.of_node, tree.left_out)
        order(graph, other, limit, seen=True)
        narrower = place(graph, other)
        if narrower.w < scene.w:
            tree, scene = other, narrower
    return tree, scene


def _frames(graph: Graph, tree: Tree, scene: Scene, inside: Inside) -> list[str]:
    frames = [frame(graph, tree, placed, inside) for placed in scene.boxes if placed.open and placed.depth]
    return ['<g font-size="11">', *frames, "</g>"] if frames else []


class _Widths:
    """The width of a line by the logarithm of the norm of the gradient on it."""

    def __init__(self, scene: Scene) -> None:
        norms = [line.norm for line in scene.lines if line.kind == "flows" and line.norm and math.isfinite(line.norm)]
        self.low, self.high = (math.log10(min(norms)), math.log10(max(norms))) if norms else (0.0, 0.0)
        self.told = (10**self.low, 10**self.high) if self.high - self.low >= 0.5 else None

    def of(self, line: Line) -> float:
        if line.kind != "flows" or not line.norm or not math.isfinite(line.norm) or self.told is None:
            return KINDS[line.kind][2]
        return THIN + (THICK - THIN) * (math.log10(line.norm) - self.low) / (self.high - self.low)


def _lines(graph: Graph, tree: Tree, scene: Scene, scale: _Widths) -> list[str]:
    """All lines, those that matter most on top; each kind in a group that has its look."""
    parts = []
    shut = {placed.box for placed in scene.boxes if not placed.open}
    for kind, (colour, dash, width) in KINDS.items():
        mine = [line for line in scene.lines if line.kind == kind]
        if not mine:
            continue
        dashed = f' stroke-dasharray="{dash}"' if dash else ""
        parts.append(f'<g fill="none" stroke="{colour}" stroke-width="{width:g}"{dashed}>')
        drawn: set[tuple] = set()
        for line in sorted(mine, key=lambda line: -len(line.points)):
            wide = scale.of(line)
            own = f' stroke-width="{wide:.1f}"' if abs(wide - width) > 0.05 else ""
            parts.append(f'<path d="{way(_branch(line, drawn))}"{own}><title>{escape(of_line(graph, tree, line))}</title></path>')
        heads = "".join(_head(line, tree, shut, scale.of(line)) for line in mine)
        parts.append(f'</g><path d="{heads}" fill="{colour}"/>' if heads else "</g>")
    return parts


def _branch(line: Line, drawn: set[tuple]) -> list[Point]:
    """The points of a line without what it has in common, at either end, with longer ones that are drawn already."""
    pieces = [(line.box, a, b) for a, b in zip(line.points, line.points[1:])]
    start, end = 0, len(pieces)
    while start < end - 1 and pieces[start] in drawn:
        start += 1
    while start < end - 1 and pieces[end - 1] in drawn:
        end -= 1
    drawn.update(pieces)
    return line.points[start : end + 1]


def way(points: list[Point]) -> str:
    """The path of a line: straight down through rows, a curve across each gap."""
    (x, y), *rest = points
    path, straight = f"M{number(x)} {number(y)}", False
    for nx, ny in rest:
        if number(nx) == number(x):
            straight = True
        elif ny != y or nx != x:
            path += f"V{number(y)}" if straight else ""
            middle = number((y + ny) / 2)
            path += f"C{number(x)} {middle} {number(nx)} {middle} {number(nx)} {number(ny)}"
            straight = False
        x, y = nx, ny
    return path + (f"V{number(y)}" if straight else "")


def _into(tree: Tree, line: Line) -> int:
    """The box at the lower end of a line, -1 for an exit."""
    target = tree.boxes[line.box].links[line.link].target
    return target // 4 if target % 4 == CHILD else -1


def _head(line: Line, tree: Tree, shut: set[int], wide: float) -> str:
    """An arrow head where a line reaches a closed box; none at the border of an open one, where it goes on."""
    if line.cut or _into(tree, line) not in shut:
        return ""
    x, y = line.points[-1]
    half = 3 + wide / 2
    return f"M{number(x - half)} {number(y - 1 - 2 * half)}h{number(2 * half)}L{number(x)} {number(y - 0.5)}z"


def _crosses(tree: Tree, scene: Scene) -> list[str]:
    """The place where the gradient is lost: a cross on the line, just above the marked box."""
    parts = []
    shut = {placed.box for placed in scene.boxes if not placed.open}
    ends = {line.points[-1] for line in scene.lines if line.cut and _into(tree, line) in shut}
    for x, y in sorted(ends):
        parts.append(
            f'<circle cx="{number(x)}" cy="{number(y - 11)}" r="8.5" fill="{VERMILLION}"/>'
            f'<path d="M{number(x - 3.8)} {number(y - 14.8)}l7.6 7.6m0-7.6l-7.6 7.6" stroke="#fff" stroke-width="2.4" '
            'stroke-linecap="round"/>'
        )
    return parts


def _spoken(graph: Graph, tree: Tree) -> str:
    """The picture in a sentence, for who hears it."""
    kinds = [node.kind for node in graph.nodes]
    counted = [words.count(kinds.count(kind), noun) for kind, noun in _NOUNS if kind in kinds]
    told = ["Graph" + (f" of {words.clean(graph.title, 80)}" if graph.title else "") + ": " + (", ".join(counted) or "nothing in it")]
    for node in graph.nodes:
        if node.mark is not None and len(told) < 4:
            told.append(f"{words.clean(node.label, 60)} is marked {words.clean(node.mark.word, 40)}, {words.clean(node.mark.text, 120)}")
    return ". ".join(told) + "."


_NOUNS = (("operation", "operation"), ("parameter", "parameter"), ("input", "input"), ("loss", "loss"))


def standing_alone(picture: str) -> str:
    """The same picture as the text of an SVG file, with colours of its own."""
    return alone(picture)


def figure(picture: str, told: str) -> str:
    """The picture for a notebook: inline, and as an image for a front end that strips SVG; ``told`` is read where neither shows."""
    told = escape("\n".join(words.clean(line) for line in told.splitlines()))
    still = f'<img class="gradnb-still" alt="{told}" width="{WIDTH}" src="{standalone(picture)}">'
    style = "".join(f".gradnb-graph {rule}" for rule in _STYLE)
    return f'<div class="gradnb-graph"><style>{style}</style><div hidden="hidden">{picture}</div>{still}</div>'


# Where a sanitiser strips style and SVG, the image appears and ``hidden`` keeps the loose words of the SVG away.
_STYLE = ("div[hidden]{display:block!important}", "img.gradnb-still{display:none}", "svg{display:block;max-width:100%;height:auto}")
