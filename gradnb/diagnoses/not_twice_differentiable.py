"""A gradient is part of the loss, and it was computed without a graph of its own.

What happens
    `torch.autograd.grad(y, x)` returns tensors without history unless it gets `create_graph=True`. Forces as the slope of an energy,
    the derivative in a differential equation, the slope in a gradient penalty are constants then.

Why it matters
    A loss of such gradients alone raises at `backward()`, far from here. Beside other terms it counts in the value of the loss and
    trains nothing.

Fix
    `create_graph=True` in each `torch.autograd.grad` or `backward` whose result is differentiated again. Where an operation has no
    second derivative (a Function marked `@once_differentiable`, a fused kernel), use one that has.

References
    https://docs.pytorch.org/docs/stable/generated/torch.autograd.grad.html
    https://docs.pytorch.org/docs/stable/notes/amp_examples.html#gradient-penalty
    https://github.com/facebookresearch/DomainBed/issues/50
"""

from __future__ import annotations

from collections.abc import Iterator

from ..flow import leads
from ..flow.lead import Lead
from ..recorder.recording import Recording
from ..report.finding import Finding
from ._words import after, build, consequence, cut_title, place, quote


def find(recording: Recording) -> Iterator[Finding]:
    """One finding for each gradient without history that parameters pass on their only way to the loss."""
    for lead in leads(recording, "not-twice-differentiable"):
        if "kind" in lead.details:
            yield _without_formula(lead)
            continue
        yield build(
            lead,
            title=cut_title(lead, "`torch.autograd.grad` without `create_graph=True`"),
            explanation=f"The gradients that this call returns{place(lead)} are constants for all that follows. {consequence(lead)}",
            fix="Pass `create_graph=True` here. Where the first-order approximation is meant, detach the gradients, so that it shows."
            + after(lead),
        )


def _without_formula(lead: Lead) -> Finding:
    """The finding for an operation that has a first derivative only."""
    what = quote(lead.operation) if lead.operation else "an operation"
    if lead.details["kind"] == "once":
        why = f"`@once_differentiable` says that the operations of its backward{place(lead)} are not recorded, so they have no gradient."
        fix = "Remove the mark where the backward is made of differentiable torch operations; else write the backward as a Function, too."
    else:
        why = f"Its backward{place(lead)} is one kernel, and torch has no derivative of that."
        fix = "Write it in operations that have one. For attention, `torch.nn.attention.sdpa_kernel(SDPBackend.MATH)` does."
    title = f"{what} can be differentiated once only, and its gradient is differentiated again"
    return build(lead, title=title, explanation=why, fix=fix)


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
