"""A gradient is part of the loss, and it was computed without a graph of its own.

What happens
    `torch.autograd.grad(y, x)` returns tensors without history unless it gets `create_graph=True`. Forces as the slope of an energy,
    the derivative in a differential equation, the slope in a gradient penalty are constants then.

Why it matters
    A loss of such gradients alone raises at `backward()`, far from here. Beside other terms it counts in the value of the loss and
    trains nothing.

Fix
    `create_graph=True` in each `torch.autograd.grad` or `backward` whose result is differentiated again.

References
    https://docs.pytorch.org/docs/stable/generated/torch.autograd.grad.html
    https://docs.pytorch.org/docs/stable/notes/amp_examples.html#gradient-penalty
    https://github.com/facebookresearch/DomainBed/issues/50
"""

from __future__ import annotations

from collections.abc import Iterator

from ..flow import leads
from ..recorder.recording import Recording
from ..report.finding import Finding
from ._words import after, build, consequence, cut_title, place


def find(recording: Recording) -> Iterator[Finding]:
    """One finding for each gradient without history that parameters pass on their only way to the loss."""
    for lead in leads(recording, "not-twice-differentiable"):
        yield build(
            lead,
            title=cut_title(lead, "`torch.autograd.grad` without `create_graph=True`"),
            explanation=f"The gradients that this call returns{place(lead)} are constants for all that follows. {consequence(lead)}",
            fix="Pass `create_graph=True` here. Where the first-order approximation is meant, detach the gradients, so that it shows."
            + after(lead),
        )


def bad() -> None:
    """Forces are the slope of an energy, and the loss compares forces."""
    import torch
    from torch import nn

    torch.manual_seed(0)

    class ForceField(nn.Module):
        def __init__(self):
            super().__init__()
            self.energy = nn.Sequential(nn.Linear(3, 16), nn.Softplus(), nn.Linear(16, 1, bias=False))

        def forward(self, positions):
            energy = self.energy(positions).sum()
            return -torch.autograd.grad(energy, positions)[0]  # <- here

    model = ForceField()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    positions = torch.randn(20, 3, requires_grad=True)
    forces = -2 * positions.detach()
    for _ in range(3):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(positions), forces)
        loss.backward()
        optimizer.step()


def good() -> None:
    """The forces keep the graph by which they depend on the weights."""
    import torch
    from torch import nn

    torch.manual_seed(0)

    class ForceField(nn.Module):
        def __init__(self):
            super().__init__()
            self.energy = nn.Sequential(nn.Linear(3, 16), nn.Softplus(), nn.Linear(16, 1, bias=False))

        def forward(self, positions):
            energy = self.energy(positions).sum()
            return -torch.autograd.grad(energy, positions, create_graph=True)[0]

    model = ForceField()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    positions = torch.randn(20, 3, requires_grad=True)
    forces = -2 * positions.detach()
    for _ in range(3):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(positions), forces)
        loss.backward()
        optimizer.step()
