"""Reentrant checkpointing gets only inputs that do not require grad, so nothing inside it learns.

What happens
    `checkpoint(f, x, use_reentrant=True)` runs `f` without recording and decides by its inputs alone whether the result
    requires grad. The parameters inside `f` are not among the inputs.

Why it matters
    When the inputs are data, or come from a frozen layer, the checkpointed block is a constant: its parameters and all before
    them get no gradient, and a warning is all that shows.

Fix
    `use_reentrant=False`, which records the parameters as well.

References
    https://docs.pytorch.org/docs/stable/checkpoint.html
"""

from __future__ import annotations

from collections.abc import Iterator

from ..flow import leads
from ..recorder.recording import Recording
from ..report.finding import Finding
from ._words import after, build, consequence, cut_title, place, subject


def find(recording: Recording) -> Iterator[Finding]:
    """One finding for each checkpointed call whose inputs carry no gradient."""
    for lead in leads(recording, "checkpoint-reentrant"):
        yield build(
            lead,
            title=cut_title(lead, subject(lead, "the reentrant checkpoint")),
            explanation=f"No input of this checkpoint{place(lead)} requires grad, and the reentrant form looks at nothing else. "
            f"{consequence(lead)}",
            fix="Write `checkpoint(…, use_reentrant=False)`. With an older library that only knows the reentrant form, call "
            f"`x.requires_grad_()` on the input first.{after(lead)}",
        )


def bad() -> None:
    """The first block gets the data itself, which requires no grad."""
    import torch
    from torch import nn
    from torch.utils.checkpoint import checkpoint

    torch.manual_seed(0)

    class Deep(nn.Module):
        def __init__(self):
            super().__init__()
            self.block = nn.Sequential(nn.Linear(6, 12), nn.GELU(), nn.Linear(12, 6))
            self.head = nn.Linear(6, 3)

        def forward(self, x):
            hidden = checkpoint(self.block, x, use_reentrant=True)  # <- here
            return self.head(hidden)

    model = Deep()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    inputs, labels = torch.randn(16, 6), torch.randint(0, 3, (16,))
    for _ in range(3):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(inputs), labels)
        loss.backward()
        optimizer.step()


def good() -> None:
    """The other form of checkpointing sees the parameters."""
    import torch
    from torch import nn
    from torch.utils.checkpoint import checkpoint

    torch.manual_seed(0)

    class Deep(nn.Module):
        def __init__(self):
            super().__init__()
            self.block = nn.Sequential(nn.Linear(6, 12), nn.GELU(), nn.Linear(12, 6))
            self.head = nn.Linear(6, 3)

        def forward(self, x):
            hidden = checkpoint(self.block, x, use_reentrant=False)
            return self.head(hidden)

    model = Deep()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    inputs, labels = torch.randn(16, 6), torch.randint(0, 3, (16,))
    for _ in range(3):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(inputs), labels)
        loss.backward()
        optimizer.step()
