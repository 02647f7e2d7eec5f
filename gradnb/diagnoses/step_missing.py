"""Gradients are computed, and the optimizer that holds the parameters does not step.

What happens
    `backward()` only fills `.grad`. The weights move in `optimizer.step()`, and with two optimizers it is easy to step the
    wrong one; a scheduler only changes the learning rate.

Why it matters
    The loss is computed over and over with the same weights; the gradients pile up or are cleared unused.

Fix
    Call `step()` of the optimizer whose parameters the loss trains, once after each backward (or once per accumulation).

References
    https://docs.pytorch.org/docs/stable/optim.html
"""

from __future__ import annotations

from collections.abc import Iterator

from ..flow import leads
from ..recorder.recording import Recording
from ..report.finding import Finding
from ._words import build, crowd, quote, subject, verb


def find(recording: Recording) -> Iterator[Finding]:
    """One finding for each optimizer whose parameters get gradients that no step uses."""
    for lead in leads(recording, "step-missing"):
        label = lead.details.get("optimizer")
        optimizer = quote(str(label)) if label else "the optimizer"
        call = quote(f"{str(label).split(' ')[0]}.step()") if label else "`optimizer.step()`"
        if lead.details.get("kind") == "other":
            title = f"{subject(lead, 'this step')} moves other parameters than those that just got their gradients"
            why = f"The backward pass before it fills {crowd(lead.affected)}, which {optimizer} holds, and another optimizer is stepped."
            fix = f"Write {call} here."
        else:
            title = f"{optimizer} never steps: {crowd(lead.affected)} {verb(lead.affected, 'gets', 'get')} gradients and never " + verb(
                lead.affected, "moves", "move"
            )
            why = f"`backward()` computes gradients, and only `step()` moves weights; {optimizer} is never asked to."
            fix = f"Call {call} after `backward()`."
        yield build(lead, title=title, explanation=why, fix=fix)


def bad() -> None:
    """The scheduler steps, which changes the learning rate, and the optimizer does not."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=2)
    inputs, target = torch.randn(16, 4), torch.randn(16, 1)
    for _ in range(4):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(inputs), target)
        loss.backward()  # <- here
        scheduler.step()


def good() -> None:
    """The optimizer steps first, the scheduler after it."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=2)
    inputs, target = torch.randn(16, 4), torch.randn(16, 1)
    for _ in range(4):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(inputs), target)
        loss.backward()
        optimizer.step()
        scheduler.step()
