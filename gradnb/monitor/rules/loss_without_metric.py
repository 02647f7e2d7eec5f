"""The loss falls while the metric stays where it was, or gets worse.

What happens
    The model gets better at the loss, and that is not what is measured: the loss can fall in a way that answers nothing (outputs shrink,
    easy elements get easier, labels are learned by heart), labels belong to other rows, or the metric looks at something else. Where the
    metric gets worse as the loss falls, the loss asks for the opposite: a term with the wrong sign, classes in another order.

Why it matters
    The curve that everybody looks at says that all is well.

Try
    Overfit ten samples and look at the metric on these; measure it on the training batch, too; check that inputs and labels are shuffled
    together; add a term that the metric depends on.

References
    "Loss went down 8.2 to 7.5, but accuracy stayed at 0 %": a field report this tool was built for. |correlation of loss and metric|
    below 0.5: TheDeepChecker (https://arxiv.org/abs/2204.00694); 0.3 here, in the direction that helps, as the accuracy of a small
    batch is mostly noise. A metric that has its best value already, or that moved before, has
    no way to go, and nothing is said. To get worse is to lose a fifth, stretch after stretch, in step with the loss (correlation above that
    0.5), while no other metric gets better; a reward is given twice the steps, as exploring costs some of it.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..flags import Sign
from ..view import View
from ._metrics import better_up, directions, metrics, rewards
from ._numbers import ALL, Point, correlation, deviation, ends, finite, losses, mean, number

SEVERITY = "warning"
THRESHOLD = "loss down by 20 % (5 % where the metric is constant), metric within 2 standard errors, correlation < 0.3, over 100 steps"
SOURCE = "field report (8.2 to 7.5 at 0 %), TheDeepChecker (correlation 0.5, here 0.3 for noisy batches)"

STEPS, VALUES, FALL, FALL_CONSTANT, NOISE, RELATED, GOOD = 100, 8, 0.2, 0.05, 2.0, 0.3, 0.9
STRETCHES, WORSE, TOGETHER = 5, 0.2, 0.5
OPPOSITE = (
    "Look at the sign of each term of the loss, and that predictions, targets and classes are in the same order in the loss and in the "
    "metric. A loss that weighs classes gives up some accuracy for the rare ones: look at each class by itself."
)


def check(view: View) -> Iterator[Sign]:
    if view.step < STEPS:
        return
    measured, known = metrics(view), directions(view)
    if not measured and not known:
        return
    named = losses(view)
    for name in named[:1]:
        points = view.series(name, ALL)
        values = finite(points)
        fall = ends(values)
        if len(values) < VALUES or fall.before <= 0 or -fall.change < max(FALL_CONSTANT * fall.before, NOISE * fall.noise):
            continue
        for metric in measured:
            yield from _compare(view, name, points, metric, -fall.change / fall.before)
        if len(named) == 1 and not any(_better(view, metric, way) for metric, way in known.items()):
            for metric, way in known.items():
                yield from _opposed(view, name, points, metric, way, -fall.change / fall.before)


def _compare(view: View, name: str, points: list[Point], metric: str, fell: float) -> Iterator[Sign]:
    measures = view.series(metric, ALL)
    values = finite(measures)
    if len(values) < VALUES or measures[-1][0] - measures[0][0] < STEPS // 2:
        return
    constant = deviation(values) == 0
    if fell < (FALL_CONSTANT if constant else FALL) or _at_its_best(metric, values):
        return
    change = ends(values)
    if not constant and abs(change.change) > NOISE * change.noise:
        return
    # It may have moved in between and come back: halves and middles must agree, too.
    thirds = ends(values, 1 / 3)
    middle = values[len(values) // 3 : -(len(values) // 3)]
    if abs(thirds.change) > NOISE * thirds.noise or abs(sum(middle) / len(middle) - thirds.before) > NOISE * max(thirds.noise, 1e-12):
        return
    related = correlation(*_paired(points, measures))
    if (-related if better_up(metric) else related) >= RELATED:
        return
    yield Sign(
        f"loss-without-metric:{metric}",
        [],
        {"loss_change": -fell, "metric_before": change.before, "metric_after": change.after, "correlation": related},
        f"`{name}` fell by {100 * fell:.0f} % while `{metric}` stayed at {number(change.after)} (it began at {number(change.before)}; "
        f"correlation {related:+.2f})",
    )


def _opposed(view: View, name: str, points: list[Point], metric: str, way: int, fell: float) -> Iterator[Sign]:
    """The metric gets worse all the way, in step with the loss."""
    measures = view.series(metric, ALL)
    steps = STEPS * (2 if metric in rewards(view) else 1)
    values = finite(measures)
    if len(values) < 2 * STRETCHES or measures[-1][0] - measures[0][0] < 0.9 * steps:
        return
    change = ends(values)
    lost = -way * change.change
    if lost < max(WORSE * abs(change.before), 2 * NOISE * change.noise) or lost == 0:
        return
    cut = [round(i * len(values) / STRETCHES) for i in range(STRETCHES + 1)]
    means = [-way * mean(values[a:b]) for a, b in zip(cut, cut[1:])]
    if means != sorted(means) or means[-2] - means[0] < (means[-1] - means[0]) / 4:  # a single break is another story
        return
    related = way * correlation(*_paired(points, measures))
    if related < TOGETHER:
        return
    yield Sign(
        f"loss-without-metric:{metric}",
        [],
        {"loss_change": -fell, "metric_before": change.before, "metric_after": change.after, "correlation": way * related},
        f"`{name}` fell by {100 * fell:.0f} % while `{metric}` got worse, from {number(change.before)} to {number(change.after)} "
        f"(correlation {way * related:+.2f})",
        threshold=f"metric {WORSE:.0%} worse, in each of {STRETCHES} stretches, correlation {TOGETHER} with the loss, over {steps} steps",
        advice=OPPOSITE,
    )


def _better(view: View, metric: str, way: int) -> bool:
    """Some other metric shows that the training does get somewhere."""
    values = finite(view.series(metric, ALL))
    if len(values) < 2:
        return False
    change = ends(values)
    return way * change.change > NOISE * change.noise


def _at_its_best(metric: str, values: list[float]) -> bool:
    top = 100.0 if max(values) > 1.5 else 1.0
    return sum(values) / len(values) > GOOD * top if better_up(metric) else max(values) == 0


def _paired(points: list[Point], measures: list[Point]) -> tuple[list[float], list[float]]:
    """The loss averaged since the last measurement, beside each value of the metric."""
    x, y, at = [], [], 0
    for step, value in measures:
        batch = []
        while at < len(points) and points[at][0] <= step:
            batch.append(points[at][1])
            at += 1
        if batch:
            x.append(sum(batch) / len(batch))
            y.append(value)
    return x, y
