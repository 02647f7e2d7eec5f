"""torch.autograd.grad is asked for a tensor that the loss does not depend on.

What happens
    `torch.autograd.grad(loss, inputs)` wants every input to be part of the graph of the loss. A layer that `forward` never calls,
    or a slice or copy made after the forward pass, is none.

Why it matters
    The message counts an index in a list of tensors. With `allow_unused=True` it becomes a None, which fails later in the arithmetic.

Fix
    Leave these parameters out (or the layer), ask for the very tensor that went into the forward pass, or pass
    `allow_unused=True` and skip the gradients that are None.

References
    https://docs.pytorch.org/docs/stable/generated/torch.autograd.grad.html
"""

from __future__ import annotations

from collections.abc import Iterator

from ..flow import leads
from ..recorder.recording import Recording
from ..report.finding import Finding
from ._words import build, crowd, loss, names, place, quote, sentence, subject, verb


def find(recording: Recording) -> Iterator[Finding]:
    """One finding for the call that asked for gradients which do not exist."""
    for lead in leads(recording, "unused-in-grad"):
        details = lead.details
        module = details.get("module")
        if details.get("plain"):
            title = "a gradient is asked for with respect to a tensor that does not require grad"
            why = f"{subject(lead, 'The tensor')}{place(lead)} was never told to require grad, so {loss(lead)} has no way back to it."
            fix = "Call `.requires_grad_()` on it before the forward pass."
        elif lead.affected:
            title = f"{loss(lead)} does not depend on {crowd(lead.affected)}, whose gradient is asked for"
            where = f"{quote(str(module))} takes no part in the forward pass. " if module else ""
            have = verb(lead.affected, "has", "have")
            why = f"{where}{sentence(names(lead.affected))} {have} no place in the graph of {loss(lead)}."
            fix = "Leave the layer or its parameters out, or pass `allow_unused=True` and skip each gradient that is `None`."
        else:
            title = f"a gradient is asked for with respect to a tensor that {loss(lead)} was not computed from"
            why = f"{subject(lead, 'This line')}{place(lead)} is about a tensor of its own, even where another one has the same numbers."
            fix = "Use the same tensor in the forward pass and in `autograd.grad`."
        if details.get("allowed"):
            why += " With `allow_unused=True` its gradient is `None`, and that is not a number to calculate with."
        yield build(lead, title=title, explanation=why, fix=fix)


def bad() -> None:
    """An inner loop differentiates by all parameters, also those of a layer that forward leaves out."""
    import torch
    from torch import nn
    from torch.func import functional_call

    torch.manual_seed(0)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.encode = nn.Linear(4, 8)
            self.project = nn.Linear(8, 8)  # <- here
            self.head = nn.Linear(8, 2)

        def forward(self, inputs):
            return self.head(torch.relu(self.encode(inputs)))

    model = Net()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    inputs, target = torch.randn(12, 4), torch.randn(12, 2)
    for _ in range(3):
        weights: dict[str, torch.Tensor] = dict(model.named_parameters())
        inner = nn.functional.mse_loss(functional_call(model, weights, (inputs[:6],)), target[:6])
        slopes = torch.autograd.grad(inner, tuple(weights.values()), create_graph=True)
        adapted = {name: w - 0.1 * slope for (name, w), slope in zip(weights.items(), slopes)}
        loss = nn.functional.mse_loss(functional_call(model, adapted, (inputs[6:],)), target[6:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def good() -> None:
    """The layer that nobody calls is gone."""
    import torch
    from torch import nn
    from torch.func import functional_call

    torch.manual_seed(0)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.encode = nn.Linear(4, 8)
            self.head = nn.Linear(8, 2)

        def forward(self, inputs):
            return self.head(torch.relu(self.encode(inputs)))

    model = Net()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    inputs, target = torch.randn(12, 4), torch.randn(12, 2)
    for _ in range(3):
        weights: dict[str, torch.Tensor] = dict(model.named_parameters())
        inner = nn.functional.mse_loss(functional_call(model, weights, (inputs[:6],)), target[:6])
        slopes = torch.autograd.grad(inner, tuple(weights.values()), create_graph=True)
        adapted = {name: w - 0.1 * slope for (name, w), slope in zip(weights.items(), slopes)}
        loss = nn.functional.mse_loss(functional_call(model, adapted, (inputs[6:],)), target[6:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
