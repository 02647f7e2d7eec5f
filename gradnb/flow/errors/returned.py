"""A custom backward whose gradients do not fit the arguments of its forward: too few, in the wrong order, of the wrong shape."""

from __future__ import annotations

import ast
import re

from ...recorder.recording import Recording
from ..lead import Lead
from ..places import locate, methods
from .history import RANK

_MESSAGES = (
    (
        r"unction (\w+)Backward returned an incorrect number of gradients \(expected (\d+), got (\d+)\)",
        "returns {2} gradients for {1} arguments",
    ),
    (
        r"unction (\w+)Backward returned an invalid gradient at index (\d+) - got (\[.*?\]) but expected shape compatible with (\[.*?\])",
        "returns a gradient of shape {2} for argument {1}, which has shape {3}",
    ),
    (
        r"unction (\w+)Backward returned a gradient different than None at position (\d+)",
        "returns a gradient at position {1} for an argument that is no tensor",
    ),
)


def returned(recording: Recording) -> list[Lead]:
    """Autograd refused what a backward of the user's returned: its last ``return`` is the place."""
    assert recording.raised is not None
    for pattern, words in _MESSAGES:
        found = re.search(pattern, recording.raised.message)
        if found is None:
            continue
        name = found.group(1)
        for source, backward in methods(recording, name, "backward", "vjp"):
            ends = [n for n in ast.walk(backward) if isinstance(n, ast.Return)]
            place = locate(recording, source, max(ends, key=lambda n: n.lineno) if ends else backward)
            lead = Lead("custom-function", place, expression=place.code, rank=RANK)
            lead.details = {"function": name, "refused": words.format(*found.groups()), "raised": True}
            return [lead]
    return []
