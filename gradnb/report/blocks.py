"""The pieces that every html form is made of: the report's, and those of the smaller results that look like it."""

from __future__ import annotations

import re
from html import escape

from . import words

SIGNS = {"error": "✗", "warning": "!", "ok": "✓"}


def verdict(kind: str, text: str) -> str:
    """The first line: ``kind`` is ``error``, ``warning`` or ``ok``, said by sign, colour and the text itself."""
    sign = f'<span class="gradnb-sign" aria-hidden="true">{SIGNS[kind]}</span>'
    return f'<p class="gradnb-verdict gradnb-{kind}">{sign} {inline(text)}</p>'


def inline(text: str, limit: int = 400) -> str:
    """One escaped line in which `backticks` become code."""
    line = words.clean(text)
    line = line if len(line) <= limit else line[: limit - 1] + "…"
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(line))


def prose(text: str, limit: int, lead: str = "") -> str:
    """Paragraphs and indented code, at most ``limit`` characters of them; ``lead`` is html that goes in front."""
    blocks, left = [], limit
    for body, code in words.paragraphs(text):
        if left <= 0:
            break
        if code:
            blocks.append(f"<pre>{escape(body[:left])}</pre>")
        else:
            blocks.append(f"<p>{lead if not blocks else ''}{inline(body, left)}</p>")
        left -= len(body)
    if blocks and lead and not blocks[0].startswith("<p>"):
        blocks.insert(0, f"<p>{lead}</p>")
    return "".join(blocks)


def fold(title: str, body: str) -> str:
    """A heading that opens; works without script."""
    return f"<details><summary>{escape(title)}</summary>{body}</details>"


def table(head: tuple[str, ...], rows: list[str]) -> str:
    """A table that scrolls in itself; ``rows`` are html."""
    cells = "".join(f"<th>{name}</th>" for name in head)
    return f'<div class="gradnb-scroll"><table><thead><tr>{cells}</tr></thead><tbody>' + "\n".join(rows) + "</tbody></table></div>"


def cell(text: str, kind: str = "") -> str:
    """One cell of a table's row, escaped; ``kind`` is its CSS class."""
    return f'<td class="{kind}">{escape(text)}</td>' if kind else f"<td>{escape(text)}</td>"
