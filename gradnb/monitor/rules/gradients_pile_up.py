"""The gradients of all steps pile up: zero_grad() is missing.

What happens
    `backward()` adds to what is in `.grad`. Without `optimizer.zero_grad()` the second step gets the sum of two gradients, the tenth
    the sum of ten: the norm of every layer grows in proportion to the number of steps.

Why it matters
    It is momentum that never decays. The steps grow, the weights overshoot, and the loss swings or diverges although it falls at first.

Try
    `optimizer.zero_grad()` before `loss.backward()`, once per step; when accumulating on purpose, once per group of batches.

References
    Gradients accumulate by design: https://docs.pytorch.org/docs/stable/generated/torch.Tensor.backward.html. A warning for it is an
    open request (https://github.com/pytorch/pytorch/issues/47175). The test is this tool's own: step t shows t times the first
    step's norm. Branches that start at zero grow like that, too, but never all layers of a model.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from ..flags import Sign
from ..view import View
from ._numbers import groups, named, number, total

SEVERITY = "error"
THRESHOLD = "steps 2 to 5: norm of step t between 0.7 t and 1.3 t times that of step 1, in 80 % of the layers"
SOURCE = "arithmetic of accumulation; 0.7 to 1.3 leaves room for batches that differ"

STEPS, LOW, HIGH, BEND, SHARE = 5, 0.7, 1.3, 1.5, 0.8


def check(view: View) -> Iterator[Sign]:
    if not STEPS <= view.count <= 256:
        return
    rows = [view.at(step, "norm") for step in range(1, STEPS + 1)]
    for model, indices in groups(view).items():
        grew = [i for i in indices if _piles_up([row[i] for row in rows])]
        if len(indices) >= 2 and len(grew) >= SHARE * len(indices):
            at_first, now = total(rows[0][i] for i in indices), total(rows[-1][i] for i in indices)
            yield Sign(
                f"gradients-pile-up:{model}",
                [view.layers[i].name for i in grew],
                {"norm_at_step_1": at_first, "norm_at_step_5": now, "ratio": now / at_first},
                f"the gradient of {named(model)} grows with the number of steps: {number(at_first)} at step 1, "
                f"{number(now)} at step {STEPS}, {number(now / at_first)} times as much",
                since=1,
            )


def _piles_up(norms: list[float | None]) -> bool:
    sizes = [norm or 0.0 for norm in norms]
    one = sizes[0]
    if not 0 < one < math.inf or not all(LOW * t * one <= size <= HIGH * t * one for t, size in enumerate(sizes, 1)):
        return False
    # A sum grows by the same amount each step; what grows by a factor is no sum.
    middle = STEPS // 2
    return sizes[-1] - sizes[middle] <= BEND * (sizes[middle] - one)
