"""The loss fell, and has not got any lower for a long time.

What happens
    The model has learned what it can at this learning rate, with these data.

Why it matters
    Steps from here on cost time and change little.

Try
    A lower learning rate (`torch.optim.lr_scheduler.ReduceLROnPlateau`), or stop here; a larger model or more data when the loss should
    be lower.

References
    ReduceLROnPlateau: better by less than 1e-4 of the value for 10 epochs
    (https://docs.pytorch.org/docs/stable/generated/torch.optim.lr_scheduler.ReduceLROnPlateau.html). Batches are noisier than epochs:
    here two windows of 100 steps are compared, and their difference must lie within the noise. A remark, no fault.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..flags import Sign
from ..view import View
from ._numbers import ALL, ends, finite, losses, mean, number

SEVERITY = "info"
THRESHOLD = "the last 200 values: second half not lower than the first by 1 standard error, after a fall of 20 % before"
SOURCE = "ReduceLROnPlateau, for steps in place of epochs"

WINDOW, FALL = 200, 0.2


def check(view: View) -> Iterator[Sign]:
    for name in losses(view)[:1]:
        recent = finite(view.series(name, WINDOW))
        if len(recent) < WINDOW:
            continue
        now = ends(recent, 0.5)
        if now.change < -now.noise or now.change < -1e-2 * abs(now.before):
            continue
        began = mean(finite(view.series(name, ALL)[:5]))
        if began > 0 and now.before < (1 - FALL) * began and now.change < now.noise:
            yield Sign(
                f"plateau:{name}",
                [],
                {"at_first": began, "before": now.before, "now": now.after, "steps": WINDOW},
                f"`{name}` fell from {number(began)} to {number(now.before)} and has stayed there for {WINDOW} values",
            )
