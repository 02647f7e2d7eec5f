"""One set of gradients is applied twice.

What happens
    `step()` moves the weights and leaves `.grad` as it is. A second `step()` before the next `zero_grad()` or `backward()` moves
    them along the same gradient again.

Why it matters
    The steps are twice as long as the learning rate says, Adam counts two, and the second one starts from weights for which the
    gradient was never computed.

Fix
    One `step()` for each backward: keep it in the training function or in the loop around it, not in both.

References
    https://docs.pytorch.org/docs/stable/optim.html#taking-an-optimization-step
    https://docs.pytorch.org/docs/stable/generated/torch.optim.Optimizer.step.html
"""

from __future__ import annotations

from collections.abc import Iterator

from ..flow import leads
from ..recorder.recording import Recording
from ..report.finding import Finding
from ._words import build, crowd, optimizer, place, sentence, subject, verb


def find(recording: Recording) -> Iterator[Finding]:
    """One finding for each step that applies used gradients."""
    for lead in leads(recording, "double-step"):
        step = subject(lead, "this step")
        yield build(
            lead,
            title=f"{step} applies the same gradients a second time",
            explanation=f"{sentence(optimizer(lead))} has stepped on these gradients already, and neither backward nor "
            f"`zero_grad()` came in between{place(lead)}: {crowd(lead.affected)} {verb(lead.affected, 'moves', 'move')} twice for one "
            "backward pass.",
            fix=f"Remove {step}, or the step before it.",
        )


def bad() -> None:
    """The training function steps, and so does the loop that calls it."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 10), nn.ELU(), nn.Linear(10, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    inputs = torch.randn(24, 5)
    target = inputs[:, :1] * inputs[:, 1:2]

    def train_on(inputs, target):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(inputs), target)
        loss.backward()
        optimizer.step()
        return loss.item()

    for _ in range(4):
        print(train_on(inputs, target))
        optimizer.step()  # <- here


def good() -> None:
    """The training function steps alone."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 10), nn.ELU(), nn.Linear(10, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    inputs = torch.randn(24, 5)
    target = inputs[:, :1] * inputs[:, 1:2]

    def train_on(inputs, target):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(inputs), target)
        loss.backward()
        optimizer.step()
        return loss.item()

    for _ in range(4):
        print(train_on(inputs, target))
