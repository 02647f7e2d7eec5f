"""A layer of the model takes no part in the loss.

What happens
    The layer is built and handed to the optimizer, but `forward` never calls it, or calls it and goes on with another
    variable.

Why it matters
    Its parameters have no gradient, the model is smaller than it looks, and `DistributedDataParallel` or `torch.autograd.grad`
    raise over the same parameters later.

Fix
    Use the result of the layer (`x = self.layer(x)`), or remove the layer.

References
    https://docs.pytorch.org/docs/stable/generated/torch.nn.Module.html
    https://docs.pytorch.org/docs/stable/generated/torch.autograd.grad.html
"""

from __future__ import annotations

from collections.abc import Iterator

from ..flow import leads
from ..flow.lead import Lead
from ..recorder.recording import Recording
from ..report.finding import Finding
from ._words import build, crowd, names, place, quote, sentence, subject, verb


def find(recording: Recording) -> Iterator[Finding]:
    """One finding for each module whose parameters no loss depends on."""
    for lead in leads(recording, "unused"):
        say = _parameter if lead.details.get("module") in lead.affected else _layer
        title, why, fix = say(lead)
        yield build(lead, title=title, explanation=sentence(why), fix=sentence(fix))


def _layer(lead: Lead) -> tuple[str, str, str]:
    module = lead.details.get("module")
    layer = quote(str(module)) if module else crowd(lead.affected)
    skipped = f"The optimizer skips {verb(lead.affected, 'its parameter', 'its parameters')} at every step without a word."
    if lead.details.get("called"):
        title = f"the result of {layer} is dropped: {crowd(lead.affected)} never {verb(lead.affected, 'reaches', 'reach')} the loss"
        why = f"{layer if module else 'The layer'} runs{place(lead)}, and what follows is computed from another variable."
        aside = f"{subject(lead, 'this line')} goes on without it: " if lead.expression else ""
        return title, f"{why} {skipped}", f"{aside}use the result of the layer there, or remove the layer."
    title = f"{layer} is never called: {crowd(lead.affected)} {verb(lead.affected, 'takes', 'take')} no part in the loss"
    why = f"{layer if module else 'The layer'} is built and given to the optimizer, but no forward pass uses it."
    return title, f"{why} {skipped}", "Call it in `forward`, or remove it from the model (and from the optimizer)."


def _parameter(lead: Lead) -> tuple[str, str, str]:
    """No layer stands between: the parameter itself is what the code would have to use."""
    mine, it = names(lead.affected), verb(lead.affected, "it", "them")
    if lead.details.get("called"):
        title = f"what is computed from {mine} is dropped"
        why = f"The loss is computed from another variable, so the optimizer skips {it} at every step without a word."
        aside = f"{subject(lead, 'this line')} goes on without it: " if lead.expression else ""
        return title, why, f"{aside}use the result there, or take {it} out of the optimizer (and the model)."
    title = f"{mine} {verb(lead.affected, 'takes', 'take')} no part in the loss"
    why = f"The optimizer was given {it}, and nothing on the way to the loss reads {it}."
    return title, why, f"Use {it} on the way to the loss, or take {it} out of the optimizer (and the model)."


def bad() -> None:
    """The adapter runs, and the block returns what the adapter was given."""
    import torch
    from torch import nn

    torch.manual_seed(0)

    class Block(nn.Module):
        def __init__(self, width):
            super().__init__()
            self.mix = nn.Linear(width, width)
            self.adapter = nn.Sequential(nn.Linear(width, 3), nn.GELU(), nn.Linear(3, width))

        def forward(self, x):
            stages = [x, x + torch.tanh(self.mix(x))]
            stages.append(stages[-1] + self.adapter(stages[-1]))
            return stages[1]  # <- here

    model = nn.Sequential(nn.Linear(5, 8), Block(8), nn.Linear(8, 2))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    inputs, target = torch.randn(16, 5), torch.randn(16, 2)
    for _ in range(3):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(inputs), target)
        loss.backward()
        optimizer.step()


def good() -> None:
    """The block returns what the adapter made of it."""
    import torch
    from torch import nn

    torch.manual_seed(0)

    class Block(nn.Module):
        def __init__(self, width):
            super().__init__()
            self.mix = nn.Linear(width, width)
            self.adapter = nn.Sequential(nn.Linear(width, 3), nn.GELU(), nn.Linear(3, width))

        def forward(self, x):
            stages = [x, x + torch.tanh(self.mix(x))]
            stages.append(stages[-1] + self.adapter(stages[-1]))
            return stages[-1]

    model = nn.Sequential(nn.Linear(5, 8), Block(8), nn.Linear(8, 2))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    inputs, target = torch.randn(16, 5), torch.randn(16, 2)
    for _ in range(3):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(inputs), target)
        loss.backward()
        optimizer.step()
