"""NaN or infinity is born in one operation and spreads to the loss or the gradients.

What happens
    `log(0)`, `0 / 0`, `sqrt` at 0, a softmax over a row that is masked out, an exponential that overflows: one element is not
    finite. Forward it may be hidden by `torch.where` or a mask; backward multiplies it by 0, and 0 times infinity is NaN.

Why it matters
    One NaN in a gradient makes every weight that it reaches NaN in the next step, for good. It shows up far from where it
    was born.

Fix
    Keep the argument away from the singular point *before* the operation: `x.clamp(min=eps).sqrt()`,
    `total / count.clamp(min=1)`, `F.cross_entropy` on logits in place of a log of probabilities.

References
    https://docs.pytorch.org/docs/stable/notes/autograd.html
    https://docs.pytorch.org/docs/stable/generated/torch.where.html
    https://github.com/pytorch/pytorch/issues/160016
"""

from __future__ import annotations

from collections.abc import Iterator

from ..flow import leads
from ..flow.lead import Lead
from ..recorder.recording import Recording
from ..report.finding import Finding
from ._words import build, names, place, quote, sentence, subject

_HIDDEN = " A `torch.where` or a mask behind it does not help: backward multiplies by 0 there, and 0 times infinity is NaN."
# kind -> what the expression does, what to do about it
KINDS = {
    "division": (
        "divides by zero",
        "Keep the denominator away from zero before the division: `x / count.clamp(min=1)` for a count, `x / (norm + 1e-6)` for a size.",
    ),
    "sqrt-zero": (
        "takes the root of exactly 0, where its slope is infinite",
        "Add a small number under the root: `torch.sqrt(x.clamp(min=1e-12))` or `(x + 1e-12).sqrt()`; `x.norm()` has a slope of 0 at 0.",
    ),
    "sqrt-negative": ("takes the root of a negative number", "Clamp first: `torch.sqrt(x.clamp(min=1e-12))`."),
    "rsqrt": ("takes the inverse root of a number that is not positive", "Add a small number under the root: `torch.rsqrt(x + 1e-6)`."),
    "log-zero": (
        "takes the logarithm of 0",
        "Stay in log space: `F.log_softmax` in place of `softmax().log()`, `F.logsigmoid`, `F.binary_cross_entropy_with_logits`; or clamp "
        "first: `torch.log(p.clamp(min=1e-8))`.",
    ),
    "log-negative": ("takes the logarithm of a negative number", "Make it positive first: `F.softplus(x)`, or `x.clamp(min=1e-8)`."),
    "power-zero": (
        "raises 0 to a power below 1, where its slope is infinite",
        "Clamp the base first: `x.clamp(min=1e-8) ** p`.",
    ),
    "power-negative": (
        "raises a negative number to a power that is no whole number",
        "Use `x.abs().clamp(min=1e-8) ** p`, with the sign apart.",
    ),
    "arc-edge": (
        "stands at the edge of its domain, where its slope is infinite",
        "Keep off the edge: `x.clamp(-1 + 1e-6, 1 - 1e-6)`; for an angle between vectors `torch.atan2(cross.norm(), dot)` has no edge.",
    ),
    "arc-outside": ("gets an argument outside of its domain", "Clamp first: `x.clamp(-1 + 1e-6, 1 - 1e-6)`."),
    "exp-overflow": (
        "overflows",
        "Subtract the maximum first (`torch.logsumexp`, `softmax` and `log_softmax` do), use `F.softplus`, or clamp the exponent.",
    ),
    "softmax-row": (
        "normalises a row that is masked out as a whole",
        "Leave such rows out, or let them see one position: unmask one key where all are masked, before the softmax.",
    ),
    "spread-of-one": (
        "asks for the spread of one element, which divides by zero",
        "Pass `correction=0` (`unbiased=False`), or skip the normalisation where there is only one element.",
    ),
    "spread-zero": ("normalises values that are all equal, with no epsilon", "Give the normalisation an `eps` above 0."),
    "spectrum": (
        "has no derivative where two singular values or eigenvalues are equal, or one is zero",
        "Add a small distinct diagonal before the decomposition, or use only its singular values.",
    ),
    "matrix": ("inverts a matrix that is singular", "Add a small multiple of the identity before you invert or solve."),
    "empty": (
        "averages over no elements",
        "Skip the term where nothing is selected, or divide a sum by `mask.sum().clamp(min=1)`.",
    ),
    "all-ignored": (
        "averages over no elements: every target is ignored",
        "Skip such a batch, or use `reduction='sum'` divided by `(target != ignore_index).sum().clamp(min=1)`.",
    ),
    "zero-times-inf": ("multiplies 0 by infinity", "Use `masked_fill` or `torch.where` in place of a product with infinity."),
    "inf-meets-inf": (
        "meets infinities in its arguments and makes NaN of them",
        "Use a large finite number in the mask (`torch.finfo(x.dtype).min`) in place of infinity.",
    ),
    "overflow": (
        "overflows",
        "Compute it in float32 (or bfloat16, which has float32's range), or scale the values down before.",
    ),
    "custom": ("returns a gradient that is not finite from its hand-written backward", "Guard the singular points in that `backward`."),
}


def find(recording: Recording) -> Iterator[Finding]:
    """At most one finding: the operation where the first NaN or infinity was born."""
    for lead in leads(recording, "nan"):
        title, why, fix = _words(lead)
        spoilt = ""
        if lead.affected:
            what = "the gradient" if lead.details.get("hidden") or lead.details.get("phase") == "backward" else "the loss and the gradient"
            spoilt = f" It makes {what} of {names(lead.affected)} {lead.details.get('state', 'NaN')}."
        yield build(lead, title=title, explanation=why + _numbers(lead) + spoilt, fix=fix)


def _words(lead: Lead) -> tuple[str, str, str]:
    details = lead.details
    state, phase = str(details.get("state", "NaN")), str(details.get("phase", "forward"))
    operation = quote(str(details.get("operation") or lead.operation or "the operation"))
    name = quote(str(details["name"])) if details.get("name") else ""
    if phase == "input":
        given = name or "a value"
        if details.get("made"):
            return (
                f"{subject(lead, 'this line')} puts {state} into the data",
                f"{sentence(given)} came into torch with {state}; of all that it is made of, this line is the one that can make it.",
                "Fill or drop what is missing, and guard the logarithm or the division, before the data goes into a tensor.",
            )
        return (
            f"{given} holds {state} before it is used here",
            f"{sentence(given)} was not computed in the recorded code: it came in with {state}, and this line is the first to use it.",
            "Look at where it comes from: `torch.isfinite(x).all()` after loading; fill or drop what is missing.",
        )
    if phase == "parameter":
        return (
            f"{name or 'a parameter'} holds {state} from the start",
            f"{sentence(name or 'the parameter')} was {state} before the first step: memory never filled, or a damaged checkpoint.",
            "Initialise it: `torch.empty` gives whatever stood in memory; use `nn.init` or `torch.zeros`.",
        )
    if phase == "step":
        options = ", ".join(f"{k}={v:g}" for k, v in dict(details.get("options") or {}).items() if k in ("lr", "eps", "momentum"))
        return (
            f"the optimizer makes {name or 'a parameter'} {state} although its gradient is finite",
            f"The gradients are finite, and the step itself makes {name or 'the parameter'} {state}"
            + (f" ({options})." if options else "."),
            "Look at the learning rate and `eps`: Adam with `eps=0` divides 0 by 0 where a gradient is zero.",
        )
    if phase == "late":
        step = int(dict(details.get("options") or {}).get("step", 0))
        return (
            f"the gradient of {name or 'a parameter'} is {state} at step {step}, after the steps that were recorded",
            f"Only the first steps are recorded in full; at step {step} this optimizer step used a gradient that is {state}.",
            f"Check again with `--steps {step}` (or `gradnb.check(steps={step})`): then the operation that made it is named.",
        )
    if details.get("kind") == "unknown" and not lead.operation:
        return (
            f"this backward pass gives {names(lead.affected)} a gradient that is {state}",
            f"The loss is finite and its gradient is {state}; which operation did it is not known: the graph is too large to look into.",
            "Run a smaller batch or model under the check, or a first step that already fails: then the operation is named.",
        )
    how, fix = KINDS.get(str(details.get("kind")), ("", ""))
    if not how:
        how = f"gives the first {state}"
        fix = "Print the values that go in, and keep them in the range where this operation and its derivative are finite."
    elif details.get("kind") in ("overflow", "exp-overflow") and state == "inf":
        how += " to infinity"
    title = f"{subject(lead, operation)} {how}"
    where = "backward" if phase == "backward" and not details.get("hidden") else "forward"
    why = f"{sentence(operation)}{place(lead)} {how}; the first value that is not finite is born here, {where}."
    return title, why + (_HIDDEN if details.get("hidden") else ""), fix


def _numbers(lead: Lead) -> str:
    given = [str(text) for text in lead.details.get("inputs") or ()]
    if not given:
        return ""
    return f" It got: {'; '.join(given)}." if len(given) > 1 else f" The values there: {given[0]}."


def bad() -> None:
    """The distance of a point that already sits on its target is 0, and the root has no slope there."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    points = torch.randn(12, 2)
    target = points.clone()
    target[1:] += 0.3 * torch.randn(11, 2)
    shift = nn.Linear(2, 2)
    nn.init.zeros_(shift.weight)
    nn.init.zeros_(shift.bias)

    def distance(a, b):
        return ((a - b) ** 2).sum(dim=1).sqrt()  # <- here

    optimizer = torch.optim.SGD(shift.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        loss = distance(points + shift(points), target).mean()
        loss.backward()
        optimizer.step()


def good() -> None:
    """A small number under the root gives it a finite slope."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    points = torch.randn(12, 2)
    target = points.clone()
    target[1:] += 0.3 * torch.randn(11, 2)
    shift = nn.Linear(2, 2)
    nn.init.zeros_(shift.weight)
    nn.init.zeros_(shift.bias)

    def distance(a, b):
        return (((a - b) ** 2).sum(dim=1) + 1e-12).sqrt()

    optimizer = torch.optim.SGD(shift.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        loss = distance(points + shift(points), target).mean()
        loss.backward()
        optimizer.step()
