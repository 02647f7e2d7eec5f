"""Gradients are computed, and the optimizer that holds the parameters does not step.

What happens
    `backward()` only fills `.grad`, and `optimizer.step()` only applies what is there. With two optimizers it is easy to step the
    wrong one; a scheduler only changes the learning rate; `optimizer.step` without parentheses is looked up and dropped.

Why it matters
    The loss is computed over and over with the same weights; the gradients pile up or are cleared unused.

Fix
    Call `step()` of the optimizer whose parameters the loss trains, once after each backward (or once per accumulation).

References
    https://docs.pytorch.org/docs/stable/optim.html#taking-an-optimization-step
    https://github.com/pytorch/pytorch/issues/3814
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from ..flow import leads
from ..flow.lead import Lead
from ..recorder.recording import Recording
from ..report.finding import Finding
from ._words import build, crowd, optimizer, place, quote, sentence, subject, variable, verb


def find(recording: Recording) -> Iterator[Finding]:
    """One finding for each optimizer whose parameters get gradients that no step uses."""
    for lead in leads(recording, "step-missing"):
        title, why, fix = _told(lead, quote(f"{variable(lead)}.step()"))
        yield build(lead, title=title, explanation=why, fix=fix)


def _told(lead: Lead, call: str) -> tuple[str, str, str]:
    kind, what = lead.details.get("kind"), subject(lead, "this line")
    gets = f"{crowd(lead.affected)} {verb(lead.affected, 'gets', 'get')}"
    never = f"{gets} gradients and never {verb(lead.affected, 'moves', 'move')}"
    if kind == "other":
        return (
            f"{subject(lead, 'this step')} moves other parameters than those that just got their gradients",
            f"The backward pass before it fills {crowd(lead.affected)}, which {optimizer(lead)} holds, and another optimizer is stepped.",
            f"Write {call} here.",
        )
    if kind == "not-called":
        return (
            f"{what} names a method and does not call it: the parentheses are missing",
            f"Without parentheses Python looks the method up{place(lead)} and drops it, without a word. {sentence(optimizer(lead))} "
            "moves nothing.",
            "Add the parentheses, `()`.",
        )
    if kind == "scheduler":
        return (
            f"{what} is no step of {optimizer(lead)}: {never}",
            f"A scheduler's step{place(lead)} changes the learning rate only; {optimizer(lead)} itself is never asked to step.",
            f"Call {call} after `backward()`; a scheduler steps after it.",
        )
    if kind == "condition":
        return (
            f"{_condition(lead)} never comes true, and the step of {optimizer(lead)} stands behind it: {never}",
            f"`backward()` computes gradients in every recorded iteration{place(lead)}, and no iteration reaches the step.",
            "Check the values that the condition compares; where gradients are accumulated, step once for each group and after the last "
            "one.",
        )
    if kind == "backward-condition":
        return (
            f"{_condition(lead)} never comes true, and the backward for {optimizer(lead)} stands behind it: its steps move nothing",
            f"The steps come all the same{place(lead)}, and leave out every parameter without a gradient.",
            "Check the values that the condition compares, and step only where backward has run.",
        )
    if kind == "no-backward":
        return (
            f"{what} steps, and no backward has computed a gradient for {crowd(lead.affected)}",
            f"{sentence(optimizer(lead))} leaves out every parameter without a gradient{place(lead)}, so this step moves nothing.",
            "Call `loss.backward()` before the step.",
        )
    return (
        f"{optimizer(lead)} never steps: {never}",
        f"`backward()` computes gradients, and only `step()` moves weights; {optimizer(lead)} is never asked to.",
        f"Call {call} after `backward()`.",
    )


def _condition(lead: Lead) -> str:
    """What an `if` line asks, without the `if`."""
    asked = re.sub(r"^(?:el)?if (.+?):(?:\s.*)?$", r"\1", lead.expression.strip())
    return quote(asked) if asked else "the condition"


def bad() -> None:
    """The scheduler steps, which changes the learning rate, and the optimizer does not."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=2)
    inputs, target = torch.randn(16, 4), torch.randn(16, 1)
    for _ in range(4):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(inputs), target)
        loss.backward()
        scheduler.step()  # <- here


def good() -> None:
    """The optimizer steps first, the scheduler after it."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=2)
    inputs, target = torch.randn(16, 4), torch.randn(16, 1)
    for _ in range(4):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(inputs), target)
        loss.backward()
        optimizer.step()
        scheduler.step()
