"""A second backward pass runs through a graph that the first one has freed.

What happens
    `backward()` frees the tensors that the graph kept. A hidden state, a cached table, a stored log-probability or a running sum
    that was not detached brings the old graph along, or two losses share one forward pass and each calls `backward()`.

Why it matters
    "Trying to backward through the graph a second time" shows the last call only. `retain_graph=True` makes it go away, and then
    the history grows with every step, or weights that it needs are changed by the optimizer.

Fix
    `.detach()` what is kept from one iteration to the next, or compute it anew in each; add up losses that share a forward pass
    and call `backward()` once.

References
    https://docs.pytorch.org/docs/stable/generated/torch.Tensor.backward.html
    https://docs.pytorch.org/docs/stable/notes/autograd.html#saved-tensors
"""

from __future__ import annotations

from collections.abc import Iterator

from ..flow import Lead, leads
from ..recorder.recording import Recording
from ..report.finding import Finding
from ._words import build, loss, place, quote, subject


def find(recording: Recording) -> Iterator[Finding]:
    """One finding for the backward pass that met a freed graph, or for a graph that is kept alive over steps."""
    for lead in leads(recording, "second-backward"):
        title, why, fix = _WORDS.get(lead.details.get("kind", ""), _unknown)(lead)
        if lead.details.get("kept"):
            why += " `retain_graph=True` keeps that graph, and its gradients are those of weights that have changed since."
            fix += " Then `retain_graph=True` is not needed any more."
        yield build(lead, title=title, explanation=why, fix=fix)


def _tensor(lead: Lead) -> str:
    name = str(lead.details.get("name") or "")
    return quote(name) if name else "a tensor"


def _carried(lead: Lead) -> tuple[str, str, str]:
    name = _tensor(lead)
    return (
        f"{name} carries the graph of an earlier iteration into {loss(lead)}",
        f"{subject(lead, 'This line')}{place(lead)} keeps {name} together with its history. The backward pass of the earlier iteration "
        f"has been through that history, and {loss(lead)} goes into it again.",
        "Keep it without its history: `.detach()` here; or, where its gradient is wanted, compute it anew in every iteration.",
    )


def _loss(lead: Lead) -> tuple[str, str, str]:
    return (
        f"{loss(lead)} is computed once, and `backward()` is called on it in every iteration",
        f"{subject(lead, 'This line')}{place(lead)} runs one forward pass; its graph serves for one backward pass.",
        "Move the forward pass and the loss into the loop, in front of `backward()`.",
    )


def _twice(lead: Lead) -> tuple[str, str, str]:
    return (
        f"`backward()` is called twice on {loss(lead)}",
        f"The first call, {subject(lead, 'here')}{place(lead)}, frees the graph that the second one needs.",
        "Remove one of the two calls; where both are meant, pass `retain_graph=True` to the first.",
    )


def _branch(lead: Lead) -> tuple[str, str, str]:
    name = _tensor(lead)
    return (
        f"{name} is not detached where only another network is trained, so two losses go through one graph",
        f"{subject(lead, 'This line')}{place(lead)} takes {name} with its history, although the optimizer of that loss holds "
        "nothing behind it. The first backward pass goes all the way and frees what the second one needs.",
        f"Pass {name if lead.details.get('name') else 'the tensor'} with `.detach()` here.",
    )


def _recompute(lead: Lead) -> tuple[str, str, str]:
    name = _tensor(lead)
    return (
        f"{name} is used for a second loss after the backward pass of the first",
        f"{subject(lead, 'This line')}{place(lead)} makes {name} once. The first loss frees its graph, and the optimizer then changes "
        "the weights behind it.",
        "Compute it anew for the second loss, or add both losses and call `backward()` once before the step.",
    )


def _shared(lead: Lead) -> tuple[str, str, str]:
    return (
        f"two losses share {_tensor(lead)}, and the first `backward()` frees its graph",
        f"{subject(lead, 'This backward pass')}{place(lead)} goes through the forward pass that {loss(lead)} needs too.",
        "Add the losses and call `backward()` once, or pass `retain_graph=True` here.",
    )


def _grad(lead: Lead) -> tuple[str, str, str]:
    return (
        f"`torch.autograd.grad` frees the graph that {loss(lead)} still needs",
        f"{subject(lead, 'This call')}{place(lead)} walks the graph without keeping it.",
        "Pass `retain_graph=True` (or `create_graph=True`, to differentiate the gradient itself) here.",
    )


def _stale(lead: Lead) -> tuple[str, str, str]:
    name = _tensor(lead)
    return (
        f"{name} is computed once from parameters that the optimizer moves, and used in every step",
        f"{subject(lead, 'This line')}{place(lead)} keeps {name}. From the second step on its values, and the gradients through it, "
        "belong to parameters that have changed since.",
        "Compute it anew in every forward pass; keep only what does not depend on parameters.",
    )


def _before(lead: Lead) -> tuple[str, str, str]:
    return (
        f"{loss(lead)} hangs on a tensor that was made before this cell, and whose graph is used up",
        f"{subject(lead, 'This line')}{place(lead)} made a tensor with its history, and an earlier backward pass went through it.",
        "Compute it in the training step, or keep it with `.detach()`.",
    )


def _unknown(lead: Lead) -> tuple[str, str, str]:
    return (
        f"{loss(lead)} goes through a graph that was freed already",
        "An earlier backward pass freed the tensors that this one needs.",
        "Detach what comes from earlier iterations, or compute it anew.",
    )


def _late(lead: Lead) -> tuple[str, str, str]:
    return (
        "a backward pass goes through a graph that was freed already",
        f"{subject(lead, 'The line that raises')}{place(lead)} ran after the steps recorded in full, so what came before is not known.",
        "Record more steps, with `--steps N` or `check(steps=N)`, and the line that kept the old graph is named.",
    )


_WORDS = {
    "carried": _carried,
    "loss": _loss,
    "twice": _twice,
    "branch": _branch,
    "recompute": _recompute,
    "shared": _shared,
    "grad": _grad,
    "stale": _stale,
    "late": _late,
    "before": _before,
}


def bad() -> None:
    """The hidden state goes from batch to batch with all of its history."""
    import torch
    from torch import nn

    torch.manual_seed(0)

    class Tracker(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell, self.head = nn.GRUCell(3, 8), nn.Linear(8, 1)
            self.state = torch.zeros(4, 8)

        def forward(self, inputs):
            state = self.cell(inputs, self.state)
            self.state = state  # <- here
            return self.head(state)

    model = Tracker()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(3):
        inputs = torch.randn(4, 3)
        loss = (model(inputs) - inputs.sum(dim=1, keepdim=True)).pow(2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def good() -> None:
    """The state is kept as a value, without the way it came about."""
    import torch
    from torch import nn

    torch.manual_seed(0)

    class Tracker(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell, self.head = nn.GRUCell(3, 8), nn.Linear(8, 1)
            self.state = torch.zeros(4, 8)

        def forward(self, inputs):
            state = self.cell(inputs, self.state)
            self.state = state.detach()
            return self.head(state)

    model = Tracker()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(3):
        inputs = torch.randn(4, 3)
        loss = (model(inputs) - inputs.sum(dim=1, keepdim=True)).pow(2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
