"""The loss is NaN or infinite.

What happens
    The forward pass left the numbers: exp of a large value, log of 0, a division by 0, weights that are NaN since an earlier step.

Why it matters
    The backward pass of this loss writes NaN into every gradient, and the step writes it into the weights.

Try
    Look at the flag `nan`: when the gradients were bad before the loss was, the weights carry it, and the step before is the one to
    look at. Otherwise run the step under `%%gradcheck`, which names the operation.

References
    Loss: NaN, a red flag in the field reports this tool was built for; a fault in SageMaker Debugger and torchmortem alike.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from ..flags import Sign
from ..view import View
from ._numbers import ALL, losses

SEVERITY = "error"
THRESHOLD = "one value that is NaN or infinite"
SOURCE = "field report, SageMaker Debugger"


def check(view: View) -> Iterator[Sign]:
    for name in losses(view):
        newest = view.series(name, 1)
        if math.isfinite(newest[0][1]):
            continue
        points = view.series(name, ALL)
        step, value = next((at, value) for at, value in points if not math.isfinite(value))
        before = next((number for at, number in reversed(points) if at < step and math.isfinite(number)), None)
        yield Sign(
            f"loss-nan:{name}",
            [],
            {"value": value, "step": step, "before": before},
            f"`{name}` is {value:g} since step {step}" + (f" (it was {before:.4g})" if before is not None else ""),
            since=step,
        )
