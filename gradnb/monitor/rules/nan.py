"""The gradient is NaN or infinite.

What happens
    An operation left the numbers: the logarithm or the root of 0, a division by 0, an overflow. Backward, every layer before it gets
    NaN, too.

Why it matters
    One step with a NaN writes NaN into the weights, and no later step gets them out again.

Try
    Run one step under `%%gradcheck`: it names the operation in which the NaN is born. Then `clamp(min=eps)` in front of log, sqrt and
    division, log_softmax in place of log(softmax), a smaller learning rate when it grew over several steps. Go back to a checkpoint
    from before this step.

References
    Any NaN or infinity is a fault in SageMaker Debugger, TheDeepChecker and torchmortem alike. A step that a GradScaler left out is no
    fault: it looks for the largest scale that does not overflow (https://docs.pytorch.org/docs/stable/amp.html).
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from ..flags import Sign
from ..view import View
from ._numbers import ALL, losses

SEVERITY = "error"
THRESHOLD = "one element that is NaN or infinite, at a step that the optimizer made"
SOURCE = "SageMaker Debugger (tensor not finite)"

RECENT, WINDOW = 10, 256


def check(view: View) -> Iterator[Sign]:
    recent = view.last("norm", RECENT)
    if all(value is None or math.isfinite(value) for row in recent for value in row):
        return
    left_out = {step for step, _, _ in view.events("skipped")}
    bad = [
        (step, row)
        for step, row in zip(view.last_steps("norm", WINDOW), view.last("norm", WINDOW))
        if step not in left_out and not all(value is None or math.isfinite(value) for value in row)
    ]
    recent_steps = view.last_steps("norm", RECENT)
    if not bad or bad[-1][0] not in recent_steps:
        return
    step, row = bad[0]
    told = [at for at, _, _ in view.events("nan") if at <= step]
    if len(bad) == WINDOW and told:
        step = told[-1]  # it began before what is kept whole
    reached = [i for i, value in enumerate(row) if value is not None and not math.isfinite(value)]
    names = [view.layers[i].name for i in reached]
    kind = "NaN" if any(math.isnan(row[i] or 0.0) for i in reached) else "infinite"
    elements = view.layer(reached[0], "bad", 1)
    yield Sign(
        "nan",
        names,
        {
            "step": step,
            "layers": len(reached),
            "of_layers": sum(value is not None for value in row),
            "elements": elements[-1] if elements else None,
        },
        f"the gradient of {_which(view, names, row)} is {kind} at step {step}{_loss(view, step)}",
        since=step,
    )


def _which(view: View, names: list[str], row: list[float | None]) -> str:
    """Backward runs from the last layer to the first: the last bad one is the first that got it."""
    there = sum(value is not None for value in row)
    if len(names) == there:
        return f"all {there} layers" if there > 1 else f"`{names[0]}`"
    before = f" and of {len(names) - 1} before it" if len(names) > 1 else ""
    return f"`{names[-1]}`{before} (of {there} layers; the others are finite)"


def _loss(view: View, step: int) -> str:
    for name in losses(view):
        bad = [(at, value) for at, value in view.series(name, ALL) if not math.isfinite(value)]
        if bad and bad[0][0] <= step + 1:
            return f"; `{name}` is {bad[0][1]:g}, so it was born in the forward pass"
    return ""
