"""What is meant as a parameter is the result of an operation, not a leaf.

What happens
    `torch.randn(3, requires_grad=True) * 0.1` or `nn.Parameter(x).to(device)` is computed from a leaf that nobody keeps. The
    gradient arrives in that hidden leaf; the tensor at hand keeps `.grad` None.

Why it matters
    An optimizer refuses it ("can't optimize a non-leaf Tensor"), or never sees it because a module registers only
    `nn.Parameter`, and then it keeps its first value.

Fix
    Compute first, make it a leaf last: `nn.Parameter(0.1 * torch.randn(3))`, or `(0.1 * torch.randn(3)).requires_grad_()`.

References
    https://docs.pytorch.org/docs/stable/generated/torch.Tensor.is_leaf.html
    https://docs.pytorch.org/docs/stable/generated/torch.nn.parameter.Parameter.html
"""

from __future__ import annotations

from collections.abc import Iterator

from ..flow import leads
from ..recorder.recording import Recording
from ..report.finding import Finding
from ._words import build, place, quote, subject


def find(recording: Recording) -> Iterator[Finding]:
    """One finding for each computed tensor that was meant to learn."""
    for lead in leads(recording, "non-leaf"):
        name = lead.details.get("name") or lead.details.get("attribute")
        tensor = quote(str(name)) if name else subject(lead, "a tensor that should learn")
        if lead.details.get("raised"):
            result = "An optimizer takes leaves only, so it raises."
        else:
            result = f"Its gradient goes to a leaf that nobody keeps: {tensor} has no `.grad`, no optimizer holds it, and it never moves."
        yield build(
            lead,
            title=f"{tensor} is the result of an operation, not a leaf that can be trained",
            explanation=f"{subject(lead, 'The expression')}{place(lead)} computes a new tensor from the leaf. {result}",
            fix="Put the operation inside: `nn.Parameter(0.1 * torch.randn(…))`, `nn.Parameter(torch.zeros(…, device=device))`; "
            "without a module, call `.requires_grad_()` on the finished tensor.",
        )


def bad() -> None:
    """The codebook is scaled after it was told to require grad."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    codebook = 0.1 * torch.randn(5, 4, requires_grad=True)  # <- here
    encoder = nn.Linear(6, 4)
    optimizer = torch.optim.Adam([codebook, *encoder.parameters()], lr=0.01)
    inputs = torch.randn(20, 6)
    for _ in range(3):
        codes = encoder(inputs)
        weights = (-torch.cdist(codes, codebook)).softmax(dim=1)
        loss = nn.functional.mse_loss(weights @ codebook, codes)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def good() -> None:
    """The scaled tensor itself is made the leaf."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    codebook = (0.1 * torch.randn(5, 4)).requires_grad_()
    encoder = nn.Linear(6, 4)
    optimizer = torch.optim.Adam([codebook, *encoder.parameters()], lr=0.01)
    inputs = torch.randn(20, 6)
    for _ in range(3):
        codes = encoder(inputs)
        weights = (-torch.cdist(codes, codebook)).softmax(dim=1)
        loss = nn.functional.mse_loss(weights @ codebook, codes)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
