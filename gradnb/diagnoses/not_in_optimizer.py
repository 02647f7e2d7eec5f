"""Parameters get a gradient, and no optimizer holds them.

What happens
    An optimizer keeps the parameter objects that it was given. A layer that is replaced later, a model that is built anew, or a
    generator that was read once before leaves it with other objects than those that train.

Why it matters
    Backward computes the gradients, `step()` moves something else or nothing, and no error is raised.

Fix
    Build the optimizer last, after every replacement and move; hand over lists, not generators; add late parameters with
    `optimizer.add_param_group({"params": …})`.

References
    https://docs.pytorch.org/docs/stable/optim.html
    https://docs.pytorch.org/docs/stable/generated/torch.optim.Optimizer.add_param_group.html
"""

from __future__ import annotations

from collections.abc import Iterator

from ..flow import leads
from ..recorder.recording import Recording
from ..report.finding import Finding
from ._words import build, crowd, names, place, quote, sentence, subject, verb


def find(recording: Recording) -> Iterator[Finding]:
    """One finding for each optimizer that misses parameters which get a gradient."""
    for lead in leads(recording, "not-in-optimizer"):
        label = lead.details.get("optimizer")
        optimizer = quote(str(label)) if label else "the optimizer"
        if lead.details.get("exhausted"):
            title = f"{subject(lead, 'a generator')} is used up before {optimizer} reads it: {crowd(lead.affected)} left out"
            why = f"A generator (`filter`, `parameters()`){place(lead)} gives its items once; the second reader gets nothing."
            fix = "Make it a list: `list(filter(…))` or `list(model.parameters())`."
        elif lead.details.get("replaced"):
            title = f"{optimizer} is built before {crowd(lead.affected)} {verb(lead.affected, 'is', 'are')} replaced"
            why = f"{sentence(optimizer)} holds the parameters of the layer that was there first, and those take no part any more."
            fix = "Replace the layer first and build the optimizer after it, or call `optimizer.add_param_group({'params': …})`."
        elif lead.details.get("stale"):
            title = f"{optimizer} holds the parameters of an older model, not {crowd(lead.affected)}"
            why = f"The model was made anew (or copied) after {optimizer} was built, so its steps move an object that nobody uses."
            fix = "Build the optimizer anew whenever the model is, in the same cell or function."
        else:
            title = f"no optimizer holds {crowd(lead.affected)}"
            why = f"The parameters that {optimizer} was given{place(lead)} do not include {verb(lead.affected, 'it', 'them')}."
            fix = "Add them to the optimizer, or set `requires_grad_(False)` if they are to stay as they are."
        gets, moves = verb(lead.affected, "gets", "get"), verb(lead.affected, "moves", "move")
        kept = f"{sentence(names(lead.affected))} {gets} gradients and never {moves}."
        if lead.details.get("raised"):
            kept = "The optimizer refuses an empty list."
        yield build(lead, title=title, explanation=f"{why} {kept}", fix=fix)


def bad() -> None:
    """The head is replaced for the new classes when the optimizer is already there."""
    import torch
    from torch import nn

    torch.manual_seed(0)

    class Classifier(nn.Module):
        def __init__(self, classes):
            super().__init__()
            self.features = nn.Sequential(nn.Linear(6, 10), nn.Tanh())
            self.head = nn.Linear(10, classes)

        def forward(self, x):
            return self.head(self.features(x))

    model = Classifier(classes=10)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    model.head = nn.Linear(10, 3)  # <- here

    inputs, labels = torch.randn(16, 6), torch.randint(0, 3, (16,))
    for _ in range(3):
        model.zero_grad()
        loss = nn.functional.cross_entropy(model(inputs), labels)
        loss.backward()
        optimizer.step()


def good() -> None:
    """The optimizer is built last."""
    import torch
    from torch import nn

    torch.manual_seed(0)

    class Classifier(nn.Module):
        def __init__(self, classes):
            super().__init__()
            self.features = nn.Sequential(nn.Linear(6, 10), nn.Tanh())
            self.head = nn.Linear(10, classes)

        def forward(self, x):
            return self.head(self.features(x))

    model = Classifier(classes=10)
    model.head = nn.Linear(10, 3)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)

    inputs, labels = torch.randn(16, 6), torch.randint(0, 3, (16,))
    for _ in range(3):
        model.zero_grad()
        loss = nn.functional.cross_entropy(model(inputs), labels)
        loss.backward()
        optimizer.step()
