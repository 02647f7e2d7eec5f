"""Finds the user's source line of a location and the columns to underline."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

from ..recorder.recording import Location
from .report import Report
from .words import clean

WIDEST = 110  # columns of code shown; a longer line is windowed around its marked part


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a code frame; ``start`` and ``end`` are the marked characters, both None on a context line."""

    number: int
    text: str
    start: int | None = None
    end: int | None = None

    @property
    def marked(self) -> bool:
        return self.start is not None

    def underline(self) -> str:
        """The carets under the marked part, as wide as a terminal shows it."""
        if self.start is None or self.end is None:
            return ""
        return " " * cells(self.text[: self.start]) + "^" * max(1, cells(self.text[self.start : self.end]))


def cells(text: str) -> int:
    """Terminal columns: East Asian wide characters take two, combining ones none."""
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def frame(report: Report, location: Location, context: int = 1) -> list[Line]:
    """The marked line with its neighbours where the source is known, the bare line where not, nothing without code."""
    lines = report.sources.get(location.filename, "").splitlines() if location.filename else []
    own = lines[location.line - 1] if 0 < location.line <= len(lines) else None
    # A source that changed since (an edited file) must not show another line than the one that ran.
    if own is None or (location.code and location.code.strip() not in own):
        code = location.code.strip()
        return [_window(Line(location.line, _expand(code), 0, len(_expand(code))))] if code else []
    marked = _mark(own, location)
    first, last = location.line - context, location.line + context
    before = [Line(n, _expand(lines[n - 1])) for n in range(max(1, first), location.line)]
    after = [Line(n, _expand(lines[n - 1])) for n in range(location.line + 1, min(len(lines), last) + 1)]
    while before and not before[0].text.strip():
        before.pop(0)
    while after and not after[-1].text.strip():
        after.pop()
    return [_window(line) for line in [*before, marked, *after]]


def _mark(raw: str, location: Location) -> Line:
    """Python counts columns in UTF-8 bytes: turned into characters here, then moved along with the tabs, each four wide."""
    start = _characters(raw, location.column) if location.column is not None else None
    whole = location.end_line is not None and location.end_line > location.line
    end = len(raw.rstrip()) if whole or location.end_column is None else _characters(raw, location.end_column)
    if start is None or start >= len(raw.rstrip()) or end <= start:
        start, end = len(raw) - len(raw.lstrip()), len(raw.rstrip())
    left = start + 3 * raw[:start].count("\t")
    width = len(raw[start:end]) + 3 * raw[start:end].count("\t")
    return Line(location.line, _expand(raw), left, left + width)


def _characters(raw: str, offset: int) -> int:
    return len(raw.encode("utf-8", "surrogatepass")[: max(0, offset)].decode("utf-8", "ignore"))


def _expand(raw: str) -> str:
    return clean(raw.replace("\t", "    ")).rstrip()


def _window(line: Line) -> Line:
    if len(line.text) <= WIDEST:
        return line
    if line.start is None or line.end is None:
        return Line(line.number, line.text[: WIDEST - 1] + "…")
    left = 0 if line.end < WIDEST else max(0, min(line.start - WIDEST // 3, len(line.text) - WIDEST + 1))
    text = ("…" if left else "") + line.text[left + (1 if left else 0) : left + WIDEST - 1]
    text += "…" if left + WIDEST - 1 < len(line.text) else ""
    return Line(line.number, text, line.start - left, min(line.end - left, len(text)))
