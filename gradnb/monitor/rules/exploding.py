"""The gradient explodes.

What happens
    Each layer or time step on the way back multiplies the gradient by more than 1, and the product grows without bound: recurrent
    weights that start too large, a depth without normalisation, a learning rate at which each step makes the next one larger.

Why it matters
    The step follows one large product instead of the data. The loss jumps, then it overflows to infinity and NaN.

Try
    `torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)` before the step, orthogonal or smaller initial weights, a normalisation
    between the layers, a smaller learning rate, inputs and targets of size 1.

References
    A norm above 1e3: torchmortem. Growth: TheDeepChecker (https://arxiv.org/abs/2204.00694), there a factor of 2 between checks, which
    every noisy loop shows; here 1e3 in 100 steps. A large norm alone is no fault (targets in the thousands, summed losses: Adam does
    not mind), so besides it the step must be too large (update above 0.1 of the weight: torchmortem), or norm and loss must have grown,
    or the loss must be a steep power of the weights: |gradient| |weights| / loss is the exponent of that power (Euler's theorem on
    homogeneous functions), a few times the depth in a sound net, and here above 200. Beside a small loss any slope is
    steep: so where the loss has fallen to half, the norm must be above 1e6 (TheDeepChecker), too.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from ..flags import Sign
from ..view import View
from ._numbers import ALL, finite, groups, losses, median, named, number, total

SEVERITY = "error"
THRESHOLD = (
    "norm > 1e3, and update > 0.1 of the weight, or grown 1000-fold in 100 steps with the loss, or |gradient| |weights| / loss > 200"
)
SOURCE = "torchmortem (norm 1e3, update 0.1), TheDeepChecker (growth)"

LARGE, UPDATE, WHOLE, GROWTH, RISE = 1e3, 0.1, 1.0, 1e3, 10.0
HUGE, STEEP = 1e6, 200.0
RECENT, WINDOW = 5, 100


def check(view: View) -> Iterator[Sign]:
    if view.count < RECENT:
        return
    recent = view.last("norm", RECENT)
    for model, indices in groups(view).items():
        norms = [total(row[i] for i in indices) for row in recent if any(row[i] is not None for i in indices)]
        norms = [norm for norm in norms if math.isfinite(norm)]
        now = median(norms)
        if len(norms) < 3 or now <= LARGE:
            continue
        weight = _weight(view, indices)
        why, numbers = _reason(view, indices, now, weight)
        if why:
            worst = max(indices, key=lambda i: max((row[i] or 0.0 for row in recent), default=0.0))
            name = view.layers[worst].name
            yield Sign(
                f"exploding:{model}",
                [name],
                {"norm": now, "weight": weight, **numbers},
                f"the gradient of {named(model)} has norm {number(now)}, most of it in `{name}`; {why}",
            )


def _reason(view: View, indices: list[int], now: float, weight: float) -> tuple[str, dict[str, float]]:
    # Adam's first steps are as long as its learning rate, whatever the gradient.
    step = median([median(found) for i in indices if (found := view.layer(i, "update", 3))])
    if step > (UPDATE if view.count > 10 else WHOLE):
        return f"one step moves the layers by {number(step)} of their weights", {"update": step}
    risen = True
    for name in losses(view)[:1]:
        values = [abs(value) for value in finite(view.series(name, ALL))]
        loss, at_first = median(values[-RECENT:]), median(values[:RECENT])
        risen = loss > RISE * at_first
        # Near a good fit the loss is small, and any slope is steep beside it.
        if loss and now * weight > STEEP * loss and (loss >= 0.5 * at_first or now > HUGE):
            steep = now * weight / loss
            return f"1 % more weight would mean {number(steep)} % more `{name}`", {"loss": loss, "exponent": steep}
    before = [total(row[i] for i in indices) for row in view.last("norm", WINDOW)[:-RECENT]]
    lowest = median([norm for norm in before if 0 < norm < math.inf][:RECENT])
    if lowest and now > GROWTH * lowest and risen:
        return f"it was {number(lowest)} {min(view.count, WINDOW)} steps ago", {"before": lowest}
    return "", {}


def _weight(view: View, indices: list[int]) -> float:
    rows = view.last("weight", 1)
    return total(rows[0][i] for i in indices) if rows else 0.0
