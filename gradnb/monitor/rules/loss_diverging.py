"""The loss diverges: it is far above where it began, and the weights have grown with it.

What happens
    The steps overshoot: each lands higher on the other side. The learning rate is too large, or the sign of the loss is wrong.

Why it matters
    What the model knew is gone, and it will not come back from there.

Try
    Go back to the last good checkpoint, a learning rate ten times smaller, warm-up, clipping.

References
    Loss not decreasing: SageMaker Debugger; an error that grows: TheDeepChecker (https://arxiv.org/abs/2204.00694). A rising loss alone
    is no fault (the value loss of a DQN, the generator's of a GAN), so here it must be ten times the first values, and either the
    weights have tripled (they started away from zero) or a step is above 0.1 of the weight (torchmortem's upper limit).
"""

from __future__ import annotations

from collections.abc import Iterator

from ..flags import Sign
from ..view import View
from ._numbers import ALL, finite, groups, losses, median, number, total

SEVERITY = "error"
THRESHOLD = "10 times the first values, with weights 3 times their first size or updates > 0.1 of the weight"
SOURCE = "SageMaker Debugger (not decreasing), torchmortem (0.1); factor 10 against false alarms"

TIMES, GROWN, UPDATE = 10.0, 3.0, 0.1
FIRST, RECENT, LEAST = 5, 10, 20


def check(view: View) -> Iterator[Sign]:
    if view.count < LEAST:
        return
    for name in losses(view):
        recent = finite(view.series(name, RECENT))
        now = median(recent)
        if len(recent) < RECENT or now <= 0:
            continue
        began = [abs(value) for value in finite(view.series(name, ALL)[:FIRST])]
        at_first = min(began[0], median(began)) if began else 0.0  # it may be up by the second step
        if not began or now <= TIMES * at_first:
            continue
        reason, numbers = _weights(view)
        if reason:
            yield Sign(
                f"loss-diverging:{name}",
                [],
                {"loss": now, "at_first": at_first, **numbers},
                f"`{name}` is {number(now)}, {number(now / at_first) if at_first else 'far'} times its first values; {reason}",
            )


def _weights(view: View) -> tuple[str, dict[str, float]]:
    rows, updates = view.last("weight", ALL), view.last("update", 3)
    for indices in groups(view).values():
        sizes = [size for row in rows if (size := total(row[i] for i in indices))]
        if len(sizes) > 1 and sizes[-1] > GROWN * sizes[0]:
            return f"the weights have grown from {number(sizes[0])} to {number(sizes[-1])}", {
                "weight": sizes[-1],
                "weight_at_first": sizes[0],
            }
        steps = [median(values) for i in indices if (values := [value for row in updates if (value := row[i]) is not None])]
        if median(steps) > UPDATE:
            return f"each step moves the weights by {number(median(steps))} of their size", {"update": median(steps)}
    return "", {}
