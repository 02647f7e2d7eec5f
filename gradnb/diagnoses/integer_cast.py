"""A cast to integers (`.long()`, `.int()`, `.bool()`, …) has no gradient.

What happens
    Only floating-point and complex tensors carry gradients. The cast rounds towards zero, and its result is a constant for
    autograd.

Why it matters
    The network that predicts a position, a length or a mask gets no gradient from what is looked up with the integer.

Fix
    Keep the fraction in the computation: interpolate between the two neighbours (`torch.lerp`, `F.grid_sample`), or weight
    all places softly. Cast to integers only for an index beside which the fraction is used.

References
    https://docs.pytorch.org/docs/stable/generated/torch.Tensor.long.html
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.grid_sample.html
"""

from __future__ import annotations

from collections.abc import Iterator

from ..flow import leads
from ..recorder.recording import Recording
from ..report.finding import Finding
from ._words import after, build, consequence, cut_title, place, quote, subject


def find(recording: Recording) -> Iterator[Finding]:
    """One finding for each integer that stands between parameters and the loss."""
    for lead in leads(recording, "integer-cast"):
        dtype = str(lead.details.get("dtype") or "").removeprefix("torch.")
        kind = quote(f"torch.{dtype}") if dtype else "an integer type"
        if dtype == "bool":
            fix = "Use a soft mask in place of the boolean one: `torch.sigmoid(sharpness * x)`, multiplied to the values."
        else:
            fix = (
                "Keep the fraction: `torch.lerp(table[low], table[low + 1], x - low)` with `low = x.floor().long()`, or `F.grid_sample` "
                "in images. Where a float was meant all along, leave out the cast."
            )
        yield build(
            lead,
            title=cut_title(lead, subject(lead, f"the cast to {kind}")),
            explanation=f"The cast to {kind}{place(lead)} ends the gradient: integers have none. {consequence(lead)}",
            fix=fix + after(lead),
        )


def bad() -> None:
    """A predicted position reads a signal at the integer below it."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    signal = torch.linspace(0, 6, 32).sin()

    class Reader(nn.Module):
        def __init__(self):
            super().__init__()
            self.position = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1), nn.Sigmoid())
            self.gain = nn.Parameter(torch.ones(1))

        def forward(self, x):
            place = 30 * self.position(x).squeeze(1)
            index = place.long()  # <- here
            return self.gain * signal[index]

    model = Reader()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    inputs, target = torch.randn(12, 4), torch.rand(12)
    for _ in range(3):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(inputs), target)
        loss.backward()
        optimizer.step()


def good() -> None:
    """Linear interpolation keeps the fraction, and with it the gradient."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    signal = torch.linspace(0, 6, 32).sin()

    class Reader(nn.Module):
        def __init__(self):
            super().__init__()
            self.position = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1), nn.Sigmoid())
            self.gain = nn.Parameter(torch.ones(1))

        def forward(self, x):
            place = 30 * self.position(x).squeeze(1)
            low = place.floor().long()
            return self.gain * torch.lerp(signal[low], signal[low + 1], place - low)

    model = Reader()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    inputs, target = torch.randn(12, 4), torch.rand(12)
    for _ in range(3):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(inputs), target)
        loss.backward()
        optimizer.step()
