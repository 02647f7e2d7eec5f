"""Parameters that the optimizer is to train do not require grad.

What happens
    `requires_grad=False` was set and never taken back, or the attribute is misspelled, or it is set on the module instead of
    its parameters. Autograd leaves such parameters out, their `.grad` stays None, and an optimizer skips them.

Why it matters
    The learning rate, the parameter group and the log all look as if they were trained.

Fix
    `module.requires_grad_(True)`, or do not freeze at all; where freezing is meant, leave the parameters out of the optimizer.

References
    https://docs.pytorch.org/docs/stable/generated/torch.Tensor.requires_grad.html
    https://docs.pytorch.org/docs/stable/notes/autograd.html#setting-requires-grad
"""

from __future__ import annotations

from collections.abc import Iterator

from ..flow import leads
from ..recorder.recording import Recording
from ..report.finding import Finding
from ._words import build, crowd, names, place, quote, sentence, verb


def find(recording: Recording) -> Iterator[Finding]:
    """One finding for each place where parameters of an optimizer are frozen."""
    for lead in leads(recording, "frozen"):
        few, many = names(lead.affected), crowd(lead.affected)
        is_are = verb(lead.affected, "is", "are")
        group, misspelled = lead.details.get("group"), lead.details.get("misspelled")
        if misspelled:
            title = f"{quote(str(misspelled))} is not `requires_grad`: {many} {verb(lead.affected, 'stays', 'stay')} frozen"
            why = f"Python accepts {quote(str(misspelled))}{place(lead)} as a new attribute, and autograd never looks at it."
            fix = "Spell it `requires_grad`, or call `parameter.requires_grad_(True)`, where a wrong name raises."
        elif lead.details.get("on_module"):
            title = f"`requires_grad` is set on a module, which does nothing: {many} {verb(lead.affected, 'stays', 'stay')} as before"
            why = f"`requires_grad` belongs to tensors; on an `nn.Module`{place(lead)} it is an attribute that nobody reads."
            fix = "Call the method `module.requires_grad_(True)`, which sets it for every parameter of the module."
        elif lead.details.get("all"):
            title = f"everything that the optimizer holds is frozen: {many}"
            why = f"All of its parameters have `requires_grad=False`{place(lead)}, so no step can move anything."
            fix = "Do not freeze these parameters, or call `module.requires_grad_(True)` before the training."
        elif group is not None:
            title = f"{many} {is_are} frozen, but the optimizer has param group {group} for {verb(lead.affected, 'it', 'them')}"
            why = f"`requires_grad=False`{place(lead)} leaves param group {group} of the optimizer without a single gradient."
            fix = "Remove the line that freezes them, or call `module.requires_grad_(True)`; if they are to stay frozen, remove the group."
        else:
            title = f"{many} {is_are} frozen, but {is_are} in the optimizer and on the way to the loss"
            why = f"`requires_grad=False`{place(lead)} keeps the gradient away."
            fix = "Remove the line that freezes them, or call `module.requires_grad_(True)` before the training."
        yield build(
            lead,
            title=title,
            explanation=f"{why} {sentence(few)} {verb(lead.affected, 'keeps its', 'keep their')} first value in every step.",
            fix=fix,
        )


def bad() -> None:
    """A backbone is frozen by an old loop, and fine-tuned by a group of its own."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    backbone = nn.Sequential(nn.Linear(6, 10), nn.ReLU(), nn.Linear(10, 8))
    head = nn.Linear(8, 3)
    for parameter in backbone.parameters():
        parameter.requires_grad = False  # <- here

    groups = [
        {"params": head.parameters(), "lr": 1e-2},
        {"params": backbone.parameters(), "lr": 1e-3},
    ]
    optimizer = torch.optim.Adam(groups)
    inputs, labels = torch.randn(16, 6), torch.randint(0, 3, (16,))
    for _ in range(3):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(head(backbone(inputs)), labels)
        loss.backward()
        optimizer.step()


def good() -> None:
    """The smaller learning rate alone protects the backbone."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    backbone = nn.Sequential(nn.Linear(6, 10), nn.ReLU(), nn.Linear(10, 8))
    head = nn.Linear(8, 3)

    groups = [
        {"params": head.parameters(), "lr": 1e-2},
        {"params": backbone.parameters(), "lr": 1e-3},
    ]
    optimizer = torch.optim.Adam(groups)
    inputs, labels = torch.randn(16, 6), torch.randint(0, 3, (16,))
    for _ in range(3):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(head(backbone(inputs)), labels)
        loss.backward()
        optimizer.step()
