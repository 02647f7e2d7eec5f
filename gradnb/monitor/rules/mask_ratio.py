"""Next to nothing is left of the loss: the mask ratio is near 0.

What happens
    The mask that chooses the elements of the loss is empty or nearly so: it compares the wrong tensors, it is taken before the
    prediction, or it masks what it should keep.

Why it matters
    A loss over no element has no gradient that says anything; a mean over it is noise, or NaN.

Try
    Print mask.sum() and mask.numel() for one batch beside the prediction and the target. Where all elements are right already, nothing is
    left to mask: then the accuracy says so.

References
    "Mask_ratio: 0.0001: almost no hard cells, or masking broken", a red flag in the field reports this tool was built for, which
    themselves call a mask significant above 0.01. A ratio that fell there slowly means that the model learned; so it must have been
    there from the first step, or have dropped within one.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..flags import Sign
from ..view import View
from ._metrics import masks
from ._numbers import ALL, finite, median, number

SEVERITY = "warning"
THRESHOLD = "below 0.01 at each of the last 20 values, from the start or after a drop to a tenth from one value to the next"
SOURCE = "field report (0.0001; significant above 0.01)"

SMALL, WINDOW, BEFORE, DROP = 0.01, 20, 0.05, 0.1


def check(view: View) -> Iterator[Sign]:
    for name in masks(view):
        recent = finite(view.series(name, WINDOW))
        if len(recent) < WINDOW or max(recent) >= SMALL:
            continue
        points = view.series(name, ALL)
        above = [at for at, (_, value) in enumerate(points) if value >= SMALL]
        if above:
            last = above[-1]
            before = min(value for _, value in points[max(0, last - 2) : last + 1])
            after = median([value for _, value in points[last + 1 : last + 11]])
            if before < BEFORE or after > DROP * before:
                continue
        since = points[above[-1] + 1][0] if above else points[0][0]
        how = "since it dropped from " + number(points[above[-1]][1]) if above else "from the start"
        yield Sign(
            f"mask-ratio:{name}",
            [],
            {"value": recent[-1], "median": median(recent), "since": since},
            f"`{name}` is {number(median(recent))} {how}: the loss looks at next to nothing",
            since=since,
        )
