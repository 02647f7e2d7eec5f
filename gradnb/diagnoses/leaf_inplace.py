"""A parameter is changed in place while autograd records.

What happens
    A leaf that requires grad is where gradients end. `weight[0] = 0`, `weight += step` or `weight.add_(…)` would make it the
    result of an operation, so autograd refuses, for a view of it as well.

Why it matters
    Filling weights by hand and stepping by hand are meant to change the number, not to be differentiated.

Fix
    Put the write under `with torch.no_grad():`; `torch.nn.init` does so itself. A tensor of your own that should not learn needs
    no `requires_grad=True`.

References
    https://docs.pytorch.org/docs/stable/notes/autograd.html#locally-disabling-gradient-computation
    https://docs.pytorch.org/docs/stable/nn.init.html
"""

from __future__ import annotations

from collections.abc import Iterator

from ..flow import leads
from ..recorder.recording import Recording
from ..report.finding import Finding
from ._words import build, place, quote, subject


def find(recording: Recording) -> Iterator[Finding]:
    """One finding for the write into a leaf."""
    for lead in leads(recording, "leaf-inplace"):
        whose = (
            quote(lead.affected[0]) if lead.affected else "a parameter" if lead.details.get("parameter") else "a leaf that requires grad"
        )
        part = "a part of " if lead.details.get("view") else ""
        fix = "Wrap the write in `with torch.no_grad():`."
        if not lead.details.get("parameter"):
            fix += (
                " A tensor that is filled first and differentiated then is made without `requires_grad=True`; or write into a `.clone()`."
            )
        yield build(
            lead,
            title=f"{part}{whose} is changed in place while autograd records",
            explanation=f"{subject(lead, 'This line')}{place(lead)} writes into {part}{whose}. It is a leaf that requires grad: "
            "autograd would have to differentiate the write, and raises.",
            fix=fix,
        )


def bad() -> None:
    """The rows of rare classes are damped by hand before the training."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))

    def damp_rows(layer, rows, factor=0.1):
        for row in rows:
            layer.weight[row] *= factor  # <- here

    damp_rows(model[2], rows=[1, 2])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    inputs, labels = torch.randn(12, 4), torch.randint(0, 3, (12,))
    for _ in range(3):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(inputs), labels)
        loss.backward()
        optimizer.step()


def good() -> None:
    """The same write with autograd switched off."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))

    def damp_rows(layer, rows, factor=0.1):
        with torch.no_grad():
            for row in rows:
                layer.weight[row] *= factor

    damp_rows(model[2], rows=[1, 2])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    inputs, labels = torch.randn(12, 4), torch.randint(0, 3, (12,))
    for _ in range(3):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(inputs), labels)
        loss.backward()
        optimizer.step()
