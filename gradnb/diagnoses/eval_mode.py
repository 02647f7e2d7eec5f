"""The model trains in eval mode.

What happens
    `model.eval()` for a validation switches dropout off and makes batch norm use its running statistics, and stays in force until
    `model.train()`. `torch.no_grad()` has nothing to do with it.

Why it matters
    After the first validation the training goes on without regularisation and with frozen statistics. The loss even looks better,
    because nothing is dropped.

Fix
    `model.train()` at the top of every epoch and after every validation inside of one. A validation function can keep
    `was_training = model.training` and restore it.

References
    https://docs.pytorch.org/docs/stable/generated/torch.nn.Module.html#torch.nn.Module.eval
    https://docs.pytorch.org/docs/stable/notes/autograd.html#evaluation-mode-nn-module-eval
    https://github.com/fartashf/vsepp/issues/4
"""

from __future__ import annotations

from collections.abc import Iterator

from ..flow import leads
from ..recorder.recording import Recording
from ..report.finding import Finding
from ._words import build, place, quote, subject


def find(recording: Recording) -> Iterator[Finding]:
    """One finding for each call of eval() that is still in force when the optimizer steps."""
    for lead in leads(recording, "eval-mode"):
        details = lead.details
        model = str(details.get("model") or "").strip()
        named, call = (quote(model), quote(f"{model}.train()")) if model else ("the model", "`model.train()`")
        steps, of = int(details.get("steps") or 1), int(details.get("of") or details.get("steps") or 1)
        counted = f"{steps} of {of} recorded steps train" if steps < of else "every recorded step trains"
        lost = "without dropout" if details.get("drops") else "on frozen batch statistics"
        title, fix = "is not taken back", f"Call {call} behind the evaluation, before the next training step."
        if details.get("kind") == "not-called":
            title, fix = "is not called, the parentheses are missing", "Add the parentheses, `()`."
            why = f"Without parentheses Python looks the method up{place(lead)} and drops it, and {named} stays in eval mode."
        elif details.get("since_start"):
            why = f"This line{place(lead)} puts {named} into eval mode, the training begins after it, and no {call} comes in between."
        else:
            why = f"This line{place(lead)} puts {named} into eval mode in the middle of the training, and no {call} takes it back."
        effect = (
            "dropout passes everything through" if details.get("drops") else "batch norm uses its running statistics and learns no new ones"
        )
        yield build(
            lead,
            title=f"{subject(lead, '`eval()`')} {title}: {counted} {lost}",
            explanation=f"{why} In eval mode {effect}.",
            fix=fix,
        )


def bad() -> None:
    """The validation every second step leaves the model in eval mode."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(10, 20), nn.ReLU(), nn.Dropout(0.2), nn.Linear(20, 3))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    inputs, labels = torch.randn(32, 10), torch.randint(0, 3, (32,))

    @torch.no_grad()
    def accuracy():
        model.eval()  # <- here
        return (model(inputs).argmax(dim=1) == labels).float().mean().item()

    model.train()
    for step in range(5):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(inputs), labels)
        loss.backward()
        optimizer.step()
        if step % 2:
            print(step, loss.item(), accuracy())


def good() -> None:
    """The validation restores the mode that it found."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(10, 20), nn.ReLU(), nn.Dropout(0.2), nn.Linear(20, 3))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    inputs, labels = torch.randn(32, 10), torch.randint(0, 3, (32,))

    @torch.no_grad()
    def accuracy():
        model.eval()
        hits = (model(inputs).argmax(dim=1) == labels).float().mean().item()
        model.train()
        return hits

    model.train()
    for step in range(5):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(inputs), labels)
        loss.backward()
        optimizer.step()
        if step % 2:
            print(step, loss.item(), accuracy())
