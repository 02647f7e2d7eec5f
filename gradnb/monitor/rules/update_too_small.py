"""The steps are too small: there is a gradient, but the weights hardly move.

What happens
    The learning rate is too low for weights of this size, a factor in the loss or a clip takes the step away, or the weights are kept
    in a precision in which so small a step rounds to nothing.

Why it matters
    The run costs as much as one that learns. The loss wanders in a narrow band, as if the model had converged.

Try
    A learning rate 10 to 1000 times larger (a good update is about 1e-3 of the weight); look at the schedule's first value; keep a
    float32 copy of bfloat16 or half weights for the optimizer.

References
    |dW| / |W| below 1e-8: SageMaker Debugger; below 1e-5: torchmortem; below 1e-4: TheDeepChecker (https://arxiv.org/abs/2204.00694).
    Here 1e-6, for every layer and at every measured step from the first: fine-tuning at 1e-6 or 1e-7 is common, warm-up begins at 0
    (nothing is said while the rate rises), and a schedule or a converged model ends there (it moved before). A model that has
    converged before the run has next to no gradient, so the gradient must be 1e-4 of the weight at least.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..flags import Sign
from ..view import View
from ._numbers import ALL, groups, median, named, total

SEVERITY = "warning"
THRESHOLD = "|dW| / |W| < 1e-6 in every layer at every measured step so far (at least 4), with a gradient > 1e-4 of the weight"
SOURCE = "between SageMaker Debugger (1e-8) and torchmortem (1e-5)"

SMALL, GRADIENT, ROWS = 1e-6, 1e-4, 4


def check(view: View) -> Iterator[Sign]:
    newest = view.last("update", 1)
    if not newest or all(value is None or value >= SMALL for value in newest[0]):
        return
    rates = [rate for _, rate in view.series("lr", 100)]
    if len(rates) > 1 and rates[-1] > rates[0]:
        return
    for model, indices in groups(view).items():
        values = [value for i in indices if (value := newest[0][i]) is not None]
        if not values or not 0 < max(values) < SMALL:
            continue
        rows = [row for row in view.last("update", ALL) if any(row[i] is not None for i in indices)]
        if len(rows) < ROWS or any((row[i] or 0.0) >= SMALL for row in rows for i in indices):
            continue
        norms = [total(row[i] for i in indices) for row in view.last("norm", 20)]
        weights = view.last("weight", 1)
        weight = total(weights[0][i] for i in indices) if weights else 0.0
        if not weight or median(norms) < GRADIENT * weight:
            continue
        rate = rates[-1] if rates else None
        yield Sign(
            f"update-too-small:{model}",
            [view.layers[i].name for i in indices],
            {"update": max(values), "norm": median(norms), "weight": weight, "lr": rate},
            f"a step moves no layer of {named(model)} by more than {max(values):.2e} of its weights, with a gradient of "
            f"{median(norms):.2e}" + (f" and a learning rate of {rate:.2e}" if rate is not None else ""),
        )
