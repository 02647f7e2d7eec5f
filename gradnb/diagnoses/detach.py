"""`.detach()` cuts a value off from the parameters that made it.

What happens
    `x.detach()` gives a tensor with the same numbers and no history. What is computed from it counts as computed
    from a constant, and backward stops there.

Why it matters
    The parameters before the cut get no gradient. While others still learn, nothing raises: the loss falls, and a
    part of the model keeps its initial weights.

Fix
    Use `x` itself on the way to the loss. Detach only what must stay constant: targets, advantages, values for a log.

References
    https://docs.pytorch.org/docs/stable/generated/torch.Tensor.detach.html
    https://github.com/pytorch/pytorch/issues/61410
"""

from __future__ import annotations

from collections.abc import Iterator

from ..flow import leads
from ..recorder.recording import Recording
from ..report.finding import Finding
from ._words import after, build, consequence, cut_title, place, quote, subject


def find(recording: Recording) -> Iterator[Finding]:
    """One finding for each detach on the only way from a parameter to the loss."""
    for lead in leads(recording, "detach"):
        call = ".detach_()" if lead.operation == "detach_" or ".detach_()" in lead.expression else ".detach()"
        without = lead.expression.replace(call, "")
        instead = f": {quote(without)}" if call in lead.expression else ""
        yield build(
            lead,
            title=cut_title(lead, subject(lead, f"`{call}`")),
            explanation=f"`{call}`{place(lead)} keeps the numbers and drops their history. {consequence(lead)}",
            fix=f"Leave out `{call}` on the way to the loss{instead}. Detach a copy where a log or a plot needs one.{after(lead)}",
        )


def bad() -> None:
    """The code of an autoencoder is detached for a plot, and the plotted tensor goes on to the decoder."""
    import torch
    from torch import nn

    torch.manual_seed(0)

    class Autoencoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = nn.Sequential(nn.Linear(8, 6), nn.Tanh(), nn.Linear(6, 3))
            self.decoder = nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.Linear(6, 8))
            self.codes = []

        def forward(self, x):
            code = self.encoder(x).detach()  # <- here
            self.codes.append(code)
            return self.decoder(code)

    model = Autoencoder()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    batch = torch.randn(32, 8)
    for _ in range(3):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(batch), batch)
        loss.backward()
        optimizer.step()


def good() -> None:
    """Only the copy for the plot is detached."""
    import torch
    from torch import nn

    torch.manual_seed(0)

    class Autoencoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = nn.Sequential(nn.Linear(8, 6), nn.Tanh(), nn.Linear(6, 3))
            self.decoder = nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.Linear(6, 8))
            self.codes = []

        def forward(self, x):
            code = self.encoder(x)
            self.codes.append(code.detach())
            return self.decoder(code)

    model = Autoencoder()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    batch = torch.randn(32, 8)
    for _ in range(3):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(batch), batch)
        loss.backward()
        optimizer.step()
