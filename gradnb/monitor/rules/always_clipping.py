"""Clipping takes away nearly all of the gradient at every step.

What happens
    `max_norm` is far below the norm that the gradient has. Each step is cut to the same length, whatever the data say.

Why it matters
    Plain SGD then crawls at a fraction of its learning rate, and large and small gradients count the same. Clipping is meant for the
    rare step that is out of line.

Try
    A max_norm near the norms in `monitor.plot()` (1.0 is usual); under a GradScaler `scaler.unscale_(optimizer)` before clipping, or
    scaled gradients are cut.

References
    Pascanu, Mikolov, Bengio, https://arxiv.org/abs/1211.5063: a threshold of 0.5 to 10 times the usual norm trains well. Clipping at
    every step is common and sound (transformers at 1.0, policies at 0.5), so nothing is said before the clip is 50 times smaller than
    the lower of these, a hundredth of the norm; and where a layer has moved by more than 1e-4 of its weights (TheDeepChecker's lower
    limit), as under Adam, which divides the clip out again, it does no harm.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..flags import Sign
from ..view import View
from ._numbers import ALL, median, number

SEVERITY = "warning"
THRESHOLD = "less than 1 % of the norm left, at each of the last 50 steps, and no update > 1e-4 of the weights so far"
SOURCE = "Pascanu et al. 2013 (threshold 0.5 to 10 times the usual norm)"

LEFT, WINDOW, SLOW = 0.01, 50, 1e-4


def check(view: View) -> Iterator[Sign]:
    newest, whole = view.series("clipped_norm", 1), view.series("global_norm", 1)
    if not newest or not whole or newest[0][1] >= LEFT * whole[0][1]:
        return
    after = dict(view.series("clipped_norm", WINDOW))
    pairs = [(norm, after[step]) for step, norm in view.series("global_norm", WINDOW) if step in after]
    if len(pairs) < WINDOW or not all(0 < left < LEFT * norm for norm, left in pairs):
        return
    before, left = median([norm for norm, _ in pairs]), median([left for _, left in pairs])
    if any(value is not None and value > SLOW for row in view.last("update", ALL) for value in row):
        return  # Adam and its like divide the clip out again
    yield Sign(
        "always-clipping",
        [],
        {"norm": before, "clipped_norm": left, "left": left / before, "steps": len(pairs)},
        f"clipping cut the gradient at each of the last {len(pairs)} steps, from a norm of {number(before)} to {number(left)} "
        f"({left / before:.2e} of it)",
    )
