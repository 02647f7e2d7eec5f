"""The gradient vanishes on its way to the early layers.

What happens
    Each layer on the way back multiplies the gradient by something below 1: the slope of a sigmoid (0.25 at most), weights that start
    too small. Over many layers next to nothing is left.

Why it matters
    The early layers keep their random weights, and the later ones learn from noise. The gradient is not zero, so a check for missing
    gradients passes.

Try
    ReLU or GELU in place of sigmoid and tanh, residual paths, a normalisation between the layers, `nn.init.kaiming_normal_` weights.

References
    Root mean square below 1e-6: TheDeepChecker (https://arxiv.org/abs/2204.00694). First layer below 1e-3 of the last: AutoTrainer
    (https://arxiv.org/abs/2105.08904), taken ten times stricter here, as heads and adapters start small in sound programs. And the
    layer must stand still: where Adam makes up for a small gradient, so that the update is 1e-5 of the weight or more
    (torchmortem's lower limit), nothing is said.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from ..flags import Sign
from ..view import View
from ._numbers import groups, listed, median, named, number

SEVERITY = "warning"
THRESHOLD = "root mean square of the gradient < 1e-6 and < 1e-4 of the model's largest, update < 1e-5 of the weight, over 20 steps"
SOURCE = "TheDeepChecker (1e-6), AutoTrainer (1e-3, ten times stricter here), torchmortem (1e-5)"

SMALL, RATIO, MOVES = 1e-6, 1e-4, 1e-5
WINDOW = LEAST = 20


def check(view: View) -> Iterator[Sign]:
    if view.count < LEAST:
        return
    newest = view.last("norm", 1)[0]
    roots = [math.sqrt(max(1, layer.parameters)) for layer in view.layers]
    for model, indices in groups(view).items():
        sizes = {i: value / roots[i] for i in indices if (value := newest[i]) and math.isfinite(value)}
        largest = max(sizes.values(), default=0.0)
        if not any(size < SMALL and size < RATIO * largest for size in sizes.values()):
            continue
        rows = [row for row in view.last("norm", WINDOW) if any(row[i] for i in indices)]
        if len(rows) < LEAST:
            continue
        tops = [max((row[i] or 0.0) / roots[i] for i in indices) for row in rows]
        small = [i for i in sizes if _fades(i, rows, tops, roots[i]) and not _moves(view, i)]
        if small:
            yield _sign(view, model, small, sizes, largest)


def _fades(index: int, rows: list[list[float | None]], tops: list[float], root: float) -> bool:
    """Small at each step, and not on the way up, as a branch that starts at zero is."""
    values = [(value / root, top) for row, top in zip(rows, tops) if (value := row[index])]
    if len(values) < LEAST or not all(size < SMALL and size < RATIO * top for size, top in values):
        return False
    half = len(values) // 2
    return median([size for size, _ in values[half:]]) < 2 * median([size for size, _ in values[:half]])


def _moves(view: View, index: int) -> bool:
    updates = view.layer(index, "update", 3)
    return bool(updates) and median(updates) >= MOVES


def _sign(view: View, model: str, small: list[int], sizes: dict[int, float], largest: float) -> Sign:
    worst = min(small, key=lambda i: sizes[i])
    names = [view.layers[i].name for i in small]
    top = max(sizes, key=lambda i: sizes[i])
    return Sign(
        f"vanishing:{model}",
        names,
        {"smallest": sizes[worst], "largest": largest, "ratio": sizes[worst] / largest, "layers": len(small)},
        f"in {named(model)} the gradient falls to {number(sizes[worst] / largest)} of its size on the way from `{view.layers[top].name}` "
        f"to `{view.layers[worst].name}` (root mean square {sizes[worst]:.2e}); next to nothing reaches {listed(names)}",
    )
