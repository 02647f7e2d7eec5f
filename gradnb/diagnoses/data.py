"""`.data` hands out the bare numbers of a tensor, outside of autograd.

What happens
    `x.data` shares the memory of `x` and none of its history. What is computed from it is a constant for backward, and
    autograd does not notice when it is changed in place either.

Why it matters
    The parameters before it get no gradient, without an error while the rest of the model learns.

Fix
    Use `x` itself. Where a value must be changed without being recorded, write `with torch.no_grad():` around the change;
    where a constant is meant, `x.detach()` says so and keeps the safety checks.

References
    https://docs.pytorch.org/docs/stable/notes/autograd.html
    https://docs.pytorch.org/docs/stable/generated/torch.Tensor.detach.html
"""

from __future__ import annotations

from collections.abc import Iterator

from ..flow import leads
from ..recorder.recording import Recording
from ..report.finding import Finding
from ._words import after, build, consequence, cut_title, place, quote, subject


def find(recording: Recording) -> Iterator[Finding]:
    """One finding for each `.data` on the only way from a parameter to the loss."""
    for lead in leads(recording, "data"):
        instead = f": {quote(lead.expression.replace('.data', ''))}" if lead.expression.rstrip().endswith(".data") else ""
        yield build(
            lead,
            title=cut_title(lead, subject(lead, "`.data`")),
            explanation=f"`.data`{place(lead)} reads the numbers without their history. {consequence(lead)}",
            fix=f"Drop `.data`{instead}. If the weights are to be changed by hand, do it under `torch.no_grad()`.{after(lead)}",
        )


def bad() -> None:
    """A mixture of experts normalises its gate on `.data`, so the gate never learns."""
    import torch
    from torch import nn

    torch.manual_seed(0)

    class Mixture(nn.Module):
        def __init__(self):
            super().__init__()
            self.gate = nn.Linear(6, 3)
            self.experts = nn.ModuleList(nn.Linear(6, 4) for _ in range(3))

        def forward(self, x):
            scores = self.gate(x)
            weights = scores.data.softmax(dim=1)  # <- here
            outputs = torch.stack([expert(x) for expert in self.experts], dim=1)
            return (weights.unsqueeze(2) * outputs).sum(dim=1)

    model = Mixture()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    inputs, labels = torch.randn(24, 6), torch.randint(0, 4, (24,))
    for _ in range(3):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(inputs), labels)
        loss.backward()
        optimizer.step()


def good() -> None:
    """The softmax is taken of the scores themselves."""
    import torch
    from torch import nn

    torch.manual_seed(0)

    class Mixture(nn.Module):
        def __init__(self):
            super().__init__()
            self.gate = nn.Linear(6, 3)
            self.experts = nn.ModuleList(nn.Linear(6, 4) for _ in range(3))

        def forward(self, x):
            weights = self.gate(x).softmax(dim=1)
            outputs = torch.stack([expert(x) for expert in self.experts], dim=1)
            return (weights.unsqueeze(2) * outputs).sum(dim=1)

    model = Mixture()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    inputs, labels = torch.randn(24, 6), torch.randint(0, 4, (24,))
    for _ in range(3):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(inputs), labels)
        loss.backward()
        optimizer.step()
