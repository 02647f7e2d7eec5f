"""A tensor that the backward pass needs was changed in place.

What happens
    Autograd keeps tensors of the forward pass for the backward pass, and counts how often each was changed. `x += 1`,
    `x[:, 0] = 0`, `ReLU(inplace=True)`, or an `optimizer.step()` between forward and backward, change one that is still needed.

Why it matters
    The error names a version number and an autograd node, not the line that changed the tensor, nor the one that needs it.

Fix
    Make a new tensor (`x = x + 1`, `x.clone()`, `inplace=False`); run forward, backward and step of one loss before the next
    network is stepped, or compute the forward pass again after the step.

References
    https://docs.pytorch.org/docs/stable/notes/autograd.html#in-place-correctness-checks
"""

from __future__ import annotations

from collections.abc import Iterator

from ..flow import Lead, leads
from ..recorder.recording import Recording
from ..report.finding import Finding
from ._words import build, loss, names, place, quote, subject


def find(recording: Recording) -> Iterator[Finding]:
    """One finding for the change that made a backward pass impossible."""
    for lead in leads(recording, "inplace-modified"):
        title, why, fix = _words(lead)
        yield build(lead, title=title, explanation=why, fix=fix)


def _words(lead: Lead) -> tuple[str, str, str]:
    kind = lead.details.get("kind")
    needed = lead.details.get("needed")
    needs = f"the backward pass of {quote(str(needed))} still needs" if needed else f"the backward pass of {loss(lead)} still needs"
    if kind in ("step", "load"):
        what = "`optimizer.step()`" if kind == "step" else "`load_state_dict()`"
        whose = names(list(lead.details.get("names") or ()))
        return (
            f"{what} changes weights between the forward and the backward pass of {loss(lead)}",
            f"{subject(lead, 'This line')}{place(lead)} overwrites {whose}, which {needs} as they were.",
            f"Compute the part of {loss(lead)} that uses these weights after this line, or call its `backward()` before it.",
        )
    if kind == "late":
        return (
            "a tensor that the backward pass needs was changed in place",
            f"{subject(lead, 'The line that raises')}{place(lead)} ran after the steps recorded in full: what changed it is not known.",
            "Record more steps, with `--steps N` or `check(steps=N)`, and the line that changed it is named.",
        )
    if kind == "unseen":
        return (
            f"a tensor that {loss(lead)} needs was changed in place",
            f"{subject(lead, 'This line')}{place(lead)} needs its operands in the backward pass, and one was overwritten afterwards.",
            "Do not write into it before `backward()`, or give this line a `.clone()`.",
        )
    if kind == "view":
        return (
            "a view is written in place that autograd cannot follow",
            f"{subject(lead, 'This line')}{place(lead)} writes into one of several views of a tensor, or into one made under no_grad.",
            "Make a new tensor in place of the write, or collect the rows in a list and call `torch.stack`.",
        )
    if lead.details.get("module") is not None:
        return (
            f"{subject(lead, 'a module with `inplace=True`')} overwrites its input, which the backward pass needs",
            f"The module runs in place, and {needs} the values that were there before.",
            "Build it with `inplace=False`.",
        )
    return (
        f"{subject(lead, 'a write in place')} changes a tensor that the backward pass needs",
        f"The write{place(lead)} comes after the tensor was used: {needs} the old values.",
        "Make a new tensor here (`x = x + y` for `x += y`, `torch.where` or `torch.cat` for writing a part), or write into a `.clone()`.",
    )


def bad() -> None:
    """The scores are shifted in place after softplus has kept them for its gradient."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    inputs, target = torch.randn(10, 4), torch.rand(10, 3)

    def centred(scores):
        scores -= scores.mean(dim=1, keepdim=True)  # <- here
        return scores

    for _ in range(3):
        scores = model(inputs)
        spread = nn.functional.softplus(scores).mean()
        loss = nn.functional.mse_loss(centred(scores), target) + 0.1 * spread
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def good() -> None:
    """The shifted scores are a new tensor."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    inputs, target = torch.randn(10, 4), torch.rand(10, 3)

    def centred(scores):
        return scores - scores.mean(dim=1, keepdim=True)

    for _ in range(3):
        scores = model(inputs)
        spread = nn.functional.softplus(scores).mean()
        loss = nn.functional.mse_loss(centred(scores), target) + 0.1 * spread
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
