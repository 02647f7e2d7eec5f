"""Which call of a module is still running: a module that another one's forward() borrows belongs into that call."""

from __future__ import annotations

import re

from ...recorder.recording import Location
from ..model import Graph, Node

_CLASS = re.compile(r"(\s*)class\s+(\w+)")
_DEF = re.compile(r"(\s*)(?:async\s+)?def\s+forward\b")


class Calls:
    """Reads from the stacks of two operations in a row whether the call that the first one ran in goes on."""

    def __init__(self, graph: Graph):
        self.sources, self.classes = graph.sources, graph.classes
        self._lines: dict[str, list[str]] = {}
        self._found: dict[tuple[str, int], str] = {}

    def running(self, modules: list[str], before: Node, node: Node, own: list[str]) -> int:
        """How many of ``modules``, those around ``before`` from the outermost, are still running when ``node`` runs.

        ``own`` are the modules whose part ``node`` is by their path: a forward() that is one of theirs is no borrower's.
        """
        one, two = before.frames[::-1], node.frames[::-1]
        same = 0
        while same < min(len(one), len(two)) and _place(one[same]) == _place(two[same]):
            same += 1
        owners = [self._class(frame) if frame.function == "forward" else "" for frame in one[: same + 1]]
        if same >= len(owners) or same >= len(two) or two[same].function != "forward" or self._class(two[same]) != owners[same]:
            owners = owners[:same]  # from here on the stacks are in different functions
        goes_on = same < len(owners) and two[same].line > one[same].line  # a new call would begin at an earlier line
        found = level = 0
        theirs = [self.classes.get(path) for path in own]
        for position, path in enumerate(modules):
            name = self.classes.get(path)
            at = next((i for i in range(level, len(owners)) if name and owners[i] == name), -1)
            if at >= 0:
                level = at + 1
                if goes_on or owners[:level].count(name or "") > theirs.count(name):
                    found = position + 1
        return found

    def _class(self, frame: Location) -> str:
        """The class whose forward() a line is in, read from the indentation: a cell with magics in it is no Python that parses."""
        key = (frame.filename, frame.line)
        known = self._found.get(key)
        if known is None:
            known = self._found[key] = self._read(*key)
        return known

    def _read(self, filename: str, line: int) -> str:
        if filename not in self._lines:
            self._lines[filename] = self.sources.get(filename, "").splitlines()
        lines = self._lines[filename]
        indent = None
        for text in reversed(lines[:line]):
            wanted = _DEF if indent is None else _CLASS
            match = wanted.match(text)
            if match is None:
                continue
            if indent is None:
                indent = len(match[1])
            elif len(match[1]) < indent:
                return match[2]
        return ""


def _place(where: Location) -> tuple[str, int]:
    return where.filename, where.line
