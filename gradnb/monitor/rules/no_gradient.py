"""A sub-model, or a large part of one, gets no gradient: exactly zero or none at all.

What happens
    At every step so far the optimizer was about to move these parameters, and their gradient was missing or 0.00e+00 in every element.
    A `detach()`, a `no_grad` block, a round trip through NumPy or `requires_grad=False` lies between them and the loss; or a factor of
    zero does: weights that all start at zero, units that never open.

Why it matters
    What gets no gradient does not learn. The rest of the model learns around it, the loss falls, and nothing raises an error.

Try
    Run one step under `%%gradcheck`: it names the line where the gradient is lost. If the part is meant to stay as it is, leave it
    out of the optimizer. If its weights are all zero, initialise them at random.

References
    Qwen_grad 0.00e+00 as a red flag: the field reports this tool was built for. Zero is exact here, no tolerance: AutoTrainer's 70 %
    of zeros (https://arxiv.org/abs/2105.08904) also speaks on sparse embeddings and on ReLU nets that are well. Not at the first
    step: low-rank adapters and residual branches that start at zero have zeros there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from ..flags import Sign
from ..view import View
from ._numbers import groups, listed, named

SEVERITY = "error"
THRESHOLD = "exactly 0, or missing, at each of the last 100 steps or of all so far (at least 5; a part of a model: 20)"
SOURCE = "field report (Qwen_grad 0.00e+00)"

WINDOW, WHOLE, PART = 100, 5, 20
_NUMBER = re.compile(r"(?<=\.)\d+(?=\.)")
SHARE = 0.1  # of the model's numbers; a smaller part may be one that a library ships and nobody uses


def check(view: View) -> Iterator[Sign]:
    if view.count < WHOLE:
        return
    yield from _frozen(view)
    # Most of the time nothing is at zero, and a few rows say so.
    if not any(value == 0 for row in view.last("norm", WHOLE) for value in row):
        return
    columns = list(zip(*view.last("norm", WINDOW)))
    asked = [len(column) - column.count(None) for column in columns]
    alive = [any(column) for column in columns]
    starved = [times > 0 and not any_ for times, any_ in zip(asked, alive)]
    if not any(alive):
        yield from _nothing(view, asked)
        return
    for model, indices in groups(view).items():
        taken_part = [i for i in indices if asked[i]]
        if taken_part and all(starved[i] for i in taken_part) and len(groups(view)) > 1:
            if max(asked[i] for i in taken_part) >= WHOLE:
                yield _sign(view, f"no-gradient:{model}", taken_part, asked, f"{named(model)} gets no gradient at all")
            continue
        parts = [i for i in taken_part if starved[i] and asked[i] >= PART]
        if parts:
            share = sum(view.layers[i].parameters for i in parts) / max(1, sum(view.layers[i].parameters for i in taken_part))
            text = f"{listed([view.layers[i].name for i in parts])} {'gets' if len(parts) == 1 else 'get'} no gradient"
            grave = share >= SHARE and not _routed(view, parts, [i for i in taken_part if alive[i]])
            yield _sign(view, f"no-gradient:{model}:parts", parts, asked, text, "warning" if grave else "info", share)


def _frozen(view: View) -> Iterator[Sign]:
    """A sub-model that an optimizer holds and that was frozen as a whole; what is frozen and held by none is meant so."""
    for step, _, label in view.events("frozen"):
        if label not in view.models:
            yield Sign(
                f"no-gradient:{label}",
                [label],
                {"norm": 0.0, "steps": view.step},
                f"{named(label)} gets no gradient at all (0.00e+00): each of its parameters has requires_grad=False, "
                "and yet an optimizer holds them",
                since=step,
                advice="`requires_grad_(True)` if it is to learn; if not, leave it out of the optimizer and of watch().",
            )


def _nothing(view: View, asked: list[int]) -> Iterator[Sign]:
    """Everything is at zero: a fault from the start, but an exact fit (a margin loss at 0) when there were gradients before."""
    indices = [i for i, times in enumerate(asked) if times >= WHOLE]
    if indices and not any(value for row in view.last("norm", 1_000_000) for value in row):
        yield _sign(view, "no-gradient", indices, asked, "no layer gets a gradient")


def _sign(view: View, key: str, indices: list[int], asked: list[int], text: str, severity: str = "error", share: float = 1.0) -> Sign:
    newest = view.last("missing", 1)
    tensors = sum(view.layers[i].tensors for i in indices)
    missing = sum(int(newest[0][i] or 0) for i in indices) if newest else 0
    weights = view.last("weight", 1)
    sizes = [weights[0][i] for i in indices if weights[0][i] is not None] if weights else []
    steps = max(asked[i] for i in indices)
    how = "none of its parameters had one" if missing >= tensors else "it is exactly 0.00e+00" if not missing else "it is zero or missing"
    at_zero = bool(sizes) and not any(sizes)
    why = "; its weights are all zero, so every product with them is" if at_zero else ""
    return Sign(
        key,
        [view.layers[i].name for i in indices],
        {"norm": 0.0, "steps": steps, "parameters_missing": missing, "parameters": tensors, "share_of_model": share},
        f"{text}: {how} at the last {steps} optimizer steps{why}",
        since=min(view.last_steps("norm", WINDOW)) if view.count <= WINDOW else None,
        severity=severity,
        advice="Initialise the weights at random: `nn.init.kaiming_normal_` or the module's own reset_parameters()." if at_zero else None,
    )


def _routed(view: View, parts: list[int], alive: list[int]) -> bool:
    """Experts that were not chosen: each has a twin, the same but for a number in its name, that gets a gradient; and not the front
    of a stack, which is what a cut starves."""
    if not alive or min(parts) < min(alive):
        return False
    twins = {(_NUMBER.sub("#", view.layers[i].name), tuple(view.layers[i].shapes)) for i in alive}
    return all((_NUMBER.sub("#", view.layers[i].name), tuple(view.layers[i].shapes)) in twins for i in parts)
