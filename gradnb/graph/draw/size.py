"""How large a closed box is, and which lines of text stand in it. The explorer computes the same numbers.

All lengths are pixels. Texts are measured by their characters, so that Python and a browser agree without a font.
"""

from __future__ import annotations

from functools import lru_cache

from ...report import words
from ..model import Box, Graph, Mark

LABEL = 7.25  # one character of a label (12 px monospace)
TEXT, BROAD, CAPITAL, NARROW_TEXT = 6.4, 9.2, 7.1, 3.7  # of any other line (11 px system-ui): most; BROADS; capitals and digits; THIN
BROADS, THIN = frozenset("×…→—%@mwMW"), frozenset(" .,:;·'\"|!()[]{}/\\ijltfrI-")
NARROW, WIDE = 84.0, 310.0  # a closed box is never narrower or wider
MARGIN = 28.0  # left and right of the longest line, together
FIRST, FURTHER = 28.0, 15.0  # height of a box with one line; of each line more
BOLD = 1.14  # as much wider is the text of a mark, which is bold
TAG = 19.0  # height of the strip with the word ("lost here") on top of a marked box
COLUMN, LANE, ROW = 20.0, 8.0, 24.0  # gap between two things in a row; between two bends; between two rows
BEND, PORT = 6.0, 10.0  # width of a bend; of an entry or an exit

LABEL_LIMIT = int((WIDE - MARGIN) / LABEL)  # characters of a label that fit: 38


@lru_cache(maxsize=8192)
def measure(text: str) -> float:
    """The width of a line that is no label. Sums in the order of the characters, as the explorer does."""
    wide = 0.0
    for c in text:
        wide += BROAD if c in BROADS else NARROW_TEXT if c in THIN else CAPITAL if "0" <= c <= "9" or "A" <= c <= "Z" else TEXT
    return wide


def fitted(text: str, room: float) -> str:
    """The text with its middle left out where it does not fit."""
    wide = measure(text)
    return text if wide <= room else words.elide_middle(text, max(int(len(text) * room / wide), 2))


STATES = {
    "zero": "zero gradient",
    "nan": "NaN gradient",
    "inf": "infinite gradient",
    "starved": "no gradient",
    "frozen": "frozen",
    "unused": "unused",
}


def lines(graph: Graph, box: Box) -> list[str]:
    """The label, then the lines below it: the detail with the state in words, then what is marked inside."""
    found = [words.elide_middle(words.clean(box.label), LABEL_LIMIT)]
    told = [words.clean(box.detail), state(graph, box)]
    if second := " · ".join(filter(None, told)):
        found.append(fitted(second, WIDE - MARGIN))
    if third := mark_text(graph, box):
        found.append(fitted(words.clean(third), (WIDE - MARGIN) / BOLD))
    return found


def opened(box: Box) -> str:
    """The detail that stands in the header of an open box: what it told of folded operations is seen now."""
    return " · ".join(part for part in words.clean(box.detail).split(" · ") if not part.startswith("+ "))


def state(graph: Graph, box: Box) -> str:
    """The state of the gradient in words, where it is worth a word: never colour alone. Of an operation without one nothing is said."""
    learns = box.parameters > 0 or box.kind == "node" and graph.nodes[box.node].kind == "parameter"
    worst = box.state if box.state in ("nan", "inf") else box.learns or box.state
    if not learns and worst not in ("zero", "nan", "inf"):
        return ""
    if box.kind != "node" and worst == "frozen" and box.frozen < box.parameters:
        return f"{box.frozen} of {box.parameters} frozen"
    told = STATES.get(worst, "")
    if told and box.kind != "node" and box.norm:  # the worst inside is not all inside
        told += " in part"
    return "" if told in box.detail else told


def mark_text(graph: Graph, box: Box) -> str:
    """``line 12: .detach()``, with "and 2 more" on a box that holds several marked nodes."""
    marks = _marks(graph, box)
    if not marks or not marks[0].text:
        return ""
    return marks[0].text + (f" and {len(marks) - 1} more" if len(marks) > 1 else "")


def word(graph: Graph, box: Box) -> str:
    """What stands on the strip of a marked box, "" for all others."""
    marks = _marks(graph, box)
    if not marks:
        return ""
    told = words.clean(marks[0].word, LABEL_LIMIT - 10).removesuffix(" here")
    if box.kind != "node":
        return f"{told} inside" if told != "here" else "inside"
    if told != "lost":
        return told
    return "lost here" if marks[0].root else "lost again"


def _marks(graph: Graph, box: Box) -> list[Mark]:
    """The marks of the box, a root first."""
    marks = [mark for node in box.marks if (mark := graph.nodes[node].mark) is not None]
    return sorted(marks, key=lambda mark: not mark.root)


def closed(graph: Graph, box: Box) -> tuple[float, float]:
    """Width and height of the box while it is closed, or of a node."""
    first, *further = lines(graph, box)
    tag = word(graph, box)
    bold = len(further) - 1 if mark_text(graph, box) else -1
    longest = max(len(first), len(tag)) * LABEL
    for i, line in enumerate(further):
        longest = max(longest, measure(line) * (BOLD if i == bold else 1.0))
    return min(max(longest + MARGIN, NARROW), WIDE), FIRST + FURTHER * len(further) + (TAG if tag else 0.0)
