"""Gradients of earlier steps are never cleared and pile up.

What happens
    `backward()` adds to `.grad`. Without `zero_grad()` each step moves along the sum of all gradients so far.

Why it matters
    The steps grow and point at old data: training oscillates or diverges, and nothing raises.

Fix
    `optimizer.zero_grad()` once per step, before `backward()`. To accumulate on purpose, clear after each step and divide the loss
    by the number of batches.

References
    https://docs.pytorch.org/docs/stable/generated/torch.optim.Optimizer.zero_grad.html
    https://github.com/pytorch/pytorch/issues/47175
"""

from __future__ import annotations

from collections.abc import Iterator

from ..flow import leads
from ..recorder.recording import Recording
from ..report.finding import Finding
from ._words import build, crowd, quote


def find(recording: Recording) -> Iterator[Finding]:
    """One finding for each optimizer that steps on gradients of earlier steps."""
    for lead in leads(recording, "zero-grad-missing"):
        label, steps = lead.details.get("optimizer"), lead.details.get("steps")
        optimizer = quote(str(label)) if label else "the optimizer"
        call = quote(f"{str(label).split(' ')[0]}.zero_grad()") if label else "`optimizer.zero_grad()`"
        over = f" over {steps} steps" if steps else ""
        yield build(
            lead,
            title=f"the gradients of {crowd(lead.affected)} pile up{over}: {call} is missing",
            explanation=f"`backward()` adds to `.grad`, and nothing clears it before the next step of {optimizer}: each step moves along "
            "the sum of all gradients so far.",
            fix=f"Call {call} before `backward()`, once for each step.",
        )


def bad() -> None:
    """A loop without zero_grad."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for _ in range(4):
        inputs = torch.randn(16, 5)
        target = inputs.sum(dim=1, keepdim=True)
        loss = nn.functional.mse_loss(model(inputs), target)
        # The missing call belongs between these two steps of the loop: either line may be named.
        loss.backward()  # <- here
        optimizer.step()  # <- here


def good() -> None:
    """The gradients are cleared before each backward."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for _ in range(4):
        inputs = torch.randn(16, 5)
        target = inputs.sum(dim=1, keepdim=True)
        loss = nn.functional.mse_loss(model(inputs), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
