"""An operation without a gradient (argmax, argsort, a comparison, sampling) stands on the way to the loss.

What happens
    The result of `argmax`, `topk(…).indices`, `x > 0`, `torch.multinomial` or `dist.sample()` jumps from one value to the next.
    There is no derivative, so autograd returns a constant.

Why it matters
    An accuracy, a hard choice or a sampled action cannot teach the network that made it, however large its weight in the
    loss.

Fix
    Use a smooth stand-in: the expectation under `softmax` for `argmax`, `F.gumbel_softmax` or `dist.rsample()` for a sample, a
    sigmoid for a comparison; or learn from a reward by `dist.log_prob(action)`.

References
    https://docs.pytorch.org/docs/stable/distributions.html
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.gumbel_softmax.html
"""

from __future__ import annotations

from collections.abc import Iterator

from ..flow import leads
from ..recorder.recording import Recording
from ..report.finding import Finding
from ._words import after, build, consequence, cut_title, place, subject

SOFT = {
    "argmax": "Use the expectation instead of the maximum: `(scores.softmax(dim=-1) * positions).sum(dim=-1)`; for a class, hand the "
    "logits to the loss.",
    "sort": "Use the sorted values, not their indices, or a soft ranking.",
    "sample": "Draw with `dist.rsample()` where the distribution has it, `F.gumbel_softmax(logits)` for a choice, or learn by "
    "`-(reward * dist.log_prob(action)).mean()`.",
    "compiled": 'Run the cell once with `torch.compiler.set_stance("force_eager")`: the check then sees the line inside.',
    "range": "Scale a fixed range: `low + (high - low) * torch.linspace(0, 1, count)`.",
    "compare": "Replace the comparison by a smooth one: `torch.sigmoid(sharpness * (x - threshold))`, or use a loss on `x` itself.",
}
FAMILIES = {
    **dict.fromkeys(("argmax", "argmin", "max", "min", "topk"), "argmax"),
    **dict.fromkeys(("argsort", "sort", "searchsorted", "bucketize", "unique"), "sort"),
    **dict.fromkeys(("multinomial", "bernoulli", "bernoulli_", "sample", "poisson", "normal"), "sample"),
    **dict.fromkeys(("linspace", "logspace"), "range"),
    **dict.fromkeys(("gt", "lt", "ge", "le", "eq", "ne", "isclose", "logical_and", "logical_or", "logical_not", "nonzero"), "compare"),
}


def find(recording: Recording) -> Iterator[Finding]:
    """One finding for each jump that stands between parameters and the loss."""
    for lead in leads(recording, "nondifferentiable"):
        operation = lead.operation.strip("_")
        named = f"`{operation}`" if operation else "this operation"
        family = FAMILIES.get(operation, "")
        if lead.details.get("library") == "torch.distributions":
            named, family = "`.sample()`", "sample"
        why = f"The result of {named}{place(lead)} jumps, so it has no gradient."
        if operation == "compiled region":
            why, family = f"Somewhere inside of this compiled call{place(lead)} the history is dropped.", "compiled"
        yield build(
            lead,
            title=cut_title(lead, subject(lead, named)),
            explanation=f"{why} {consequence(lead)}",
            fix=SOFT.get(family, "Use a differentiable stand-in for this step, or learn from its result as a reward.") + after(lead),
        )


def bad() -> None:
    """A keypoint is read off a heat map by argmax."""
    import torch
    from torch import nn

    torch.manual_seed(0)

    class Keypoint(nn.Module):
        def __init__(self):
            super().__init__()
            self.heat = nn.Conv1d(1, 1, 5, padding=2)
            self.offset = nn.Parameter(torch.zeros(1))

        def forward(self, x):
            heat = self.heat(x).squeeze(1)
            peak = heat.argmax(dim=1)  # <- here
            return peak / heat.shape[1] + self.offset

    model = Keypoint()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    signal, target = torch.randn(16, 1, 20), torch.rand(16)
    for _ in range(3):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(signal), target)
        loss.backward()
        optimizer.step()


def good() -> None:
    """The expected position under a softmax moves smoothly with the heat map."""
    import torch
    from torch import nn

    torch.manual_seed(0)

    class Keypoint(nn.Module):
        def __init__(self):
            super().__init__()
            # A bias would shift all of the heat map at once, which the softmax takes out again.
            self.heat = nn.Conv1d(1, 1, 5, padding=2, bias=False)
            self.offset = nn.Parameter(torch.zeros(1))

        def forward(self, x):
            heat = self.heat(x).squeeze(1)
            place = torch.linspace(0, 1, heat.shape[1])
            return (heat.softmax(dim=1) * place).sum(dim=1) + self.offset

    model = Keypoint()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    signal, target = torch.randn(16, 1, 20), torch.rand(16)
    for _ in range(3):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(signal), target)
        loss.backward()
        optimizer.step()
