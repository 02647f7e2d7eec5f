"""A new tensor is made of computed values, and it starts without their history.

What happens
    `torch.tensor([a, b])`, `torch.FloatTensor(…)`, `torch.as_tensor(list)` and `Variable(x)` copy numbers into a new leaf. That
    the numbers came from tensors with a history is forgotten, and `requires_grad=True` on the new tensor does not bring it
    back.

Why it matters
    With `requires_grad=True` the backward pass even succeeds: it fills the gradient of the new tensor and of nothing else.

Fix
    Join tensors with functions that keep history: `torch.stack(values)` for a list of scalars or equal shapes,
    `torch.cat` for pieces of one axis. A tensor that is one already needs no wrapping.

References
    https://docs.pytorch.org/docs/stable/generated/torch.tensor.html
    https://docs.pytorch.org/docs/stable/generated/torch.stack.html
    https://github.com/pytorch/pytorch/issues/34953
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from ..flow import leads
from ..recorder.recording import Recording
from ..report.finding import Finding
from ._words import after, build, consequence, cut_title, place, quote, subject

MAKERS = ("tensor", "as_tensor", "Tensor", "FloatTensor", "DoubleTensor", "Variable")


def find(recording: Recording) -> Iterator[Finding]:
    """One finding for each new tensor that stands between parameters and the loss."""
    for lead in leads(recording, "rewrap"):
        yield build(
            lead,
            title=cut_title(lead, subject(lead, "a new tensor")),
            explanation=f"The new tensor{place(lead)} holds a copy of the numbers and is a leaf without history. {consequence(lead)}",
            fix=f"{_instead(lead.expression)} It keeps the history of each element.{after(lead)}",
        )


def _instead(expression: str) -> str:
    """What to write instead of the call that makes the new tensor."""
    try:
        calls = [node for node in ast.walk(ast.parse(expression.strip(), mode="eval")) if isinstance(node, ast.Call) and node.args]
    except SyntaxError:  # the expression may be shortened
        calls = []
    for call in calls:
        name = call.func.attr if isinstance(call.func, ast.Attribute) else call.func.id if isinstance(call.func, ast.Name) else ""
        if name in MAKERS:
            values = ast.unparse(call.args[0])
            if isinstance(call.args[0], ast.List) and any(isinstance(element, ast.List) for element in call.args[0].elts):
                return "Build the tensor row by row with `torch.stack([torch.stack(row) for row in rows])`."
            return f"Write {quote(f'torch.stack({values})')} instead of {quote(ast.unparse(call))}, or use the tensor itself if it is one."
    return "Join the tensors with `torch.stack(values)` or `torch.cat(values)` instead of copying their numbers."


def bad() -> None:
    """The losses of several tasks are joined by torch.tensor, and requires_grad=True silences the error."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    trunk = nn.Sequential(nn.Linear(6, 10), nn.ReLU())
    heads = nn.ModuleList(nn.Linear(10, 1) for _ in range(3))
    optimizer = torch.optim.Adam([*trunk.parameters(), *heads.parameters()], lr=0.01)
    weights = torch.tensor([1.0, 0.5, 0.5])

    def multitask_loss(inputs, targets):
        shared = trunk(inputs)
        losses = [nn.functional.mse_loss(head(shared).squeeze(1), target) for head, target in zip(heads, targets, strict=True)]
        joined = torch.tensor(losses, requires_grad=True)  # <- here
        return (weights * joined).sum()

    inputs, targets = torch.randn(20, 6), torch.randn(3, 20)
    for _ in range(3):
        optimizer.zero_grad()
        loss = multitask_loss(inputs, targets)
        loss.backward()
        optimizer.step()


def good() -> None:
    """torch.stack joins the losses and keeps where they came from."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    trunk = nn.Sequential(nn.Linear(6, 10), nn.ReLU())
    heads = nn.ModuleList(nn.Linear(10, 1) for _ in range(3))
    optimizer = torch.optim.Adam([*trunk.parameters(), *heads.parameters()], lr=0.01)
    weights = torch.tensor([1.0, 0.5, 0.5])

    def multitask_loss(inputs, targets):
        shared = trunk(inputs)
        losses = [nn.functional.mse_loss(head(shared).squeeze(1), target) for head, target in zip(heads, targets, strict=True)]
        return (weights * torch.stack(losses)).sum()

    inputs, targets = torch.randn(20, 6), torch.randn(3, 20)
    for _ in range(3):
        optimizer.zero_grad()
        loss = multitask_loss(inputs, targets)
        loss.backward()
        optimizer.step()
