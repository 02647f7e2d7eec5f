"""The report as html: one ``<div>`` for a notebook, or a page of its own. No script, nothing loaded."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

from . import blocks, drawn, fold, source, svg, words
from .blocks import cell as _cell
from .blocks import fold as _fold
from .blocks import inline as _inline
from .blocks import prose as _prose
from .blocks import table as _table
from .finding import Finding, Hop
from .report import Report
from .style import CSS, PAGE

LARGEST = 60_000  # bytes of one report; a notebook keeps every one of them


@dataclass(frozen=True, slots=True)
class Limits:
    """How much is spelled out; a report that comes out too large is written again with the next, tighter ones."""

    cards: int = 6
    brief: int = 20
    prose: int = 1500
    table: int = 40
    bars: int = 28
    events: int = 20
    still: bool = True
    boxes: int = 24  # of the graph; 0 leaves only the way to it
    graph_still: bool = True


TIGHTER = (
    Limits(),
    Limits(graph_still=False),
    Limits(boxes=12, graph_still=False),
    Limits(4, 12, 600, 24, 20, 12, boxes=12, graph_still=False),
    Limits(2, 8, 300, 12, 10, 6, boxes=0),
    Limits(1, 4, 200, 8, 6, 4, False, boxes=0),
)


def render(report: Report) -> str:
    """The notebook form, under 60 kB whatever the report holds."""
    text = ""
    for limits in TIGHTER:
        text = _render(report, limits)
        if len(text.encode("utf-8")) < LARGEST:
            break
    return text


def page(report: Report) -> str:
    """A self-contained page, light or dark as the reader's system is, that prints with everything unfolded."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>gradcheck: {escape(words.verdict(report))}</title><style>{PAGE}</style></head>\n"
        f"<body><main>{render(report)}</main></body></html>\n"
    )


def _render(report: Report, limits: Limits) -> str:
    parts = [f'<div class="gradnb">\n<style>{CSS}</style>', blocks.verdict(report.verdict, f"gradcheck: {words.verdict(report)}")]
    if report.raised is not None:
        parts.append(f"<p>{_inline(words.raised(report))}</p>")
    found = words.ordered(report.findings)
    full = [f for f in found if f.severity != "info"][: limits.cards]
    shown = {id(f) for f in full}
    rest = [f for f in found if id(f) not in shown]
    picture = words.focus(report)
    parts += [_card(report, f, limits, f is picture) for f in full]
    if picture is not None and id(picture) not in shown:
        parts.append(_picture(report, limits))
    parts += [_brief(f, limits) for f in rest[: limits.brief]]
    if len(rest) > limits.brief:
        parts.append(f"<p>and {words.count(len(rest) - limits.brief, 'more finding')}, see <code>to_dict()</code></p>")
    parts.append(drawn.section(report, limits.boxes, limits.graph_still))
    if picture is not None:
        parts.append(_fold("Gradient path, step by step", _path(picture)))
    if report.parameters:
        parts.append(_fold(f"Parameters ({len(report.parameters)})", _parameters(report, limits)))
        bars = svg.norm_bars(report, limits.bars)
        parts.append(_fold("Gradient norm by layer", f'<div class="gradnb-picture" hidden="hidden">{bars}</div><p>{_widest(report)}</p>'))
    if report.steps or report.losses:
        parts.append(_fold(_happened(report), _events(report, limits)))
    parts += _foot(report)
    return "\n".join(part for part in parts if part) + "\n</div>"


def _title(finding: Finding) -> str:
    return (
        f'<span class="gradnb-badge">{escape(words.clean(finding.severity, 20))}: {escape(words.clean(finding.cause, 40))}</span> '
        f"{_inline(finding.title, 300)}"
    )


def _card(report: Report, finding: Finding, limits: Limits, picture: bool) -> str:
    parts = [
        f'<div class="gradnb-card gradnb-{_severity(finding)}"><p class="gradnb-title" role="heading" aria-level="4">{_title(finding)}</p>'
    ]
    if finding.location is not None:
        parts.append(f'<p class="gradnb-place">{escape(words.where(finding.location))}</p>')
        parts.append(_code(source.frame(report, finding.location)))
    if finding.affected:
        pieces = fold.names(finding.affected, [row.name for row in report.parameters])
        verb = words.touches(report, finding).capitalize()
        parts.append(f"<p><strong>{verb}:</strong> {', '.join(f'<code>{escape(piece)}</code>' for piece in pieces)}</p>")
    parts.append(_prose(finding.explanation, limits.prose))
    parts.append(_prose(finding.fix, limits.prose, "<strong>Fix:</strong> "))
    parts.append(_proof(finding))
    related = words.distinct(finding.related)
    for place in related[:3]:
        parts.append(f"<p><strong>Note:</strong> {escape(words.where(place.location))}: {_inline(place.note, 200)}</p>")
        parts.append(_code(source.frame(report, place.location, context=0), False))
    if len(related) > 3:
        parts.append(f"<p>and {words.count(len(related) - 3, 'more place')}</p>")
    if picture:
        parts.append(_picture(report, limits))
    return "".join(part for part in parts if part) + "</div>"


def _proof(finding: Finding) -> str:
    """``--prove`` in one line: the word says it, the sign only repeats it."""
    if finding.proof is None:
        return ""
    word, _, rest = finding.proof["text"].partition(": ")
    sign = "✓ " if finding.proof["proven"] else ""
    return f"<p><strong>{sign}{escape(word.capitalize())}:</strong> {_inline(rest)}</p>"


def _brief(finding: Finding, limits: Limits) -> str:
    at = f' <span class="gradnb-place">{escape(words.where(finding.location))}</span>' if finding.location else ""
    body = _prose(finding.explanation, limits.prose // 5) + _prose(finding.fix, limits.prose // 5, "<strong>Fix:</strong> ")
    return f'<details class="gradnb-{_severity(finding)}"><summary>{_title(finding)}{at}</summary>{body}</details>'


def _severity(finding: Finding) -> str:
    return finding.severity if finding.severity in ("warning", "info") else "error"


def _code(lines: list[source.Line], band: bool = True) -> str:
    if not lines:
        return ""
    width = len(str(lines[-1].number))
    rows = []
    for line in lines:
        number = f'<span class="gradnb-n">{line.number:>{width}} | </span>'
        if line.start is None or line.end is None:
            rows.append(number + escape(line.text))
            continue
        before, hit, after = line.text[: line.start], line.text[line.start : line.end], line.text[line.end :]
        own = f"{number}{escape(before)}<mark>{escape(hit)}</mark>{escape(after)}"
        rows.append(f'<span class="gradnb-hot">{own}</span>' if band else own)
    return f"<pre>{chr(10).join(rows)}</pre>"


def _picture(report: Report, limits: Limits) -> str:
    """The picture twice: inline for a trusting front end, and as an image that our style hides.

    Where a sanitiser strips style and SVG, the image appears and ``hidden`` keeps the loose words of the SVG away
    (with a value: JupyterLab's sanitiser drops an attribute that has none).
    """
    path = svg.path_picture(report) if report.show_graph else ""
    if not path:
        return ""
    told = escape(words.verdict(report))
    still = f'<img class="gradnb-still" alt="{told}" width="{svg.WIDTH}" src="{svg.standalone(path)}">' if limits.still else ""
    return f'<figure><div class="gradnb-picture" hidden="hidden">{path}</div>{still}</figure>'


def _path(finding: Finding) -> str:
    rows = []
    lost = 0
    for step in fold.path(finding.path, 24):
        if isinstance(step, int):
            rows.append(f'<tr><td></td><td colspan="7">{words.count(step, "step")} not shown</td></tr>')
            continue
        lost += step.state == "lost"
        rows.append(_step(step, lost > 0, fold.cut_word(finding, lost)))
    return _table(("", "gradient", "value", "where", "module", "dtype", "requires_grad", "grad mode"), rows)


def _step(hop: Hop, lost: bool, word: str) -> str:
    cut = hop.state == "lost"
    sign = "✗" if cut else "┊" if lost else "│"
    said = word if cut else "lost" if lost else "connected"
    cells = [
        _cell(sign),
        _cell(said),
        _cell(words.clean(hop.label, 60), "gradnb-c"),
        _cell(words.where(hop.location, function=False, short=True) if hop.location else ""),
        _cell(words.clean(hop.module or "", 40), "gradnb-c"),
        _cell(words.clean(hop.dtype.removeprefix("torch."), 16)),
        _cell("yes" if hop.requires_grad else "no"),
        _cell(words.clean(hop.grad_mode, 12)),
    ]
    return f'<tr class="gradnb-bad">{"".join(cells)}</tr>' if cut else f"<tr>{''.join(cells)}</tr>"


def _parameters(report: Report, limits: Limits) -> str:
    groups, left_out = fold.table(report.parameters, words.starved(report), limits.table)
    rows = []
    for group in groups:
        first = group.rows[0]
        kind = ' class="gradnb-bad"' if not group.fine else ' class="gradnb-dim"' if group.state != "ok" else ""
        cells = [
            _cell("✗" if group.starved else "" if group.fine else "!"),
            _cell(words.clean(group.label, 60) or "(top level)", "gradnb-c"),
            _cell(group.inside(), "gradnb-c"),
            _cell(group.state),
            _cell(words.norm_range(row.grad_norm for row in group.rows)),
            _cell(_optimizer(report, first.optimizer)),
            _cell(words.moved(first)),
        ]
        rows.append(f"<tr{kind}>{''.join(cells)}</tr>")
    more = f"<p>and {words.count(left_out, 'more parameter')}, see <code>to_dict()</code></p>" if left_out else ""
    return _table(("", "module", "parameters", "gradient", "norm", "optimizer", "moved"), rows) + more


def _optimizer(report: Report, index: int | None) -> str:
    if index is None:
        return "none"
    return words.clean(report.optimizers[index], 30) if 0 <= index < len(report.optimizers) else f"opt {index}"


def _widest(report: Report) -> str:
    """The norms in one sentence, for a reader without the picture."""
    known = [(row.grad_norm, row.name) for row in report.parameters if row.grad_norm and row.gradient == "ok"]
    if not known:
        return "No parameter has a finite gradient other than zero."
    low, high = min(known), max(known)
    return (
        f"Largest {words.norm(high[0])} (<code>{escape(words.clean(high[1], 80))}</code>), "
        f"smallest {words.norm(low[0])} (<code>{escape(words.clean(low[1], 80))}</code>)."
    )


def _happened(report: Report) -> str:
    passes = sum(1 for step in report.steps if step.kind == "backward")
    steps = sum(1 for step in report.steps if step.kind == "step")
    return f"What happened ({words.count(passes, 'backward pass')}, {words.count(steps, 'optimizer step')})"


def _events(report: Report, limits: Limits) -> str:
    lines = []
    for loss in report.losses[: limits.events]:
        value = "" if loss.value is None else f" = {loss.value:.6g}"
        at = f" at {words.where(loss.location)}" if loss.location else ""
        lines.append(f"{words.clean(loss.name, 60)}{value}{at}" + ("" if loss.has_grad_fn else ", without history"))
    counted = words.events(report)
    lines += [f"{line}, {number} times" if number > 1 else line for line, number in counted[: limits.events]]
    left = max(0, len(counted) - limits.events) + max(0, len(report.losses) - limits.events)
    if left:
        lines.append(f"and {left} more")
    return "<ul>" + "".join(f"<li>{escape(line)}</li>" for line in lines) + "</ul>"


def _foot(report: Report) -> list[str]:
    parts = [f"<p>Note: {_inline(note, 300)}</p>" for note in report.notes[:5]]
    if report.environment:
        parts.append(f'<p class="gradnb-foot">{escape(words.elide_middle(words.environment(report), 400))}</p>')
    return parts
