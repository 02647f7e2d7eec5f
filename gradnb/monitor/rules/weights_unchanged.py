"""The weights stay exactly as they are, although they get a gradient.

What happens
    No optimizer that steps holds these parameters: it was built before the model was replaced or moved, or for another part. Or the
    learning rate is 0, or the step rounds to nothing in the weights' precision.

Why it matters
    Forward, loss and backward all work, and nothing is learned.

Try
    Build the optimizer after the model is complete, from `model.parameters()`; look at `optimizer.param_groups`. Parameters that are
    not meant to learn: `requires_grad_(False)`, which also makes the backward pass cheaper.

References
    Weights unchanged: TheDeepChecker (https://arxiv.org/abs/2204.00694), SageMaker Debugger ("unchanged tensor"). Here to the last bit
    from the first step on, so that a schedule which ends at 0 is no fault; and with a gradient that could move them, which a model at
    its optimum has not.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from ..flags import Sign
from ..view import View
from ._numbers import ALL, groups, listed, median, number

SEVERITY = "error"
THRESHOLD = "the same weights to the last bit since the first step, over 20 steps with a gradient > 1e-4 of the weight"
SOURCE = "TheDeepChecker, SageMaker Debugger (unchanged)"

ROWS, STEPS, GRADIENT = 3, 20, 1e-4


def check(view: View) -> Iterator[Sign]:
    if view.events("foreign") and not any(layer.held for layer in view.layers):
        yield Sign(
            "weights-unchanged:foreign",
            [layer.name for layer in view.layers],
            {"held": False},
            "the optimizer given to watch() holds none of the parameters that are watched: its steps move something else",
        )
        return
    if view.count < STEPS:
        return
    updates, weights = view.last("update", ROWS), view.last("weight", ROWS)
    if len(weights) < ROWS:
        return
    count = len(view.layers)
    # Seen at once where an optimizer steps it; by the size of the weights where none does.
    still = [
        i
        for i in range(count)
        if weights[0][i] is not None
        and all(row[i] == weights[0][i] for row in weights)
        and all(row[i] is None or row[i] == 0 for row in updates)
    ]
    if not still:
        return
    norms = view.last("norm", STEPS)
    still = [i for i in still if _pulled([value for row in norms if (value := row[i]) is not None], weights[0][i] or 0.0)]
    if not still:
        return
    first, moved = view.last("weight", ALL), view.last("update", ALL)
    still = [i for i in still if all(row[i] is None or row[i] == weights[0][i] for row in first) and not any(row[i] for row in moved)]
    skipped = len(view.events("skipped"))
    for model, indices in groups(view).items():
        mine = [i for i in indices if i in still]
        if not mine or skipped >= view.count // 2:
            continue
        held = any(view.layers[i].held for i in mine)
        rate = view.value("lr")
        zero = " (its learning rate is 0)" if held and rate == 0 else ""
        why = f"an optimizer holds them{zero}, but its steps do not move them" if held else "no optimizer that steps holds them"
        typical = max(value for row in norms for i in mine if (value := row[i]) is not None)
        yield Sign(
            f"weights-unchanged:{model}",
            [view.layers[i].name for i in mine],
            {"norm": typical, "held": held, "lr": rate, "steps": view.step},
            f"the weights of {listed([view.layers[i].name for i in mine])} have not changed in {view.step} steps, although "
            f"their gradient is {number(typical)}: {why}",
            severity="error" if held or len(mine) == len(indices) else "warning",
        )


def _pulled(norms: list[float], weight: float) -> bool:
    return len(norms) >= ROWS and all(math.isfinite(value) for value in norms) and median(norms) > GRADIENT * weight
