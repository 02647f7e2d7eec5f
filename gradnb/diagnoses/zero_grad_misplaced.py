"""zero_grad() throws gradients away before a step has used them.

What happens
    `zero_grad()` stands between `backward()` and `step()`, or it runs for every micro-batch of an accumulation. What backward
    computed is cleared, and the step sees nothing, or the last micro-batch only.

Why it matters
    The step moves nothing, or learns from a fraction of the data, and nothing raises.

Fix
    Clear once for each step: in front of the first backward, or right behind the step.

References
    https://docs.pytorch.org/docs/stable/generated/torch.optim.Optimizer.zero_grad.html
    https://docs.pytorch.org/docs/stable/notes/amp_examples.html#gradient-accumulation
    https://github.com/tientrandinh/Revisiting-Reverse-Distillation/issues/12
"""

from __future__ import annotations

from collections.abc import Iterator

from ..flow import leads
from ..recorder.recording import Recording
from ..report.finding import Finding
from ._words import build, crowd, optimizer, place, quote, subject


def find(recording: Recording) -> Iterator[Finding]:
    """One finding for each zero_grad that comes too early or too often."""
    for lead in leads(recording, "zero-grad-misplaced"):
        what = subject(lead, "`zero_grad()`")
        if lead.location and lead.expression.endswith(".grad"):
            what = quote(lead.location.code)  # the assignment is what clears, `p.grad = None`
        if lead.details.get("kind") == "between":
            kept, lost = int(lead.details.get("kept") or 1), int(lead.details.get("lost") or 1)
            title = f"{what} runs for every micro-batch: {lost} of {kept + lost} backward passes never reach the step"
            why = f"The gradients of {kept + lost} backward passes are to add up for one step of {optimizer(lead)}; this line{place(lead)} "
            why += f"clears them in between, and the step sees the last {kept if kept > 1 else 'one'} only."
            fix = f"Move {what} into the branch that steps, right behind the step."
        else:
            title = f"{what} stands between backward and the step: no gradient is left for {crowd(lead.affected)}"
            why = f"Backward fills `.grad`, this line{place(lead)} empties it again, and {optimizer(lead)} has nothing to apply."
            fix = f"Move {what} in front of backward, or behind the step."
        yield build(lead, title=title, explanation=why, fix=fix)


def bad() -> None:
    """The helper clears the gradients before it steps."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv1d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(24, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    waves = torch.randn(20, 1, 8)
    labels = (waves.sum(dim=(1, 2)) > 0).long()

    def update(loss):
        loss.backward()
        optimizer.zero_grad()  # <- here
        optimizer.step()

    for _ in range(4):
        update(nn.functional.cross_entropy(model(waves), labels))


def good() -> None:
    """Cleared first, then backward, then the step."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv1d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(24, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    waves = torch.randn(20, 1, 8)
    labels = (waves.sum(dim=(1, 2)) > 0).long()

    def update(loss):
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    for _ in range(4):
        update(nn.functional.cross_entropy(model(waves), labels))
