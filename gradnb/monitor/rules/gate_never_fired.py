"""A gate was asked again and again, and never fired.

What happens
    The condition is never true: a fixed threshold that nothing reaches, a comparison the wrong way round, a value that is always the
    same.

Why it matters
    What stands behind the gate never runs: the memory stays empty, the curriculum does not move on, the checkpoint is not written.

Try
    Log the value that is compared, and look at its range; a threshold that follows the running average (1.1 times it) in place of a
    fixed one.

References
    "0/2725 updates" in the field reports this tool was built for. Rule of three (Hanley and Lippman-Hand 1983,
    https://doi.org/10.1001/jama.1983.03330370053031): never in 100 tries means a chance below 3 % with 95 % confidence.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..flags import Sign
from ..view import View

SEVERITY = "warning"
THRESHOLD = "0 of 100 or more"
SOURCE = "field report (0/2725); rule of three, 95 %"

ASKED = 100


def check(view: View) -> Iterator[Sign]:
    for name in view.gates:
        fired, asked = view.gate(name)
        if fired == 0 and asked >= ASKED:
            yield Sign(
                f"gate-never-fired:{name}",
                [],
                {"fired": fired, "asked": asked, "chance_below": 3 / asked},
                f"the gate `{name}` was asked {asked} times and never fired",
            )
