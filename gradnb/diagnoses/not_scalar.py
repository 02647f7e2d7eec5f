"""Backward is called on a vector: a reduction is missing.

What happens
    A gradient belongs to one number. For a loss with one value per sample, `backward()` and `torch.autograd.grad` cannot know
    how to weigh the values and raise "grad can be implicitly created only for scalar outputs".

Why it matters
    The error shows the call of backward, while the reduction is missing in the function that computed the loss.

Fix
    `.mean()` (or `.sum()`) at the end of the loss function. To keep one weight per sample, multiply first and reduce then.

References
    https://docs.pytorch.org/docs/stable/generated/torch.Tensor.backward.html
    https://docs.pytorch.org/docs/stable/generated/torch.autograd.grad.html
"""

from __future__ import annotations

from collections.abc import Iterator

from ..flow import leads
from ..recorder.recording import Recording
from ..report.finding import Finding
from ._words import build, loss, quote, subject


def find(recording: Recording) -> Iterator[Finding]:
    """One finding for each backward pass that starts from more than one number."""
    for lead in leads(recording, "not-scalar"):
        shape, helper = lead.details.get("shape"), lead.details.get("helper")
        size = f"of shape {tuple(shape)}" if shape else "with more than one element"
        source = f"`{helper}` returns it without a reduction." if helper else f"{subject(lead, 'This expression')} does not reduce it."
        target = quote(f"({lead.expression}).mean()" if " " in lead.expression else f"{lead.expression}.mean()") if lead.expression else ""
        yield build(
            lead,
            title=f"{loss(lead)} is a tensor {size}, not a single number: a `.mean()` is missing",
            explanation=f"Backward starts from one number, and {loss(lead)} is {size}. {source}",
            fix=(f"Reduce it here: {target}" if target else "Reduce it before backward, with `.mean()`")
            + ", or `.sum()` if the samples are to add up.",
        )


def bad() -> None:
    """The loss keeps one value per sample for a weighting, and the mean is forgotten."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    inputs, labels, weights = torch.randn(10, 4), torch.randint(0, 3, (10,)), torch.rand(10)

    def weighted_loss(logits):
        losses = nn.functional.cross_entropy(logits, labels, reduction="none")
        return weights * losses  # <- here

    for _ in range(3):
        optimizer.zero_grad()
        loss = weighted_loss(model(inputs))
        loss.backward()
        optimizer.step()


def good() -> None:
    """Weighted first, averaged then."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    inputs, labels, weights = torch.randn(10, 4), torch.randint(0, 3, (10,)), torch.rand(10)

    def weighted_loss(logits):
        losses = nn.functional.cross_entropy(logits, labels, reduction="none")
        return (weights * losses).mean()

    for _ in range(3):
        optimizer.zero_grad()
        loss = weighted_loss(model(inputs))
        loss.backward()
        optimizer.step()
