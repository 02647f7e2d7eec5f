"""The loss has not moved since the first step.

What happens
    Over two hundred steps there is no trend in the noise: nothing was learned, or nothing was left to learn.

Why it matters
    A loss that stands at log(number of classes) is chance. One that stands where an earlier run ended is well.

Try
    Overfit one batch: 16 samples, no regularisation; if the loss stays up there, too, the gradient or the labels are at fault. Compare
    with the loss of a constant prediction.

References
    Loss not decreasing: SageMaker Debugger (10 steps, too few for noisy batches); gain below 0.01: AutoTrainer
    (https://arxiv.org/abs/2105.08904). One batch must fit: TheDeepChecker (https://arxiv.org/abs/2204.00694). A remark only, as a
    converged model, a policy's loss and a game of two networks are flat, too; silent where a reward or a metric is rising.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..flags import Sign
from ..view import View
from ._metrics import metrics, rewards
from ._numbers import ALL, ends, finite, losses, number

SEVERITY = "info"
THRESHOLD = "change < 1 % and < 2 standard errors over all steps so far (at least 200)"
SOURCE = "AutoTrainer (gain 0.01)"

LEAST, GAIN, NOISE = 200, 0.01, 2.0


def check(view: View) -> Iterator[Sign]:
    if not LEAST <= view.count:
        return
    names = [name for name in losses(view) if name == "loss" or name.endswith(("/loss", "_loss"))]
    if len(names) != 1 or any(_moving(view, name) for name in [*metrics(view), *rewards(view)]):
        return
    values = finite(view.series(names[0], ALL))
    if len(values) < LEAST:
        return
    found = ends(values)
    if found.before and abs(found.change) < GAIN * abs(found.before) and abs(found.change) < NOISE * found.noise:
        yield Sign(
            "loss-flat",
            [],
            {"at_first": found.before, "now": found.after, "noise": found.noise, "steps": view.step},
            f"`{names[0]}` is where it began: {number(found.before)} in the first quarter of {view.step} steps, "
            f"{number(found.after)} in the last",
        )


def _moving(view: View, name: str) -> bool:
    values = finite(view.series(name, ALL))
    found = ends(values)
    return len(values) >= 8 and abs(found.change) > NOISE * found.noise
