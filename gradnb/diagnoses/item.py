"""`.item()`, `float()` or `.tolist()` turns a tensor into a Python number, and numbers have no history.

What happens
    The number is right, and it is only a number. What is computed from it, and every tensor made of it later, is a
    constant for autograd.

Why it matters
    Either backward raises "element 0 of tensors does not require grad", often far from the line at fault, or a part of the
    loss counts in the printed value and moves nothing.

Fix
    Keep tensors until after `backward()`: collect them in a list and join them with `torch.stack(values)`. Call `.item()`
    only for what is printed or logged.

References
    https://docs.pytorch.org/docs/stable/generated/torch.Tensor.item.html
    https://docs.pytorch.org/docs/stable/generated/torch.stack.html
    https://github.com/pytorch/pytorch/issues/91529
"""

from __future__ import annotations

from collections.abc import Iterator

from ..flow import leads
from ..recorder.recording import Recording
from ..report.finding import Finding
from ._words import after, build, consequence, cut_title, place, quote, subject

CALLS = {"item": ".item()", "tolist": ".tolist()", "float": "float(…)", "int": "int(…)", "__float__": "float(…)", "__int__": "int(…)"}


def find(recording: Recording) -> Iterator[Finding]:
    """One finding for each number that goes on into the loss; a number for the log never comes back and is no lead."""
    for lead in leads(recording, "item"):
        call = CALLS.get(lead.operation, ".item()")
        into = lead.details.get("into")
        back = f" It comes back as a constant in {quote(str(into))}." if into else ""
        instead = f": {quote(lead.expression.replace(call, ''))}" if call in lead.expression else ""
        if into and "tensor" in str(into).lower():
            join = " Join the tensors with `torch.stack(…)` where the numbers were joined."
        else:
            join = " Log the number after `backward()`."
        yield build(
            lead,
            title=cut_title(lead, subject(lead, f"`{call}`")),
            explanation=f"`{call}`{place(lead)} makes a Python number out of the tensor.{back} {consequence(lead)}",
            fix=f"Keep the tensor instead of the number{instead}.{join}{after(lead)}",
        )


def bad() -> None:
    """The losses of an unrolled simulation are collected as numbers."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    controller = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 1))
    optimizer = torch.optim.Adam(controller.parameters(), lr=0.01)

    def rollout(state, steps=4):
        costs = []
        for _ in range(steps):
            force = controller(state)
            velocity = state[:, 1:] + 0.1 * force
            state = torch.cat([state[:, :1] + 0.1 * velocity, velocity], dim=1)
            costs.append(state.pow(2).sum(dim=1).mean().item())  # <- here
        return torch.tensor(costs).mean()

    for _ in range(3):
        loss = rollout(torch.randn(16, 2))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def good() -> None:
    """The losses stay tensors and are stacked; the number is taken for the print only."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    controller = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 1))
    optimizer = torch.optim.Adam(controller.parameters(), lr=0.01)

    def rollout(state, steps=4):
        costs = []
        for _ in range(steps):
            force = controller(state)
            velocity = state[:, 1:] + 0.1 * force
            state = torch.cat([state[:, :1] + 0.1 * velocity, velocity], dim=1)
            costs.append(state.pow(2).sum(dim=1).mean())
        return torch.stack(costs).mean()

    for _ in range(3):
        loss = rollout(torch.randn(16, 2))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        print(f"cost {loss.item():.3f}")
