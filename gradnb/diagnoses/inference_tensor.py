"""A tensor made under `torch.inference_mode()` takes part in training.

What happens
    Tensors made under inference mode carry no version counter and stay that way. Autograd refuses to save one for backward,
    also long after the mode was left.

Why it matters
    A table or a feature that an evaluation filled first raises "Inference tensors cannot be saved for backward" in the
    training step, at a line that has nothing to do with the cause.

Fix
    Make values that training uses later under `torch.no_grad()` instead, or outside of both; a `.clone()` in the
    training step makes a normal tensor.

References
    https://docs.pytorch.org/docs/stable/notes/autograd.html#inference-mode
"""

from __future__ import annotations

from collections.abc import Iterator

from ..flow import leads
from ..recorder.recording import Recording
from ..report.finding import Finding
from ._words import build, consequence, names, place, sentence, verb


def find(recording: Recording) -> Iterator[Finding]:
    """One finding for each place that made inference tensors which training met."""
    for lead in leads(recording, "inference-tensor"):
        if lead.details.get("raised"):
            why = "Autograd cannot save such a tensor for backward, so the forward pass raises."
            if lead.affected:
                why += f" {sentence(names(lead.affected))} {verb(lead.affected, 'gets', 'get')} no gradient."
        else:
            why = consequence(lead)
        yield build(
            lead,
            title=f"a tensor made under `torch.inference_mode()`{place(lead)} is used in training",
            explanation=f"A tensor that is made under inference mode stays an inference tensor for good. {why}",
            fix="Write `torch.no_grad()` in place of `torch.inference_mode()` where the value is made, "
            "or use `value.clone()` in the training step.",
        )


def bad() -> None:
    """A table of positions is filled under inference mode, to save memory."""
    import torch
    from torch import nn

    torch.manual_seed(0)

    class PositionTable:
        def __init__(self, length, width):
            with torch.inference_mode():  # <- here
                angles = torch.outer(torch.arange(length).float(), torch.logspace(0, -2, width // 2))
                self.table = torch.cat([angles.sin(), angles.cos()], dim=1)

    positions = PositionTable(length=10, width=8)
    project, head = nn.Linear(8, 8), nn.Linear(8, 2)
    optimizer = torch.optim.Adam([*project.parameters(), *head.parameters()], lr=0.01)
    tokens, target = torch.randn(4, 10, 8), torch.randn(4, 2)
    for _ in range(3):
        optimizer.zero_grad()
        hidden = torch.tanh(tokens + project(positions.table))
        loss = nn.functional.mse_loss(head(hidden.mean(dim=1)), target)
        loss.backward()
        optimizer.step()


def good() -> None:
    """Under no_grad the table is a normal tensor that autograd may save."""
    import torch
    from torch import nn

    torch.manual_seed(0)

    class PositionTable:
        def __init__(self, length, width):
            with torch.no_grad():
                angles = torch.outer(torch.arange(length).float(), torch.logspace(0, -2, width // 2))
                self.table = torch.cat([angles.sin(), angles.cos()], dim=1)

    positions = PositionTable(length=10, width=8)
    project, head = nn.Linear(8, 8), nn.Linear(8, 2)
    optimizer = torch.optim.Adam([*project.parameters(), *head.parameters()], lr=0.01)
    tokens, target = torch.randn(4, 10, 8), torch.randn(4, 2)
    for _ in range(3):
        optimizer.zero_grad()
        hidden = torch.tanh(tokens + project(positions.table))
        loss = nn.functional.mse_loss(head(hidden.mean(dim=1)), target)
        loss.backward()
        optimizer.step()
