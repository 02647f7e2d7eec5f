"""The reward has always been below 0, and it does not rise.

What happens
    What the policy does makes things worse, and it does not learn to stop: the sign of the policy's loss is wrong, the gradient never
    reaches the policy, or the reward cannot become positive as it is made.

Why it matters
    The policy learns the least bad way out, or nothing at all.

Try
    Look at the sign: the loss is minus the log-probability times the advantage. Subtract a baseline. Check with a policy that is written
    by hand what reward is possible at all.

References
    "Reward always < 0: RL making things worse", a red flag in the field reports this tool was built for. Where each step costs, as in
    many control tasks, all rewards are negative and learning shows as a rise: so it must not have risen, nor
    any other reward that is logged. A reward that is the same each time is a remark.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..flags import Sign
from ..view import View
from ._metrics import rewards
from ._numbers import ALL, deviation, ends, finite, mean, number

SEVERITY = "warning"
THRESHOLD = "no value of 200 or more above 0, and the last third not above the first by 1 standard error"
SOURCE = "field report (reward always < 0)"

LEAST, STRETCH, NOISE = 200, 25, 1.0


def check(view: View) -> Iterator[Sign]:
    names = rewards(view)
    if not any((view.value(name) or 0.0) < 0 for name in names):
        return
    told = {name: finite(view.series(name, ALL)) for name in names}
    if any(_rises(values) for values in told.values()):
        return  # a constant cost a step beside an episode's return that rises
    for name, values in told.items():
        if len(values) < LEAST or max(values) >= 0:
            continue
        found = ends(values, 1 / 3)
        yield Sign(
            f"reward-negative:{name}",
            [],
            {"mean": mean(values), "best": max(values), "at_first": found.before, "now": found.after, "count": len(values)},
            f"`{name}` was below 0 each of {len(values)} times and does not rise: {number(found.before)} in the first third, "
            f"{number(found.after)} in the last",
            severity="info" if not deviation(values) else None,
        )


def _rises(values: list[float]) -> bool:
    """From the first third to the last, or to the best stretch since."""
    if len(values) < 8:
        return False
    found = ends(values, 1 / 3)
    best = max(mean(values[at : at + STRETCH]) for at in range(0, max(1, len(values) - STRETCH + 1), STRETCH))
    return found.change > NOISE * found.noise or best > found.before + 4 * found.noise
