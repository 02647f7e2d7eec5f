"""`nn.Parameter(x)` or `x.requires_grad_()` on a computed tensor makes a new leaf, cut off from its origin.

What happens
    A parameter is a leaf by definition. `nn.Parameter(x)` takes the numbers of `x` and leaves its history behind; the gradient
    arrives in the new parameter and goes no further.

Why it matters
    The network that computed `x` (a hypernetwork, an inner loop, a projection) never learns, and the new parameter is in no
    optimizer: backward runs, and nothing moves.

Fix
    Use the computed tensor as it is, by the functional form of the layer: `F.linear(x, weight)`, or
    `torch.func.functional_call(module, {"weight": weight}, (x,))`.

References
    https://docs.pytorch.org/docs/stable/generated/torch.nn.parameter.Parameter.html
    https://docs.pytorch.org/docs/stable/generated/torch.func.functional_call.html
"""

from __future__ import annotations

from collections.abc import Iterator

from ..flow import leads
from ..recorder.recording import Recording
from ..report.finding import Finding
from ._words import after, build, consequence, cut_title, place, subject


def find(recording: Recording) -> Iterator[Finding]:
    """One finding for each new leaf made of a tensor that parameters computed."""
    for lead in leads(recording, "reparameter"):
        yield build(
            lead,
            title=cut_title(lead, subject(lead, "a new parameter")),
            explanation=f"A computed tensor is made a new leaf{place(lead)}: gradients end there. {consequence(lead)}",
            fix="Use the computed tensor itself: `F.linear(x, weight)` or `torch.func.functional_call(module, {'weight': weight}, (x,))` "
            f"in place of a new `nn.Parameter`.{after(lead)}",
        )


def bad() -> None:
    """A hypernetwork writes the weights of a layer as a new parameter."""
    import torch
    from torch import nn

    torch.manual_seed(0)

    class HyperLayer(nn.Module):
        def __init__(self):
            super().__init__()
            self.hyper = nn.Sequential(nn.Linear(3, 10), nn.Tanh(), nn.Linear(10, 2 * 5))
            self.layer = nn.Linear(5, 2)
            self.scale = nn.Parameter(torch.ones(2))

        def forward(self, task, x):
            weight = self.hyper(task).view(2, 5)
            self.layer.weight = nn.Parameter(weight)  # <- here
            return self.scale * self.layer(x)

    model = HyperLayer()
    optimizer = torch.optim.Adam([*model.hyper.parameters(), model.layer.bias, model.scale], lr=0.01)
    task, inputs, target = torch.randn(3), torch.randn(16, 5), torch.randn(16, 2)
    for _ in range(3):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(task, inputs), target)
        loss.backward()
        optimizer.step()


def good() -> None:
    """The functional form uses the computed weights as they are."""
    import torch
    from torch import nn

    torch.manual_seed(0)

    class HyperLayer(nn.Module):
        def __init__(self):
            super().__init__()
            self.hyper = nn.Sequential(nn.Linear(3, 10), nn.Tanh(), nn.Linear(10, 2 * 5))
            self.bias = nn.Parameter(torch.zeros(2))
            self.scale = nn.Parameter(torch.ones(2))

        def forward(self, task, x):
            weight = self.hyper(task).view(2, 5)
            return self.scale * nn.functional.linear(x, weight, self.bias)

    model = HyperLayer()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    task, inputs, target = torch.randn(3), torch.randn(16, 5), torch.randn(16, 2)
    for _ in range(3):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(task, inputs), target)
        loss.backward()
        optimizer.step()
