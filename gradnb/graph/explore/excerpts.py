"""The user's source that a picture needs: whole cells, windows of longer files, and places that point into them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import PurePath

from ...recorder.recording import Location
from ...report.words import clean

LONGEST = 300  # lines of a source that is shown whole; of a longer one only what lies around the used lines
AROUND = 12


@dataclass
class Excerpts:
    """Collects places while nodes are packed; ``cut()`` then gives the excerpts and the places, which point into them."""

    texts: dict[str, str]  # Location.filename -> source text
    _places: list[Location] = field(default_factory=list)
    _known: dict[tuple, int] = field(default_factory=dict)
    _split: dict[str, list[str]] = field(default_factory=dict)

    def add(self, location: Location | None) -> int:
        """The position of this place, -1 for none."""
        if location is None:
            return -1
        key = (location.filename, location.cell, location.file, location.line, location.column, location.end_column, location.end_line)
        if key not in self._known:
            self._known[key] = len(self._places)
            self._places.append(location)
        return self._known[key]

    def cut(self) -> tuple[list[dict], list[list]]:
        """``sources`` as {name, first, lines} and ``places`` as [source, line, first character, end, function]."""
        wanted: dict[str, set[int]] = {}
        for place in self._places:
            if self._holds(place):
                wanted.setdefault(place.filename, set()).add(place.line)
        sources: list[dict] = []
        of_line: dict[tuple[str, int], int] = {}
        named = {place.filename: place for place in self._places}
        for filename, used in wanted.items():
            lines = self._lines(filename)
            for first, last in _windows(used, len(lines)):
                of_line.update({(filename, number): len(sources) for number in range(first, last + 1)})
                text = [_clean_line(line) for line in lines[first - 1 : last]]
                sources.append({"name": _name(named[filename]), "first": first, "lines": text})
        places = []
        for place in self._places:
            source = of_line.get((place.filename, place.line)) if self._holds(place) else None
            if source is None:  # the text is not known, or changed since: the bare line stands alone
                source, code = len(sources), _clean_line(place.code.strip())
                sources.append({"name": _name(place), "first": place.line, "lines": [code]})
                start, end = 0, len(code)
            else:
                start, end = self._span(place)
            places.append([source, place.line, start, end, clean(place.function, 80)])
        return sources, places

    def _lines(self, filename: str) -> list[str]:
        if filename not in self._split:
            self._split[filename] = self.texts.get(filename, "").splitlines()
        return self._split[filename]

    def _holds(self, place: Location) -> bool:
        """Whether the source still has the line that ran: another line than that must never be shown."""
        lines = self._lines(place.filename)
        if not 0 < place.line <= len(lines):
            return False
        code = place.code.strip().split("\n")[0].rstrip()
        return not code or code in lines[place.line - 1]

    def _span(self, place: Location) -> tuple[int, int]:
        """The characters that ran. Python counts columns in UTF-8 bytes."""
        raw = self._lines(place.filename)[place.line - 1]
        full = len(raw.rstrip())
        start = len(raw) - len(raw.lstrip()) if place.column is None else _characters(raw, place.column)
        more = place.end_line is not None and place.end_line > place.line
        end = full if more or place.end_column is None else _characters(raw, place.end_column)
        return (start, end) if start < end <= full else (len(raw) - len(raw.lstrip()), full)


def _windows(used: set[int], length: int) -> list[tuple[int, int]]:
    if length <= LONGEST:
        return [(1, length)]
    windows: list[tuple[int, int]] = []
    for line in sorted(used):
        first, last = max(1, line - AROUND), min(length, line + AROUND)
        if windows and first <= windows[-1][1] + 1:
            windows[-1] = (windows[-1][0], last)
        else:
            windows.append((first, last))
    return windows


def _characters(raw: str, offset: int) -> int:
    return len(raw.encode("utf-8", "surrogatepass")[: max(0, offset)].decode("utf-8", "ignore"))


def _clean_line(raw: str) -> str:
    """As ``clean``, with tabs kept: a place counts characters."""
    return "\t".join(clean(part) for part in raw.rstrip().split("\t"))


def _name(place: Location) -> str:
    return f"cell [{place.cell}]" if place.cell is not None else clean(PurePath(place.file or place.filename or "?").name, 60)
