"""The loss swings up and down and gets nowhere.

What happens
    The steps run past the minimum and back: too much momentum, or a learning rate at the edge, where each step lands on the other side.

Why it matters
    The time goes into the swing. A little more and it diverges.

Try
    Momentum of 0.9 in place of 0.99 or more, a learning rate three times smaller; zero_grad() if it is missing, which acts like
    momentum that never decays.

References
    Swings of 0.03 in 20 % of the steps: AutoTrainer (https://arxiv.org/abs/2105.08904), which noisy batches show as well. Here the
    swing must have an order that noise has not (successive values alike in long swings, or opposite in short ones: |autocorrelation|
    above 0.7), cross its own trend eight times with crests 2.5 times as high as the troughs, and reach what the loss was at the
    start; and the steps must be long, above 1e-2 of the weights, ten times what is usual
    (https://karpathy.github.io/neural-networks-3/#ratio): a loss can swing with its data, too.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..flags import Sign
from ..view import View
from ._numbers import ALL, correlation, finite, losses, mean, median, number

SEVERITY = "warning"
THRESHOLD = "|autocorrelation| > 0.7, 8 crossings, crests 2.5 times the troughs and as high as at first, in 100 values; updates > 1e-2"
SOURCE = "AutoTrainer (swings), with autocorrelation against noise"

WINDOW, ALIKE, CROSSINGS, TIMES, UPDATE = 100, 0.7, 8, 2.5, 1e-2
EDGE = 0.2  # share of the values that are called crests, and troughs


def check(view: View) -> Iterator[Sign]:
    if view.count < WINDOW:
        return
    updates = [value for row in view.last("update", 3) for value in row if value is not None]
    if updates and median(updates) < UPDATE:
        return
    for name in losses(view):
        values = finite(view.series(name, WINDOW))
        if len(values) < WINDOW or min(values) < 0:
            continue
        ordered = sorted(values)
        edge = int(EDGE * WINDOW)
        troughs, crests = mean(ordered[:edge]), mean(ordered[-edge:])
        if crests < TIMES * troughs or crests < median(finite(view.series(name, ALL)[:5])):
            continue
        # What falls is alike from value to value, too: the swing is what is left beside the trend, and it goes on to the end.
        if mean(sorted(values[WINDOW // 2 :])[-edge:]) < median(finite(view.series(name, ALL)[:5])):
            continue
        around = _detrended(values)
        alike = correlation(around[:-1], around[1:])
        crossings = _crossings(around)
        if abs(alike) > ALIKE and crossings >= CROSSINGS and not _takes_turns(view):
            yield Sign(
                f"loss-oscillating:{name}",
                [],
                {"crests": crests, "troughs": troughs, "autocorrelation": alike, "crossings": crossings},
                f"`{name}` swings between {number(troughs)} and {number(crests)}, "
                f"{crossings // 2} times in the last {WINDOW} values, and gets nowhere",
            )


def _detrended(values: list[float]) -> list[float]:
    times = range(len(values))
    middle, centre = mean(values), (len(values) - 1) / 2
    slope = sum((t - centre) * (value - middle) for t, value in zip(times, values)) / sum((t - centre) ** 2 for t in times)
    return [value - middle - slope * (t - centre) for t, value in zip(times, values)]


def _crossings(values: list[float]) -> int:
    """How often the values cross their median by more than a tenth of the way to the edges."""
    middle = median(values)
    band = 0.1 * (max(values) - min(values))
    sides = [1 if value > middle else -1 for value in values if abs(value - middle) > band]
    return sum(a != b for a, b in zip(sides, sides[1:]))


def _takes_turns(view: View) -> bool:
    """Tasks with losses of their own take turns: then not every step reaches the same layers."""
    rows = view.last("norm", 20)
    return len({tuple(bool(value) for value in row) for row in rows}) > 1
