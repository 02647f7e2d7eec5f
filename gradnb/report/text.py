"""The report as plain text, written like the best compiler errors."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from . import fold, source, words
from .finding import Finding, Hop, Related
from .report import Report
from .words import STATES

WIDTH = 88
IN_FULL = 4  # findings spelled out; the rest are told briefly
TABLE_LINES = 24
RELATED = 4
BRIEF = 8
BLOCK = 14  # lines of one paragraph


def render(report: Report) -> str:
    """The whole report, without colours, for a terminal, a log and ``text/plain``."""
    lines = [f"gradcheck: {words.verdict(report)}", *findings(report)]
    found = words.focus(report)
    if found is not None:
        lines += ["", *_path(found)]
    if report.parameters:
        lines += ["", *_parameters(report)]
    closing = list(_closing(report))
    return "\n".join([*lines, "", *closing] if closing else lines)


def findings(report: Report) -> list[str]:
    """The lines of what was found, without the path, the parameters and the rest; an empty line before each part."""
    lines: list[str] = []
    spelled = 0
    brief: list[Finding] = []
    for finding in words.ordered(report.findings):
        if finding.severity == "info" or spelled >= IN_FULL:
            brief.append(finding)
        else:
            spelled += 1
            lines += ["", *_finding(report, finding, RELATED if spelled == 1 else 1)]
    if brief:
        lines.append("")
    for finding in brief[:BRIEF]:
        lines += _short(finding, len(brief) <= BRIEF)
    if len(brief) > BRIEF:
        lines.append(f"and {words.count(len(brief) - BRIEF, 'more finding')}, see to_dict()")
    return lines


def _finding(report: Report, finding: Finding, places: int) -> list[str]:
    lines = _wrap(f"{finding.severity}[{finding.cause}]: {words.clean(finding.title, 300)}", "", "  ", 100)
    margin = 2
    if finding.location is not None:
        code = source.frame(report, finding.location)
        margin = max([len(str(line.number)) for line in code], default=1) + 1
        lines.append(f"{' ' * (margin - 1)}--> {words.where(finding.location)}")
        lines += _code(code, margin, _caption(finding))
    gutter = " " * margin + "= "
    if finding.affected:
        pieces = fold.names(finding.affected, [row.name for row in report.parameters])
        lines += _wrap(f"{words.touches(report, finding)}: {', '.join(pieces)}", gutter)
    for text, code_block in words.paragraphs(finding.explanation):
        lines += _block(text, code_block, gutter)
    for i, (text, code_block) in enumerate(words.paragraphs(finding.fix)):
        lines += _block(f"fix: {text}" if i == 0 else text, code_block and i > 0, gutter if i == 0 else " " * (margin + 2))
    if finding.proof is not None:
        lines += _wrap(finding.proof["text"], gutter)
    related = words.distinct(finding.related)
    for place in related[:places]:
        lines += _note(report, place, margin)
    if len(related) > places:
        lines.append(f"{' ' * margin}= note: and {words.count(len(related) - places, 'more place')}")
    return lines


def _short(finding: Finding, repair: bool) -> list[str]:
    """An info finding, and one too many to spell out: what, where, the repair."""
    at = f" ({words.where(finding.location)})" if finding.location else ""
    lines = _wrap(f"{finding.severity}[{finding.cause}]: {words.clean(finding.title, 300)}{at}", "", "  ", 100)
    if not repair:
        return lines
    fix = next((text for text, code in words.paragraphs(finding.fix) if not code), "")
    return lines + (_wrap(f"fix: {fix}", "  = ")[:2] if fix else [])


def _caption(finding: Finding) -> str:
    """A word behind the carets, only where the gradient path says that the break is on this very line."""
    here = finding.location
    for hop in finding.path:
        if hop.state == "lost" and hop.location and here and (hop.location.filename, hop.location.line) == (here.filename, here.line):
            return "the gradient is lost here"
    return ""


def _code(code: Sequence[source.Line], margin: int, caption: str = "") -> Iterator[str]:
    if not code:
        return
    yield " " * margin + "|"
    for line in code:
        yield f"{line.number:>{margin - 1}} | {line.text}".rstrip()
        if line.marked:
            yield f"{' ' * margin}| {line.underline()} {caption}".rstrip()
    yield " " * margin + "|"


def _note(report: Report, related: Related, margin: int) -> list[str]:
    lines = _wrap(f"note: {words.where(related.location)}: {words.clean(related.note, 300)}", " " * margin + "= ")
    for line in source.frame(report, related.location, context=0):
        lines.append(f"{' ' * (margin + 2)}{line.number} | {line.text.strip()}")
    return lines


def _block(text: str, code: bool, gutter: str) -> list[str]:
    inner = " " * len(gutter)
    lines = [f"{inner}    {line}".rstrip() for line in text.splitlines()] if code else _wrap(text, gutter, inner)
    return lines if len(lines) <= BLOCK else [*lines[:BLOCK], f"{inner}…"]


def _wrap(text: str, first: str, rest: str | None = None, width: int = WIDTH) -> list[str]:
    inner = " " * len(first) if rest is None else rest
    return textwrap.wrap(
        words.clean(text), width, initial_indent=first, subsequent_indent=inner, break_long_words=False, break_on_hyphens=False
    ) or [first.rstrip()]


def _path(finding: Finding) -> list[str]:
    """The way from the parameter to the loss, one step a line, the break marked by sign and by word."""
    head = ("value", "module", "where", "dtype", "requires_grad", "grad mode", "")
    body: list[tuple[str, tuple[str, ...]]] = []
    lost = 0
    for step in fold.path(finding.path):
        if isinstance(step, int):
            body.append(("┊" if lost else "│", (f"({words.count(step, 'step')} not shown)", "", "", "", "", "", "")))
            continue
        lost += step.state == "lost"
        sign = "✗" if step.state == "lost" else "┊" if lost else "●" if step.kind == "parameter" else "│"
        remark = f"✗ {fold.cut_word(finding, lost)}" if step.state == "lost" else ""
        body.append((sign, (*_cells(step), remark)))
    widths = [max(len(row[i]) for row in [head, *(cells for _, cells in body)]) for i in range(len(head))]
    lines = [f"gradient path of {words.clean(finding.path[0].label, 60)} (│ connected, ┊ data goes on, gradient does not):"]
    for sign, cells in [(" ", head), *body]:
        lines.append(f"  {sign}  {'  '.join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True))}".rstrip())
    return lines


def _cells(hop: Hop) -> tuple[str, ...]:
    return (
        words.clean(hop.label, 36),
        words.clean(hop.module or "", 24),
        words.where(hop.location, function=False, short=True) if hop.location else "",
        words.clean(hop.dtype.removeprefix("torch."), 12),
        "yes" if hop.requires_grad else "no",
        words.clean(hop.grad_mode, 10),
    )


def _parameters(report: Report) -> list[str]:
    """One line a module where all is well in it; what is not well stands apart with a cross."""
    groups, left_out = fold.table(report.parameters, words.starved(report), TABLE_LINES)
    rows = []
    for group in groups:
        rows.append(
            (
                "" if group.fine else "✗" if group.starved else "!",
                words.clean(group.label, 40) or "(top level)",
                group.inside(),
                group.state,
                _norms(group),
                _optimizer(group.rows[0].optimizer),
                words.moved(group.rows[0]),
            )
        )
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [f"{words.count(len(report.parameters), 'parameter')}:"]
    for row in rows:
        lines.append(("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))).rstrip())
    if left_out:
        lines.append(f"     and {words.count(left_out, 'more parameter')}, see to_dict()")
    return lines


def _norms(group: fold.Group) -> str:
    text = words.norm_range(row.grad_norm for row in group.rows) if group.state != STATES["zero"] else ""
    return f"norm {text}" if text and text[0].isdigit() else text


def _optimizer(index: int | None) -> str:
    return "no optimizer" if index is None else f"opt {index}"


def _closing(report: Report) -> Iterator[str]:
    if report.raised is not None:
        yield words.raised(report)
    if report.optimizers:
        legend = ", ".join(f"opt {i} is {words.clean(label, 60)}" for i, label in enumerate(report.optimizers))
        yield from _wrap(f"optimizers: {legend}", "", "  ")
    for note in report.notes[:8]:
        yield from _wrap(f"note: {note}", "", "  ")[:4]
    if report.environment:
        yield from _wrap(f"environment: {words.elide_middle(words.environment(report), 400)}", "", "  ", 120)
