"""Where the body of a cell stands: under which file name its cell runs, and on which line of the editor it begins."""

from __future__ import annotations

import difflib
import linecache
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from types import FrameType
from typing import Any

from .cells import NUMBERED

MAGIC = "gradcheck"


@dataclass(slots=True, frozen=True)
class Place:
    """``raw`` is the cell as the editor shows it; the body begins below its first ``above`` lines."""

    filename: str
    number: int
    raw: str
    above: int
    silent: bool = False


def locate(shell: Any, line: str, body: str) -> Place:
    """The place of the body that a cell magic was handed.

    Other magics may stand around it: ``%%time`` runs it in a ``<timed eval>`` of its own, ``%%capture`` as a cell of its own
    with the first line gone. So every running cell on the stack is asked, outermost first, whether the body is its tail.
    """
    for filename, raw, silent in reversed(list(_running_cells(shell))):
        above = _lines_above(raw, body)
        if above is not None:
            return Place(filename, _number(shell, filename), raw, above, silent)
    # Called by hand, get_ipython().run_cell_magic(...): the text is nowhere in a cell, so it gets a name as a cell of its own.
    raw = f"%%{MAGIC} {line}".rstrip() + "\n" + body
    number = shell.execution_count
    filename = shell.compile.cache("\n" + body, number, raw_code=raw)
    return Place(filename, number, raw, 1)


def show_source(place: Place) -> None:
    """Let tracebacks and the report read the cell as the editor shows it, the line of the magic included."""
    # A time of None keeps linecache from looking for the file on disk; IPython 7 restores its cells from a second cache.
    entry = (len(place.raw), None, [text + "\n" for text in place.raw.splitlines()], place.filename)
    linecache.cache[place.filename] = entry
    kept = getattr(linecache, "_ipython_cache", None)
    if kept is not None:
        kept[place.filename] = entry


def source(shell: Any, place: Place, body: str) -> str:
    """Plain Python for the body, padded so that every statement has the line number of the editor."""
    plain = shell.transform_cell(body)
    return "\n" * place.above + _aligned(body, plain)


def _running_cells(shell: Any) -> Iterator[tuple[str, str, bool]]:
    """File name and text of the cells that are running now, innermost first."""
    frame: FrameType | None = sys._getframe(1)
    filename = None
    while frame is not None:
        code = frame.f_code
        if frame.f_globals is shell.user_global_ns:
            filename = code.co_filename
        # raw_cell is a parameter of the public run_cell_async since IPython 7; history holds only the outermost cell.
        elif code.co_name == "run_cell_async" and os.path.basename(code.co_filename) == "interactiveshell.py":
            raw = frame.f_locals.get("raw_cell")
            if filename is not None and isinstance(raw, str):
                yield filename, raw, bool(frame.f_locals.get("silent"))
            filename = None
        frame = frame.f_back


def _lines_above(raw: str, body: str) -> int | None:
    """How many lines of the cell stand above the body, or None where the body is not the rest of this cell."""
    rows, rest = raw.rstrip().splitlines(), body.rstrip().splitlines()
    above = len(rows) - len(rest)
    if above < 1:
        return None
    head = [row.strip() for row in rows[:above]]
    if not all(not row or row.startswith("%%") for row in head) or not re.match(rf"%%{MAGIC}\b", head[-1]):
        return None
    # Stripped, because IPython takes away an indentation that the whole cell shares.
    return above if [row.strip() for row in rows[above:]] == [row.strip() for row in rest] else None


def _number(shell: Any, filename: str) -> int:
    """The execution count of a running cell."""
    known = getattr(shell.compile, "_filename_map", {}).get(filename)
    if known is not None:
        return known
    match = NUMBERED.match(filename)
    # IPython 7 counts on only when the cell is over; later versions do it at once, but have the map.
    return int(match.group(1)) if match else shell.execution_count


def _aligned(body: str, plain: str) -> str:
    """Give back the lines that IPython's transformation joins or drops: leading blank ones, a ``!command`` over two lines."""
    before, after = body.splitlines(), plain.splitlines(keepends=True)
    if len(before) == len(after):
        return plain
    matcher = difflib.SequenceMatcher(None, [row.strip() for row in before], [row.strip() for row in after], autojunk=False)
    rows: list[str] = []
    for _, first, last, start, end in matcher.get_opcodes():
        rows += after[start:end]
        rows += ["\n"] * ((last - first) - (end - start))
    return "".join(rows)
