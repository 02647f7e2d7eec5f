"""Some layers stand still while others of the same model move.

What happens
    The layers of one model differ by four orders of magnitude in how far a step moves them: a learning rate of one group that is
    wrong by powers of ten, a factor in one branch, scales that do not fit together under plain SGD.

Why it matters
    The slow layers keep their initial weights, and the fast ones learn around them.

Try
    Print `[(g["lr"], len(g["params"])) for g in optimizer.param_groups]`; Adam in place of SGD, or layer-wise rates; normalise the
    branch.

References
    Layers compared by their gradients (SageMaker Debugger: variance ratio 10; AutoTrainer: 70; torchmortem: 100) differ by that
    much in most sound models, and such rules speak on nearly all of them. So here the steps are compared, 1e4 apart, and the slow
    layers must be below 1e-6 of their weights (SageMaker Debugger 1e-8, torchmortem 1e-5) while the fast ones are above 1e-4
    (TheDeepChecker's lower limit, https://arxiv.org/abs/2204.00694).
"""

from __future__ import annotations

from collections.abc import Iterator

from ..flags import Sign
from ..view import View
from ._numbers import groups, listed, median, named

SEVERITY = "warning"
THRESHOLD = "|dW| / |W| 1e4 apart between layers of one model, below 1e-6 and above 1e-4, at five measured steps in a row"
SOURCE = "TheDeepChecker (1e-4), SageMaker Debugger and torchmortem (1e-8, 1e-5); ratio 1e4 against false alarms"

SLOW, FAST, RATIO, ROWS = 1e-6, 1e-4, 1e4, 5


def check(view: View) -> Iterator[Sign]:
    newest = view.last("update", 1)
    if not newest or not any(value is not None and 0 < value < SLOW for value in newest[0]):
        return
    rows = view.last("update", ROWS)
    if len(rows) < ROWS:
        return
    for model, indices in groups(view).items():
        typical = {i: values for i in indices if len(values := [value for row in rows if (value := row[i]) is not None]) == ROWS}
        top = max((median(values) for values in typical.values()), default=0.0)
        slow = [i for i, values in typical.items() if 0 < max(values) < SLOW and top > max(FAST, RATIO * max(values))]
        if slow:
            lowest = min(max(typical[i]) for i in slow)
            fastest = max(typical, key=lambda i: median(typical[i]))
            yield Sign(
                f"out-of-balance:{model}",
                [view.layers[i].name for i in slow],
                {"slowest": lowest, "fastest": top, "ratio": top / lowest},
                f"in {named(model)} a step moves `{view.layers[fastest].name}` by {top:.2e} of its weights and "
                f"{listed([view.layers[i].name for i in slow])} by {lowest:.2e}",
            )
