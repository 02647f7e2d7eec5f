"""The gradient falls by orders of magnitude on its way to a parameter.

What happens
    Each operation on the way multiplies the gradient by something below 1: the slope of a sigmoid (0.25 at most), a gate that
    is half closed, weights that start too small. Repeated over layers or time steps the product is next to nothing.

Why it matters
    The gradient is not None and not zero, so checks for missing gradients pass, and the parameters stay where they are.

Fix
    Keep the product near 1: a larger initial bias of a forget gate, weights at the scale of `nn.init.kaiming_normal_`, ReLU or
    GELU in place of sigmoid, a residual path, a normalisation.

References
    https://docs.pytorch.org/docs/stable/nn.init.html
    https://docs.pytorch.org/docs/stable/generated/torch.nn.LSTM.html
"""

from __future__ import annotations

from collections.abc import Iterator

from ..flow import leads
from ..flow.lead import Lead
from ..recorder.recording import Recording
from ..report.finding import Finding
from ._words import build, names, quote, sentence, subject, verb

FIXES = {
    "gate": "Start the gate open: give its bias a large positive value (1 to 5), so that it passes the state on at first.",
    "weights": "Start the weights larger: `nn.init.kaiming_normal_` (ReLU) or `nn.init.xavier_normal_` (tanh) keeps the scale of a layer.",
    "factor": "Bring the factor to 1 (normalise it), or add a path that goes around the product.",
    "operation": "Use an operation whose slope is near 1 (ReLU or GELU in place of sigmoid), a residual path or a normalisation between.",
}


def find(recording: Recording) -> Iterator[Finding]:
    """One finding for each place where the gradient of some parameters is lost bit by bit."""
    for lead in leads(recording, "vanishing"):
        title, why = _words(lead)
        yield build(lead, title=title, explanation=why, fix=FIXES.get(str(lead.details.get("blame")), FIXES["operation"]))


def _words(lead: Lead) -> tuple[str, str]:
    details = lead.details
    times = int(details.get("times") or 1)
    each, whole = float(details.get("each") or 0.0), float(details.get("whole") or 0.0)
    operation = quote(str(details.get("operation") or lead.operation or "the operation"))
    here = subject(lead, operation)
    norm, largest = details.get("norm"), details.get("largest")
    sizes = f" (norm {norm:.1e}, while the largest is {largest:.1e})" if norm and largest else ""
    spread = (
        f"{operation} multiplies it by about {each:.2g} each of the {times} times it runs"
        if times > 1
        else f"one {operation} multiplies it by {each:.1e}"
    )
    if details.get("blame") == "gate":
        title = f"{here} leaves a gate half closed, and the gradient vanishes over {times} steps"
        spread += f"; the factor is the gate {quote(str(details['factor']))}, whose bias is set here" if details.get("factor") else ""
    elif details.get("blame") == "weights":
        title = f"the weights that {here} sets are too small: the gradient vanishes over {times} layers"
    else:
        title = f"the gradient vanishes in {here}"
    get = verb(lead.affected, "gets", "get")
    why = (
        f"{sentence(names(lead.affected))} {get} next to no gradient{sizes}: from the loss to there it falls to {whole:.1e} of its size. "
        f"{sentence(spread)}."
    )
    return title, why


def bad() -> None:
    """Each of twelve sigmoid layers takes three quarters of the gradient or more."""
    import torch
    from torch import nn

    torch.manual_seed(0)

    class Deep(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList(nn.Linear(16, 16) for _ in range(12))
            self.head = nn.Linear(16, 1)

        def forward(self, x):
            for layer in self.layers:
                x = torch.sigmoid(layer(x))  # <- here
            return self.head(x)

    model = Deep()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.001)
    inputs, target = torch.randn(32, 16), torch.randn(32, 1)
    for _ in range(3):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(inputs), target)
        loss.backward()
        optimizer.step()


def good() -> None:
    """A residual path lets the gradient go around each layer."""
    import torch
    from torch import nn

    torch.manual_seed(0)

    class Deep(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList(nn.Linear(16, 16) for _ in range(12))
            self.head = nn.Linear(16, 1)

        def forward(self, x):
            for layer in self.layers:
                x = x + torch.relu(layer(x))
            return self.head(x)

    model = Deep()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.001)
    inputs, target = torch.randn(32, 16), torch.randn(32, 1)
    for _ in range(3):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(inputs), target)
        loss.backward()
        optimizer.step()
