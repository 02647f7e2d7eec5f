"""The steps are too large: an update moves the weights by a tenth of their size or more, again and again.

What happens
    The learning rate is too high for weights of this size. Each step throws away what the steps before it had found.

Why it matters
    The loss jumps about or grows, ReLUs are pushed to where they never open again, and in the end there are NaNs.

Try
    A learning rate ten times smaller; warm-up over the first hundred steps; clipping where single batches do it. A good update is about
    1e-3 of the weight.

References
    |dW| / |W| above 0.1: TheDeepChecker (https://arxiv.org/abs/2204.00694) and torchmortem; SageMaker Debugger speaks at 10 only.
    Weights that start at zero (adapters, biases, a new head) move by more than their size for a while, so more than half of the
    model's numbers must, at three measured steps in a row. Or the weights are ten times what they were after 30 steps, with a root
    mean square above 1, the largest at which a layer can start by `nn.init.kaiming_normal_`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from ..flags import Sign
from ..view import View
from ._numbers import groups, listed, median, named, number, total

SEVERITY = "warning"
THRESHOLD = (
    "|dW| / |W| > 0.1 (in the first 10 steps: 1) for more than half of the model's numbers at three measured steps in a row, "
    "or 10 times the weight in 30 steps"
)
SOURCE = "TheDeepChecker, torchmortem (0.1)"

LARGE, WHOLE, ROWS = 0.1, 1.0, 3
SOON, GROWN = 30, 10.0


def check(view: View) -> Iterator[Sign]:
    newest = view.last("update", 1)
    if not newest:
        return
    if any(value is not None and value > LARGE for value in newest[0]):
        yield from _again_and_again(view)
    if view.step <= SOON:
        yield from _blown_up(view)


def _again_and_again(view: View) -> Iterator[Sign]:
    rows = view.last("update", ROWS)
    if len(rows) < ROWS:
        return
    # Adam's first steps are as long as its learning rate, whatever the gradient: only what moves further than the weights are long counts.
    limit = LARGE if view.count > 10 else WHOLE
    for model, indices in groups(view).items():
        steps = {i: [value for row in rows if (value := row[i]) is not None] for i in indices}
        large = [i for i, values in steps.items() if len(values) == ROWS and min(values) > limit]
        numbers = sum(view.layers[i].parameters for i in large)
        if 2 * numbers <= sum(view.layers[i].parameters for i in indices if steps[i]):
            continue
        typical = median([median(steps[i]) for i in large])
        yield Sign(
            f"update-too-large:{model}",
            [view.layers[i].name for i in large],
            {"update": typical, "lr": view.value("lr"), "layers": len(large)},
            f"each step moves {listed([view.layers[i].name for i in large])} by {number(typical)} of the weights{_rate(view)}",
        )


def _blown_up(view: View) -> Iterator[Sign]:
    """Adam's step shrinks beside weights that it has blown up itself: then their size tells."""
    rows = view.last("weight", 10)
    for model, indices in groups(view).items() if len(rows) > 1 else ():
        sizes = [total(row[i] for i in indices) for row in rows]
        count = sum(view.layers[i].parameters for i in indices if rows[-1][i] is not None)
        if sizes[0] > 0 and GROWN * sizes[0] < sizes[-1] < math.inf and sizes[-1] > math.sqrt(count):
            yield Sign(
                f"update-too-large:{model}",
                [view.layers[i].name for i in indices],
                {"weight": sizes[-1], "weight_at_first": sizes[0], "lr": view.value("lr")},
                f"the weights of {named(model)} grew from {number(sizes[0])} to {number(sizes[-1])} in {view.step} steps{_rate(view)}",
            )


def _rate(view: View) -> str:
    rate = view.value("lr")
    return f" (learning rate {number(rate)})" if rate is not None else ""
