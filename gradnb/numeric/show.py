"""The result of a numeric check as text and as html."""

from __future__ import annotations

import math
import textwrap
from html import escape

from ..report import blocks, words
from ..report.style import CSS
from .describe import number
from .result import Discrepancy, Gradient, NumericResult

WIDTH = 100
MOST = 8  # discrepancies and rows that are spelled out

MEANT = {
    "surrogate": "Fine if it is meant: a straight-through estimator or a surrogate gradient.",
    "saturated": "Fine if it is meant: a straight-through estimator lets the gradient pass where a clamp stops it.",
    "not-linear": "Fine if it is meant: the backward clips or normalises the gradient.",
    "non-deterministic": "Fine if it is meant: the backward adds noise to the gradient.",
    "sign": "Fine if it is meant: gradient reversal.",
}
IDENTITY = "Fine if it is meant: the function hands this input on unchanged, so only its backward does something."


def meant(found: Discrepancy) -> str:
    """The word that allows for a backward that differs on purpose; empty where that is unlikely."""
    if found.identity and not (found.factor is not None and found.factor < 0):
        return IDENTITY
    return MEANT["sign"] if found.identity else MEANT.get(found.kind, "")


def verdict(result: NumericResult) -> str:
    """The answer in one sentence, without a full stop."""
    what = "second derivative" if result.order == 2 else "gradient"
    name = f"numeric check of {words.clean(result.name, 60)}"
    if result.status == "unchecked":
        return f"{name}: could not be checked, {words.clean(result.reason, 200)}"
    if result.status == "agrees":
        counted = [row for row in result.gradients if row.state == "agrees"]
        agree = "agrees" if len(counted) == 1 else "agree"
        return f"{name}: {words.count(len(counted), what)} {agree} with finite differences"
    wrong = [row for row in result.gradients if row.state == "differs"]
    if not wrong:
        return f"{name}: {words.clean(result.discrepancies[0].text if result.discrepancies else result.reason, 250)}"
    if len(wrong) == len(result.gradients):
        return (
            f"{name}: the {what} differs from finite differences"
            if len(wrong) == 1
            else f"{name}: all {len(wrong)} {what}s differ from finite differences"
        )
    differ = "differs" if len(wrong) == 1 else "differ"
    return f"{name}: {len(wrong)} of {words.count(len(result.gradients), what)} {differ} from finite differences"


def evidence(found: Discrepancy) -> list[str]:
    """The numbers behind a discrepancy, a line each."""
    lines = []
    if found.analytic is not None and found.numeric is not None and found.entry:
        off = f", {found.relative:.0%} of it" if found.relative is not None and math.isfinite(found.relative) else ""
        lines.append(
            f"`{found.entry}`: backward {number(found.analytic)}, finite differences {number(found.numeric)} "
            f"(off by {number(found.absolute)}{off})"
        )
    count = f"{found.wrong} of {found.checked} elements differ" if found.checked > 1 else ""
    line = "; ".join(part for part in (count, found.hint) if part)
    return [
        *lines,
        *([f"{line[:1].upper()}{line[1:]}" + ("" if line.endswith("?") else ".")] if line else []),
        *([meant(found)] if meant(found) else []),
    ]


def foot(result: NumericResult) -> str:
    """How it was compared."""
    parts = [f"compared in {result.dtype} with a step of {result.eps:g}"]
    if any(row.checked < row.of for row in result.gradients):
        parts.append("element by element where the table says, and along one random direction through all of them")
    if result.judged:
        parts.append(result.judged)
    return "; ".join(parts)


def text(result: NumericResult) -> str:
    """For a terminal, a log and ``text/plain``."""
    lines = _wrap(words.clean(verdict(result)), "", "  ")
    for found in result.discrepancies[:MOST]:
        lines += ["", *_wrap(f"{found.kind}: {words.clean(found.text, 400)}", "", "  ")]
        for line in evidence(found):
            lines += _wrap(line.replace("`", "") if line.startswith("`") else line, "  = ")
    if len(result.discrepancies) > MOST:
        lines.append(f"and {len(result.discrepancies) - MOST} more, see to_dict()")
    if result.gradients:
        lines += ["", *_table(result)]
    for note in result.notes:
        lines += _wrap(f"note: {note}", "", "  ")
    if result.status != "unchecked":
        lines += _wrap(foot(result), "", "  ")
    if result.second is not None:
        lines += ["", text(result.second)]
    return "\n".join(lines)


def html(result: NumericResult) -> str:
    """For a notebook: the look of the report, nothing loaded, no script."""
    return f'<div class="gradnb">\n<style>{CSS}</style>{_html(result)}\n</div>'


def _html(result: NumericResult) -> str:
    kind = {"agrees": "ok", "unchecked": "warning"}.get(result.status, "error")
    if result.discrepancies and all(meant(found) for found in result.discrepancies):
        kind = "warning"
    parts = [blocks.verdict(kind, verdict(result))]
    for found in result.discrepancies[:MOST]:
        body = "".join(f"<p>{blocks.inline(line)}</p>" for line in evidence(found))
        title = f'<span class="gradnb-badge">{escape(found.kind)}</span> {blocks.inline(found.text)}'
        kind = " gradnb-warning" if meant(found) else ""
        parts.append(f'<div class="gradnb-card{kind}"><p class="gradnb-title" role="heading" aria-level="4">{title}</p>{body}</div>')
    if len(result.discrepancies) > MOST:
        parts.append(f"<p>and {len(result.discrepancies) - MOST} more, see <code>to_dict()</code></p>")
    if result.gradients:
        rows = [_row(row) for row in _worst_first(result)[: 3 * MOST]]
        head = ("", "input", "shape", "output", "elements compared", "largest difference", "")
        parts.append(blocks.fold(f"Gradients ({len(result.gradients)})", blocks.table(head, rows)))
    parts += [f"<p>Note: {blocks.inline(note)}</p>" for note in result.notes]
    if result.status != "unchecked":
        parts.append(f'<p class="gradnb-foot">{escape(foot(result))}</p>')
    if result.second is not None:
        parts.append(_html(result.second))
    return "\n".join(parts)


def _row(row: Gradient) -> str:
    sign, compared, off = _cells(row)
    cells = [
        blocks.cell(sign),
        blocks.cell(words.clean(row.input, 60), "gradnb-c"),
        blocks.cell(str(list(row.shape)), "gradnb-c"),
        blocks.cell(words.clean(row.output, 60), "gradnb-c"),
        blocks.cell(compared),
        blocks.cell(off),
        blocks.cell(row.state),
    ]
    kind = ' class="gradnb-bad"' if row.state == "differs" else ""
    return f"<tr{kind}>{''.join(cells)}</tr>"


def _cells(row: Gradient) -> tuple[str, str, str]:
    sign = {"differs": "✗", "agrees": "✓"}.get(row.state, "?")
    of = f" of {row.of}" if row.checked < row.of else ""
    skipped = f", {row.skipped} left out" if row.skipped else ""
    off = "" if row.state == "not measurable" else f"{row.worst:.1e}" if math.isfinite(row.worst) else "not finite"
    return sign, f"{row.checked}{of}{skipped}", off


def _worst_first(result: NumericResult) -> list[Gradient]:
    return sorted(result.gradients, key=lambda row: row.state != "differs")


def _table(result: NumericResult) -> list[str]:
    rows = _worst_first(result)
    body = [("", "input", "output", "elements", "largest difference", "")]
    for row in rows[: 3 * MOST]:
        sign, compared, off = _cells(row)
        body.append((sign, words.clean(row.input, 40), words.clean(row.output, 30), compared, off, row.state))
    widths = [max(len(cells[i]) for cells in body) for i in range(len(body[0]))]
    lines = [("  " + "  ".join(cell.ljust(width) for cell, width in zip(cells, widths))).rstrip() for cells in body]
    return lines + ([f"  and {len(rows) - 3 * MOST} more, see to_dict()"] if len(rows) > 3 * MOST else [])


def _wrap(value: str, first: str, rest: str | None = None) -> list[str]:
    inner = " " * len(first) if rest is None else rest
    line = words.clean(value)
    return textwrap.wrap(line, WIDTH, initial_indent=first, subsequent_indent=inner, break_on_hyphens=False) or [first.rstrip()]
