"""The loss scale collapses: the GradScaler halves again and again, and skips each of these steps.

What happens
    Every backward pass has a NaN or an infinity in it, whatever the scale. So it is no overflow that a smaller scale could avoid: a NaN
    is born in the model itself.

Why it matters
    A skipped step changes nothing: the loop runs on, the weights stand still. Below 1 the scale makes small gradients smaller.

Try
    Run one step without autocast under `%%gradcheck`: it names the operation in which the NaN is born. Usual suspects in half
    precision: exp, log and division outside autocast's list, a mask of -1e9 (take `torch.finfo(x.dtype).min`), a large sum.

References
    A scale below 1: DeepSpeed's min_loss_scale (https://www.deepspeed.ai/docs/config-json/); fairseq gives up at 1e-4. At the start a
    scaler may halve ten times until it has found its range (https://docs.pytorch.org/docs/stable/amp.html), and now and then later.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..flags import Sign
from ..view import View
from ._numbers import number

SEVERITY = "error"
THRESHOLD = "15 steps skipped with hardly one made between them, or a scale that fell below 1 and goes on falling"
SOURCE = "DeepSpeed (min_loss_scale 1): 15 halvings take the usual 65536 to 2"

MOST, MADE, FLOOR = 15, 3, 1.0


def check(view: View) -> Iterator[Sign]:
    skips = [step for step, _, _ in view.events("skipped")]
    scales = view.series("scale", 256)
    if len(skips) < 3:
        return
    made = view.last_steps("norm", MADE + 1)
    before = made[0] if len(made) > MADE else 0
    recent = [step for step in skips if step > before]
    falling = len(scales) > 2 and 0 < scales[-1][1] < FLOOR <= max(value for _, value in scales) and scales[-1][1] < scales[-3][1]
    if len(recent) < MOST and not falling:
        return
    last = scales[-1][1] if scales else None
    known = f"; the scale was {number(last)} at the last step that was made" if last is not None else ""
    yield Sign(
        "scale-collapsing",
        [],
        {"scale": last, "skipped": len(recent) or len(skips), "made": sum(step > before for step in made)},
        f"the GradScaler has skipped {len(recent) or len(skips)} steps{' in a row' if not falling else ''}, "
        f"and halves its scale at each{known}",
        since=recent[0] if recent else skips[0],
    )
