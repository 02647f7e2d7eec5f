"""Which cell a code object belongs to: the execution count by the file name that IPython compiled the cell under."""

from __future__ import annotations

import linecache
import re
from typing import Any

# The name of a cell in a terminal, and in every front end of IPython 7 whose kernel does not write its own.
NUMBERED = re.compile(r"<ipython-input-(\d+)-")


def cell_numbers(shell: Any, running: tuple[str, int] | None = None) -> dict[str, int]:
    """Execution counts of every cell run so far, by file name; ``running`` adds the one that runs now.

    A cell that ran twice unchanged has one name, and its newest number.
    """
    known = getattr(shell.compile, "_filename_map", None)
    numbers = dict(known) if known is not None else _from_history(shell)
    if running is not None:
        numbers[running[0]] = running[1]
    return numbers


def _from_history(shell: Any) -> dict[str, int]:
    """IPython 7 keeps no map, but the source of every cell: ipykernel's names carry no number, so the text is looked up."""
    by_text: dict[str, int] = {}
    history = shell.history_manager
    for texts in (history.input_hist_parsed, history.input_hist_raw):
        by_text.update((text.rstrip(), number) for number, text in enumerate(texts) if number)
    numbers = {}
    for name, entry in list(getattr(linecache, "_ipython_cache", {}).items()):
        match = NUMBERED.match(name)
        number = int(match.group(1)) if match else by_text.get("".join(entry[2]).rstrip())
        if number is not None:
            numbers[name] = number
    return numbers
