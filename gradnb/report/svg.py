"""Two small pictures as SVG strings: the way of the data to the loss, and the gradient norms of the layers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from html import escape

from . import fold, words
from .finding import Finding, Hop
from .pen import BLUE, GREY, VERMILLION, WIDTH, standalone
from .pen import svg as _svg
from .pen import text as _text
from .report import Report

__all__ = ["BLUE", "GREY", "VERMILLION", "WIDTH", "norm_bars", "path_picture", "standalone"]

BOX_X, BOX_W, BOX_H, ROW = 34, 270, 30, 48
SIDE_X = BOX_X + BOX_W + 22


def path_picture(report: Report) -> str:
    """The way from the starved parameter down to the loss; empty where no finding has a path."""
    found = words.focus(report)
    if found is None:
        return ""
    steps = _by_line(fold.path(found.path))
    rows = [34 if isinstance(step, int) else ROW for step in steps]
    tops = [10 + sum(rows[:i]) for i in range(len(rows))]
    height = 10 + sum(rows) + 14
    parts: list[str] = []
    lost = 0
    for i, (step, top) in enumerate(zip(steps, tops, strict=True)):
        lost += 0 if isinstance(step, int) else step[0].state == "lost"
        if i + 1 < len(steps):
            parts.append(_edge(top + (22 if isinstance(step, int) else BOX_H), tops[i + 1], lost > 0))
        if isinstance(step, int):
            parts.append(_text(BOX_X + BOX_W / 2, top + 15, f"{words.count(step, 'step')} not shown", 12, "mid", opacity=".75"))
        else:
            parts += _node(step, top, lost > 0, fold.cut_word(found, lost), len(set(found.affected)) - 1 if i == 0 else 0)
    base = height - 9
    for x, colour, dash, told in (
        (BOX_X, BLUE, "", "solid: connected, a gradient can return"),
        (SIDE_X, VERMILLION, ' stroke-dasharray="4 4"', "dashed: the data goes on, the gradient is lost"),
    ):
        parts.append(f'<path d="M{x} {base - 4}h28" stroke="{colour}" stroke-width="2.5" fill="none"{dash}/>')
        parts.append(_text(x + 36, base, told, 11.5, opacity=".8"))
    return _svg(height, f"{words.verdict(report)}. {_spoken(found)}", parts)


def _by_line(steps: list[Hop | int]) -> list[list[Hop] | int]:
    """Neighbouring operations of one source line and one state share a box; a break and the two ends stand alone."""
    joined: list[list[Hop] | int] = []
    for step in steps:
        last = joined[-1] if joined else None
        if isinstance(step, int):
            joined.append(step)
        elif isinstance(last, list) and step.kind == last[0].kind == "op" and step.state != "lost" and _line(step) == _line(last[0]):
            last.append(step)
        else:
            joined.append([step])
    return joined


def _line(hop: Hop) -> tuple[str, str, str | None, int]:
    where = hop.location
    return (hop.state, where.filename, where.file, where.line) if where else (hop.state, "", hop.label, id(hop))


def _spoken(finding: Finding) -> str:
    hops, cut = finding.path, fold.cut(finding)
    way = f"Path from {words.clean(hops[0].label, 80)} to {words.clean(hops[-1].label, 40)}"
    return f"{way}, lost at {words.clean(cut.label, 40)}, {words.where(cut.location)}." if cut else f"{way}."


def _told(hop: Hop) -> str:
    shape = f" {hop.shape}" if hop.shape is not None else ""
    facts = [
        words.clean(hop.label, 80),
        words.where(hop.location, short=True) if hop.location else "",
        words.clean(f"{hop.dtype}{shape}", 50),
        "requires grad" if hop.requires_grad else "does not require grad",
        f"grad mode {words.clean(hop.grad_mode, 12)}",
        "gradient lost here" if hop.state == "lost" else "",
    ]
    return ", ".join(filter(None, facts))


def _node(hops: list[Hop], top: float, lost: bool, word: str, others: int) -> Iterator[str]:
    """A box with the names, and beside it where it happens and with which code."""
    hop, middle, cut = hops[0], top + BOX_H / 2, hops[0].state == "lost"
    colour = VERMILLION if cut else "currentColor" if lost else BLUE
    look = 'fill-opacity=".16" stroke-width="2.5"' if cut else 'fill-opacity=".07" stroke-width="1.5"'
    look += ' stroke-opacity=".45"' if lost and not cut else ""
    yield f"<g><title>{escape('; '.join(_told(h) for h in hops))}</title>"
    corner = 5 if hop.kind == "op" else 15
    box = f'x="{BOX_X}" y="{top:g}" width="{BOX_W}" height="{BOX_H}" rx="{corner}"'
    yield f'<rect {box} fill="{colour}" stroke="{colour}" {look}/>'
    names = [words.clean(h.label) for h in hops]
    label = ", ".join(names if len(names) <= 3 else [names[0], "…", names[-1]])
    yield _text(BOX_X + BOX_W / 2, middle + 4.5, words.elide_middle(label, 32), 13, "mid", mono=True, bold=cut or hop.kind != "op")
    if cut:
        yield f'<circle cx="{BOX_X}" cy="{middle:g}" r="12" fill="{VERMILLION}"/>'
        cross = f"M{BOX_X - 5} {middle - 5:g}l10 10m0 -10l-10 10"
        yield f'<path d="{cross}" stroke="#fff" stroke-width="3" stroke-linecap="round" fill="none"/>'
    place = words.elide_middle(words.where(hop.location, short=True), 44) if hop.location else ""
    if others > 0:
        place = f"and {others} more {'parameters end' if others > 1 else 'parameter ends'} at the same cut"
    elif hop.module and place:
        place = f"{place} · {words.clean(hop.module, 28)}"
    place = _short(place, 52 if cut else 64)
    code = hop.location.code.strip() if hop.location else ""
    base, x = middle - 3 if code else middle + 4, float(SIDE_X)
    if cut:
        wide = len(word) * 7 + 14
        yield f'<rect x="{x - 6:g}" y="{base - 12.5:g}" width="{wide}" height="17" rx="4" fill="{VERMILLION}" fill-opacity=".16"/>'
        yield _text(x + 1, base, word, 12.5, bold=True)
        x += wide
    yield _text(x, base, place, 12, opacity="" if cut else ".8")
    if code:
        yield _text(SIDE_X, middle + 13, _short(code, 60), 11.5, mono=True, opacity="" if cut else ".8")
    yield "</g>"


def _short(text: str, limit: int) -> str:
    line = words.clean(text)
    return line if len(line) <= limit else line[: limit - 1] + "…"


def _edge(start: float, end: float, broken: bool) -> str:
    x = BOX_X + BOX_W // 2
    colour = VERMILLION if broken else BLUE
    dash = ' stroke-dasharray="4 4"' if broken else ""
    return (
        f'<path d="M{x} {start:g}V{end - 6:g}" stroke="{colour}" stroke-width="2.5"{dash} fill="none"/>'
        f'<path d="M{x - 5} {end - 8:g}l5 7l5 -7z" fill="{colour}"/>'
    )


def norm_bars(report: Report, limit: int = 28) -> str:
    """One bar a layer on a logarithmic axis; what has no norm is told by sign and word. Empty without parameters."""
    groups, left_out = fold.table(report.parameters, words.starved(report), limit)
    if not groups:
        return ""
    left, right, row = 250, WIDTH - 100, 22
    finite = [value for group in groups for value in fold.finite(group)]
    low = math.floor(math.log10(min(finite))) if finite else -1
    low -= bool(finite) and math.log10(min(finite)) < low + 0.1  # the smallest must still have a bar to see
    high = max(low + 1, math.ceil(math.log10(max(finite)))) if finite else 0
    scale = (right - left) / (high - low)
    height = 26 + row * len(groups) + (20 if left_out else 4)
    parts: list[str] = []
    for power in range(low, high + 1, max(1, math.ceil((high - low) / 6))):
        x = left + (power - low) * scale
        parts.append(f'<path d="M{x:.0f} 20V{24 + row * len(groups)}" stroke="currentColor" stroke-opacity=".18"/>')
        parts.append(_text(x, 13, f"1e{power:+03d}", 11, "mid", opacity=".8"))
    for i, group in enumerate(groups):
        parts += _bar(group, 26 + row * i, left, lambda value: left + (math.log10(value) - low) * scale)
    if left_out:
        parts.append(_text(8, height - 6, f"and {words.count(left_out, 'more parameter')}", 11.5, opacity=".8"))
    return _svg(height, f"Gradient norm of {words.count(len(groups), 'layer')} on a logarithmic axis", parts)


def _bar(group: fold.Group, top: float, left: float, position: Callable[[float], float]) -> Iterator[str]:
    label = group.brief(200)
    values = fold.finite(group)
    told = words.norm_range(row.grad_norm for row in group.rows) if group.state == "ok" else group.state
    yield f"<g><title>{escape(f'{label}: {told}')}</title>"
    yield _text(left - 10, top + 13, label if len(label) <= 33 else words.clean(group.label or label, 33), 11.5, "end", mono=True)
    if group.state == "ok" and values:
        begin, end = position(values[0]), max(position(values[-1]), left + 2)
        yield f'<rect x="{left:g}" y="{top + 3:g}" width="{end - left:.0f}" height="12" rx="2" fill="{BLUE}"/>'
        if begin < end - 2:  # the part between the smallest and the largest norm of the layer is lighter
            yield f'<rect x="{begin:.0f}" y="{top + 3:g}" width="{end - begin:.0f}" height="12" rx="2" fill="#fff" fill-opacity=".35"/>'
        yield _text(end + 6, top + 13, words.norm(values[-1]), 11)
    else:
        sign, colour = ("–", GREY) if group.unwanted else ("✗" if group.starved else "!", VERMILLION)
        yield _text(left + 4, top + 13, sign, 13, bold=True, colour=colour)
        yield _text(left + 20, top + 13, group.state + (" (lost)" if group.starved and group.state == "no gradient" else ""), 11.5)
    yield "</g>"
