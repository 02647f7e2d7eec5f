"""Most of a tanh or sigmoid layer is saturated: its inputs lie where the curve is flat.

What happens
    The inputs of the activation are too large: data that are not normalised, weights that start or grow too large.

Why it matters
    Where the curve is flat its slope is next to zero, and so is the gradient of everything before it.

Try
    Normalise the inputs, smaller initial weights (`nn.init.xavier_normal_`), LayerNorm or BatchNorm in front of the activation, a
    smaller learning rate.

References
    More than 50 % of a layer: SageMaker Debugger, which calls a tanh saturated beyond 9.5 and a sigmoid beyond -23 or 17, where
    float32 knows no slope any more. Glorot and Bengio, https://proceedings.mlr.press/v9/glorot10a.html, show that learning stops much
    earlier; here it is a slope below 1 % of the largest (tanh beyond 3.0, sigmoid beyond 6.0). The last activation of a model is not
    looked at: an output that is sure of itself is meant to be flat.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..flags import Sign
from ..view import View
from ._numbers import shares

SEVERITY = "warning"
THRESHOLD = "more than 50 % of the values with a slope below 1 % of the largest, in two looks in a row"
SOURCE = "SageMaker Debugger (50 %), Glorot and Bengio 2010"

SHARE, LOOKS = 0.5, 2


def check(view: View) -> Iterator[Sign]:
    for name, share in shares(view, "saturated", SHARE, LOOKS):
        yield Sign(
            f"saturated:{name}",
            [name],
            {"saturated": share},
            f"{100 * share:.0f} % of what `{name}` gives lies where it is flat",
        )
