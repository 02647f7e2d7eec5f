"""The backward of a custom `torch.autograd.Function` drops a gradient.

What happens
    `backward` returns one gradient for each argument of `forward`, and gets one for each of its results. Returning `None` (or zeros)
    for an argument, or leaving a received gradient unread, ends the flow there, and autograd cannot tell that from intent.

Why it matters
    The parameters behind that argument get no gradient, and `torch.autograd` raises nothing.

Fix
    Return the gradient of every argument that may require one (`ctx.needs_input_grad` tells), use every gradient that comes
    in, and check with `torch.autograd.gradcheck` in double precision.

References
    https://docs.pytorch.org/docs/stable/notes/extending.html
    https://docs.pytorch.org/docs/stable/generated/torch.autograd.gradcheck.gradcheck.html
"""

from __future__ import annotations

from collections.abc import Iterator

from ..flow import leads
from ..recorder.recording import Recording
from ..report.finding import Finding
from ._words import build, consequence, crowd, loss, quote


def find(recording: Recording) -> Iterator[Finding]:
    """One finding for each custom backward that keeps a gradient from parameters."""
    for lead in leads(recording, "custom-function"):
        function = lead.details.get("function")
        refused = lead.details.get("refused")
        if refused:
            yield build(
                lead,
                title=f"`{function}.backward` {refused}",
                explanation="A backward returns one gradient for each argument of `forward` after `ctx`, in the same order and "
                f"of the same shape, and None for what is no tensor. `{function}.backward` {refused}, so autograd refuses it.",
                fix="Return the gradients in the order of the arguments of `forward`, with None where an argument needs none.",
            )
            continue
        owner = f"`{function}.backward`" if function else "the custom backward"
        missing, ignored = lead.details.get("missing"), lead.details.get("ignored")
        why = "Autograd trusts what a custom backward returns, and"
        if missing and not str(missing).startswith("returns"):
            # The fault lies in forward: it knows of a tensor that apply() was not told about.
            owner, fault = f"`{function}`" if function else "the custom Function", str(missing)
            why = "Autograd sees of a custom Function only the arguments of `apply`, and"
            fix = "Pass that tensor as an argument of `apply`, and return its gradient from `backward`"
        elif ignored:
            fault = f"ignores {quote(str(ignored))}"
            fix = f"Add the part of {quote(str(ignored))} to the gradients that `backward` returns"
        elif missing:
            fault = str(missing)
            fix = "Return the gradient of that argument in place of `None`"
        else:
            fault = "drops the gradient"
            fix = "Return a gradient for every argument that requires one"
        if lead.inert:
            title = f"{owner} {fault}: a term of {loss(lead)} moves no weight"
        else:
            title = f"{owner} {fault}, which cuts {crowd(lead.affected)} off from {loss(lead)}"
        yield build(
            lead,
            title=title,
            explanation=f"{why} {owner} {fault}. {consequence(lead)}",
            fix=f"{fix}, and let `torch.autograd.gradcheck` compare it with finite differences; "
            "or write the step in plain torch operations.",
        )


def bad() -> None:
    """A quantizer with a learned step size returns no gradient for the step."""
    import torch
    from torch import nn

    torch.manual_seed(0)

    class Quantize(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, step):
            return (x / step).round() * step

        @staticmethod
        def backward(ctx, grad_output):
            return grad_output, None  # <- here

    class QuantizedNet(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(5, 8), nn.Linear(8, 2)
            self.step = nn.Parameter(torch.tensor(0.2))

        def forward(self, x):
            return self.second(Quantize.apply(self.first(x), self.step))

    model = QuantizedNet()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    inputs, target = torch.randn(16, 5), torch.randn(16, 2)
    for _ in range(3):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(inputs), target)
        loss.backward()
        optimizer.step()


def good() -> None:
    """The backward returns the gradient of the step size too."""
    import torch
    from torch import nn

    torch.manual_seed(0)

    class Quantize(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, step):
            ctx.save_for_backward(x, step)
            return (x / step).round() * step

        @staticmethod
        def backward(ctx, grad_output):
            x, step = ctx.saved_tensors
            ratio = x / step
            return grad_output, (grad_output * (ratio.round() - ratio)).sum()

    class QuantizedNet(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(5, 8), nn.Linear(8, 2)
            self.step = nn.Parameter(torch.tensor(0.2))

        def forward(self, x):
            return self.second(Quantize.apply(self.first(x), self.step))

    model = QuantizedNet()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    inputs, target = torch.randn(16, 5), torch.randn(16, 2)
    for _ in range(3):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(inputs), target)
        loss.backward()
        optimizer.step()
