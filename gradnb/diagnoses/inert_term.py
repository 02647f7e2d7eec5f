"""A term of the loss is computed from trainable parameters and carries no gradient.

What happens
    The term has a value that changes with the parameters, but autograd sees a constant. `torch.autograd.grad` without
    `create_graph=True` and penalties read from `p.grad` are the common ways to such a term.

Why it matters
    The other terms train the model, so the loss falls and nothing raises. Removing the term changes the printed number and
    not a single weight: the regulariser is not there.

Fix
    Compute the term with differentiable operations from the parameters or from the outputs of the model; for a gradient
    penalty call `torch.autograd.grad(…, create_graph=True)`. A value that is only watched belongs in the log, not in the loss.

References
    https://docs.pytorch.org/docs/stable/generated/torch.autograd.grad.html
    https://github.com/pytorch/pytorch/issues/91529
"""

from __future__ import annotations

from collections.abc import Iterator

from ..flow import leads
from ..recorder.recording import Recording
from ..report.finding import Finding
from ._words import build, loss, place, quote, sentence, subject


def find(recording: Recording) -> Iterator[Finding]:
    """One finding for each dead term that no more specific cause explains."""
    for lead in leads(recording, "inert-term"):
        term = f"the term {quote(lead.term)}" if lead.term else "a term"
        if lead.operation in ("grad", "autograd.grad") or "autograd.grad(" in lead.expression:
            why = f"`torch.autograd.grad`{place(lead)} returns a constant unless it is asked to keep the graph of the gradient."
            fix = "Pass `create_graph=True` to `torch.autograd.grad`, so that the penalty itself can be differentiated."
        else:
            why = f"The way from the parameters to {subject(lead, 'this value')}{place(lead)} is not recorded by autograd."
            fix = (
                "Compute the term with differentiable operations from the parameters; if it is only watched, log it and leave it out "
                "of the loss."
            )
        yield build(
            lead,
            title=f"{sentence(term)} of {loss(lead)} carries no gradient: it moves no weight",
            explanation=f"{why} The term counts in the value of {loss(lead)}, and the parameters learn from the other terms only.",
            fix=fix,
        )


def bad() -> None:
    """The gradient penalty of a critic is computed without create_graph."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    critic = nn.Sequential(nn.Linear(4, 12), nn.Tanh(), nn.Linear(12, 1, bias=False))
    optimizer = torch.optim.Adam(critic.parameters(), lr=0.01)

    def gradient_penalty(real, fake):
        mixed = torch.lerp(real, fake, torch.rand(len(real), 1)).requires_grad_()
        (slope,) = torch.autograd.grad(critic(mixed).sum(), mixed)  # <- here
        return (slope.norm(dim=1) - 1).pow(2).mean()

    for _ in range(3):
        real, fake = torch.randn(16, 4) + 1, torch.randn(16, 4)
        loss = critic(fake).mean() - critic(real).mean() + 10 * gradient_penalty(real, fake)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def good() -> None:
    """With create_graph=True the penalty has a gradient of its own."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    critic = nn.Sequential(nn.Linear(4, 12), nn.Tanh(), nn.Linear(12, 1, bias=False))
    optimizer = torch.optim.Adam(critic.parameters(), lr=0.01)

    def gradient_penalty(real, fake):
        mixed = torch.lerp(real, fake, torch.rand(len(real), 1)).requires_grad_()
        (slope,) = torch.autograd.grad(critic(mixed).sum(), mixed, create_graph=True)
        return (slope.norm(dim=1) - 1).pow(2).mean()

    for _ in range(3):
        real, fake = torch.randn(16, 4) + 1, torch.randn(16, 4)
        loss = critic(fake).mean() - critic(real).mean() + 10 * gradient_penalty(real, fake)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
