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
    model's numbers must, at three measured steps in a row.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..flags import Sign
from ..view import View
from ._numbers import groups, listed, median, number

SEVERITY = "warning"
THRESHOLD = "|dW| / |W| > 0.1 (in the first 10 steps: 1) for more than half of the model's numbers at three measured steps in a row"
SOURCE = "TheDeepChecker, torchmortem (0.1)"

LARGE, WHOLE, ROWS = 0.1, 1.0, 3


def check(view: View) -> Iterator[Sign]:
    newest = view.last("update", 1)
    if not newest or not any(value is not None and value > LARGE for value in newest[0]):
        return
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
        worst = max(large, key=lambda i: median(steps[i]))
        rate = view.value("lr")
        yield Sign(
            f"update-too-large:{model}",
            [view.layers[i].name for i in large],
            {"update": typical, "largest": median(steps[worst]), "lr": rate, "layers": len(large)},
            f"each step moves {listed([view.layers[i].name for i in large])} by {number(typical)} of the weights"
            + (f" (learning rate {number(rate)})" if rate is not None else ""),
        )
