"""Most units of a ReLU layer are dead: they are zero for every input.

What happens
    The bias or the weights went so far below zero that no input opens the unit, usually by one step that was too large.

Why it matters
    A unit that is always zero passes no gradient, so it can never come back. The layer computes with what is left of it.

Try
    A smaller learning rate or warm-up, LeakyReLU or GELU in place of ReLU, biases that start at 0, inputs of mean 0 and size 1.

References
    SageMaker Debugger: dead where active for less than 1 % of the inputs, a fault where that holds for more than 50 % of the layer.
    Seen over at least 256 inputs, not one batch: in a batch of 8 many a sound unit stays shut.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..flags import Sign
from ..view import View
from ._numbers import shares

SEVERITY = "warning"
THRESHOLD = "more than 50 % of the units active for less than 1 % of the inputs, in two looks in a row"
SOURCE = "SageMaker Debugger (1 %, 50 %)"

SHARE, LOOKS = 0.5, 2


def check(view: View) -> Iterator[Sign]:
    for name, share in shares(view, "dead", SHARE, LOOKS):
        yield Sign(
            f"dead-relu:{name}",
            [name],
            {"dead": share},
            f"{100 * share:.0f} % of the units of `{name}` are zero for (nearly) every input",
            severity="error" if share == 1 else None,
        )
