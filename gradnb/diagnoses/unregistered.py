"""Parameters are kept where `model.parameters()` does not look.

What happens
    `nn.Module` registers what is assigned to an attribute of its own: modules, and tensors of class `nn.Parameter`. In a plain
    list, a dict, a closure or an object that is no module they are invisible.

Why it matters
    The hidden layers work in the forward pass and get gradients, but the optimizer never sees them; `.to(device)`,
    `.train()` and `state_dict()` leave them out too.

Fix
    `nn.ModuleList(…)`, `nn.ModuleDict(…)` or `nn.ParameterList(…)` in place of the plain container, or an attribute of its own for
    each.

References
    https://docs.pytorch.org/docs/stable/generated/torch.nn.ModuleList.html
    https://docs.pytorch.org/docs/stable/generated/torch.nn.ParameterList.html
"""

from __future__ import annotations

from collections.abc import Iterator

from ..flow import leads
from ..recorder.recording import Recording
from ..report.finding import Finding
from ._words import build, crowd, names, quote, sentence, subject, verb

REGISTERED = {
    "list": "nn.ModuleList([…])",
    "tuple": "nn.ModuleList([…])",
    "dict": "nn.ModuleDict({…})",
    "set": "nn.ModuleList([…])",
}


def find(recording: Recording) -> Iterator[Finding]:
    """One finding for each place that hides parameters from the optimizer."""
    for lead in leads(recording, "unregistered"):
        owner, attribute = lead.details.get("owner"), lead.details.get("attribute")
        container = str(lead.details.get("container") or "")
        hidden = quote(f"{owner}.{attribute}") if owner and attribute else subject(lead, "a plain container")
        kind = f"a {container}" if container else ""
        if lead.details.get("empty"):
            title = f"{hidden} hides every parameter, so the optimizer gets an empty list"
            why = (
                f"The layers stand in {kind or 'a place'} that `nn.Module` does not search, and there are no others: "
                "`parameters()` is empty."
            )
        elif lead.details.get("rebuilt"):
            title = f"{subject(lead, 'a layer')} is built in the forward pass: no module registers {crowd(lead.affected)}"
            why = (
                "What `forward` builds is no attribute of the module, so `parameters()` does not find it. "
                f"{sentence(names(lead.affected))} {verb(lead.affected, 'gets', 'get')} a gradient, "
                f"and no optimizer moves {verb(lead.affected, 'it', 'them')}."
            )
        else:
            title = f"{hidden} hides {crowd(lead.affected)} from `parameters()`"
            why = (
                f"{sentence(hidden)} is {kind or 'a place'} that `nn.Module` does not search. {sentence(names(lead.affected))} "
                f"{verb(lead.affected, 'works', 'work')} in the forward pass, and no optimizer moves {verb(lead.affected, 'it', 'them')}."
            )
        register = REGISTERED.get(container)
        if lead.details.get("rebuilt"):
            fix = "Build the layer in `__init__` (`self.layer = …`) and only call it in `forward`."
        elif register:
            fix = f"Write `self.{attribute or 'layers'} = {register}`, or `nn.ParameterList` where it holds bare parameters."
        else:
            fix = "Assign each layer to an attribute of the module (`self.layer = …`), and build the optimizer after that."
        yield build(lead, title=title, explanation=why, fix=fix)


def bad() -> None:
    """The hidden layers stand in a Python list."""
    import torch
    from torch import nn

    torch.manual_seed(0)

    class DeepNet(nn.Module):
        def __init__(self, depth=2):
            super().__init__()
            self.inlet = nn.Linear(5, 8)
            self.blocks = [nn.Linear(8, 8) for _ in range(depth)]  # <- here
            self.outlet = nn.Linear(8, 1)

        def forward(self, x):
            x = torch.tanh(self.inlet(x))
            for block in self.blocks:
                x = x + torch.tanh(block(x))
            return self.outlet(x)

    model = DeepNet()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    inputs, target = torch.randn(20, 5), torch.randn(20, 1)
    for _ in range(3):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(inputs), target)
        loss.backward()
        optimizer.step()


def good() -> None:
    """nn.ModuleList registers them."""
    import torch
    from torch import nn

    torch.manual_seed(0)

    class DeepNet(nn.Module):
        def __init__(self, depth=2):
            super().__init__()
            self.inlet = nn.Linear(5, 8)
            self.blocks = nn.ModuleList(nn.Linear(8, 8) for _ in range(depth))
            self.outlet = nn.Linear(8, 1)

        def forward(self, x):
            x = torch.tanh(self.inlet(x))
            for block in self.blocks:
                x = x + torch.tanh(block(x))
            return self.outlet(x)

    model = DeepNet()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    inputs, target = torch.randn(20, 5), torch.randn(20, 1)
    for _ in range(3):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(inputs), target)
        loss.backward()
        optimizer.step()
