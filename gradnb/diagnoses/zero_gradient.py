"""A gradient arrives and is exactly zero.

What happens
    The operation is recorded, but its derivative is zero where it stands: `round`, `sign` and `floor` everywhere, `clamp` and
    `relu` outside of their range, a softmax over one element, a factor that is zero, two paths that cancel.

Why it matters
    `.grad` is not None, so checks for missing gradients pass, and the parameters do not move.

Fix
    Let the gradient through where it must: a straight-through estimator `x + (x.round() - x).detach()`, a range that
    covers the values, a softmax over the right dimension.

References
    https://docs.pytorch.org/docs/stable/generated/torch.round.html
    https://docs.pytorch.org/docs/stable/generated/torch.clamp.html
"""

from __future__ import annotations

from collections.abc import Iterator

from ..flow import leads
from ..recorder.recording import Recording
from ..report.finding import Finding
from ._words import build, loss, names, place, quote, sentence, subject, verb

KINDS = {
    "saturated": (
        "works outside of the range where its slope is not zero",
        "Bring the values into the range (scale the input, change the bounds or the initial bias), or use a function with a slope "
        "everywhere, such as `F.leaky_relu` or `F.softplus`.",
    ),
    "cancelled": (
        "sends two gradients back that cancel each other",
        "Detach one of the two paths. In a policy-gradient loss, draw the action with `dist.sample()` instead of `dist.rsample()`.",
    ),
    "factor": (
        "multiplies the gradient by zero",
        "Look at the factor: a mask, a weight or a scale is zero for all elements. Give it a value, or leave the term out.",
    ),
    "died": (
        "is off for every sample since one step threw the weights away",
        "Lower the learning rate, clip the gradient, or use an activation with a slope everywhere, such as `F.leaky_relu` or `F.gelu`.",
    ),
    "constant": (
        "normalises over a single element, so its result does not depend on its input",
        "Normalise over a dimension with more than one element, or leave the normalisation out.",
    ),
    "even": (
        "uses only the sum of probabilities, which is 1 whatever the logits are",
        "Use the probabilities themselves: weight with them before the sum, or take one class (`gather`).",
    ),
    "flat": (
        "is flat: its derivative is zero everywhere",
        "Use a straight-through estimator, `x + (x.round() - x).detach()`, or a smooth function in its place.",
    ),
}
UNKNOWN = ("gives a gradient of zero", "Print the values that go in: one of them lies where the operation has no slope.")


def find(recording: Recording) -> Iterator[Finding]:
    """One finding for each operation that turns all of a gradient into zeros."""
    for lead in leads(recording, "zero-gradient"):
        how, fix = KINDS.get(str(lead.details.get("kind")), UNKNOWN)
        operation = lead.details.get("operation") or lead.operation
        named = quote(str(operation)) if operation else "this operation"
        node = lead.details.get("node")
        born = f" The zeros are born in `{node}` of the backward pass." if node else ""
        yield build(
            lead,
            title=f"{subject(lead, named)} {how}",
            explanation=f"{sentence(named)}{place(lead)} {how}, so {names(lead.affected)} {verb(lead.affected, 'gets', 'get')} a gradient "
            f"of exactly zero from {loss(lead)}.{born}",
            fix=fix,
        )


def bad() -> None:
    """The code of a compressor is rounded, and rounding is flat."""
    import torch
    from torch import nn

    torch.manual_seed(0)

    class Compressor(nn.Module):
        def __init__(self):
            super().__init__()
            self.analysis = nn.Linear(8, 4)
            self.synthesis = nn.Linear(4, 8)

        def forward(self, x):
            code = 4 * self.analysis(x)
            code = torch.round(code)  # <- here
            return self.synthesis(code)

    model = Compressor()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    batch = torch.randn(32, 8)
    for _ in range(3):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(batch), batch)
        loss.backward()
        optimizer.step()


def good() -> None:
    """A straight-through estimator rounds forward and passes the gradient backward."""
    import torch
    from torch import nn

    torch.manual_seed(0)

    class Compressor(nn.Module):
        def __init__(self):
            super().__init__()
            self.analysis = nn.Linear(8, 4)
            self.synthesis = nn.Linear(4, 8)

        def forward(self, x):
            code = 4 * self.analysis(x)
            code = code + (torch.round(code) - code).detach()
            return self.synthesis(code)

    model = Compressor()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    batch = torch.randn(32, 8)
    for _ in range(3):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(batch), batch)
        loss.backward()
        optimizer.step()
