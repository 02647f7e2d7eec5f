"""Shapes do not fit: a loss that broadcasts in silence, or flat vectors of different sets of parameters.

What happens
    `[N, 1]` against `[N]` is no error: it becomes `[N, N]`, and every sample is compared with every other. Vectors that are glued
    together from parameters and from gradients have the same length only if both come from the same list.

Why it matters
    The loss falls, to the spread of the targets, and the model learns the mean. No error shows it, at most a warning.

Fix
    `.squeeze(-1)` the prediction (or `.unsqueeze(-1)` the target), reduce what has an axis too many, and flatten one list of
    parameters everywhere.

References
    https://docs.pytorch.org/docs/stable/notes/broadcasting.html
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.mse_loss.html
"""

from __future__ import annotations

from collections.abc import Iterator

from ..flow import Lead, leads
from ..recorder.recording import Recording
from ..report.finding import Finding
from ._words import build, loss, names, place, quote, subject


def find(recording: Recording) -> Iterator[Finding]:
    """One finding for each pair of operands whose shapes do not belong together."""
    for lead in leads(recording, "shape-mismatch"):
        title, why, fix = _WORDS.get(lead.details.get("kind", ""), _pairs)(lead)
        yield build(lead, title=title, explanation=why, fix=fix)


def _shapes(lead: Lead) -> tuple[str, str]:
    return f"{list(lead.details.get('small') or ())}", f"{list(lead.details.get('other') or ())}"


def _pairs(lead: Lead) -> tuple[str, str, str]:
    small, other = _shapes(lead)
    return (
        f"{small} meets {other} in {loss(lead)}: every sample is compared with every other one",
        f"{subject(lead, 'This line')}{place(lead)} broadcasts {small} against {other} to a square, without an error.",
        "Give both the same shape: `.squeeze(-1)` for the one, or `.unsqueeze(-1)` for the other.",
    )


def _repeated(lead: Lead) -> tuple[str, str, str]:
    small, other = _shapes(lead)
    return (
        f"a prediction of shape {small} is repeated to fit a target of shape {other}",
        f"{subject(lead, 'This line')}{place(lead)} compares one number with several: the target has an axis too many.",
        "Reduce the target along that axis where it is made (a sum of log-probabilities over the dimensions of an action, a mean), "
        "or let the model predict as many numbers.",
    )


def _axis(lead: Lead) -> tuple[str, str, str]:
    small, other = _shapes(lead)
    return (
        f"operands of shape {small} and {other} do not fit: one has an axis too many",
        f"{subject(lead, 'This line')}{place(lead)} combines {small} with {other}. They agree in the samples, but shapes are matched "
        "from the right.",
        "`.squeeze(-1)` or reduce the longer one, or `.unsqueeze(-1)` the shorter one, where it is made.",
    )


def _target(lead: Lead) -> tuple[str, str, str]:
    small, other = _shapes(lead)
    operation = quote(str(lead.details.get("operation") or "the loss"))
    return (
        f"{operation} cannot compare a prediction of shape {small} with a target of shape {other}",
        f"{subject(lead, 'This line')}{place(lead)} gives {operation} operands whose shapes do not fit.",
        "Class scores are [N, C] or [N, C, …] with targets [N] or [N, …]; other losses want two equal shapes. Reshape where they are made.",
    )


def _vectors(lead: Lead) -> tuple[str, str, str]:
    details = lead.details
    what = "gradients" if details.get("gradients") else "parameters"
    more, less = list(details.get("extra") or ()), list(details.get("missing") or ())
    why = f"{subject(lead, 'This call')}{place(lead)} makes a vector of {details.get('size')} numbers"
    if details.get("other"):
        why += f", and the one it meets has {details['other']}"
    why += "."
    if more:
        why += f" It also holds {names(more)}, which the other one leaves out."
    elif less:
        why += f" It leaves out {names(less)}, which the other one holds."
    return (
        f"a flat vector of {what} was made from another set of parameters than the one it meets",
        why,
        "Choose the list of parameters once, and use that list wherever parameters or gradients are flattened and written back.",
    )


_WORDS = {"pairs": _pairs, "repeated": _repeated, "axis": _axis, "target": _target, "vectors": _vectors}


def bad() -> None:
    """The value head gives a column, the returns are a row."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    critic = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 1))
    optimizer = torch.optim.Adam(critic.parameters(), lr=0.01)
    states, returns = torch.randn(20, 4), torch.randn(20)

    def value_loss(values, returns):
        return (values - returns).pow(2).mean()  # <- here

    for _ in range(3):
        optimizer.zero_grad()
        loss = value_loss(critic(states), returns)
        loss.backward()
        optimizer.step()


def good() -> None:
    """The column is squeezed before it meets the returns."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    critic = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 1))
    optimizer = torch.optim.Adam(critic.parameters(), lr=0.01)
    states, returns = torch.randn(20, 4), torch.randn(20)

    def value_loss(values, returns):
        return (values.squeeze(-1) - returns).pow(2).mean()

    for _ in range(3):
        optimizer.zero_grad()
        loss = value_loss(critic(states), returns)
        loss.backward()
        optimizer.step()
