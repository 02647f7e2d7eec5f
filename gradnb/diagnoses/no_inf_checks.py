"""scaler.step() finds no gradient at all.

What happens
    `scaler.step(optimizer)` first checks the optimizer's gradients for Inf and NaN. Where every `.grad` is None there is nothing
    to check, and it raises "No inf checks were recorded for this optimizer". A plain `optimizer.step()` would do nothing, silently.

Why it matters
    The error shows the step, and the fault lies elsewhere: the gradients were used or cleared before, or the loss never reached
    these parameters.

Fix
    See that a backward pass reaches the optimizer's parameters after the last `zero_grad()`, and step only then.

References
    https://docs.pytorch.org/docs/stable/amp.html#gradient-scaling
    https://docs.pytorch.org/docs/stable/notes/amp_examples.html#gradient-accumulation
    https://github.com/open-mmlab/mmsegmentation/issues/3230
"""

from __future__ import annotations

from collections.abc import Iterator

from ..flow import leads
from ..flow.lead import Lead
from ..recorder.recording import Recording
from ..report.finding import Finding
from ._words import build, crowd, names, optimizer, place, quote, sentence, subject, variable, verb


def find(recording: Recording) -> Iterator[Finding]:
    """One finding for the reason why a step through a GradScaler had no gradient."""
    for lead in leads(recording, "no-inf-checks"):
        title, why, fix = _told(lead)
        yield build(lead, title=title, explanation=why, fix=fix)


def _told(lead: Lead) -> tuple[str, str, str]:
    kind, step = lead.details.get("kind"), quote(f"scaler.step({variable(lead)})")
    if kind == "stepped-already" and lead.details.get("leftover"):
        return (
            f"{subject(lead, 'this block')} steps for leftover backward passes, and none is left",
            f"The regular step has used all gradients of {optimizer(lead)}, and they were cleared{place(lead)}; {step} finds none and "
            "raises.",
            "Run this block only while backward passes wait for a step: count them, and set the count to 0 after each step.",
        )
    if kind == "stepped-already":
        return (
            f"{subject(lead, step)} is a second step for gradients that are used and cleared",
            f"A step of {optimizer(lead)} came before, its gradients were cleared, and no backward followed{place(lead)}.",
            "Remove the second step, or give it a backward pass of its own.",
        )
    if kind == "cleared":
        return (
            f"{subject(lead, 'zero_grad()')} clears the gradients between backward and {step}",
            f"Backward fills `.grad`, this line{place(lead)} empties it again, and the step has nothing to check and to apply.",
            f"Move {subject(lead, 'this line')} in front of backward, or behind the step.",
        )
    if kind == "cut":
        cut = str(lead.details.get("cut") or "")
        more = f"; {quote(f'gradnb.explain({cut!r})')} tells how" if cut else ""
        return (
            f"{subject(lead, 'this operation')} cuts {crowd(lead.affected)} off from the loss: {step} has no gradient to check",
            f"What is computed here{place(lead)} has no history, so backward reaches nothing that {optimizer(lead)} holds. Every `.grad` "
            "stays `None`, and the step raises far from here.",
            f"Keep the value in the graph here{more}.",
        )
    return (
        f"no backward reaches {crowd(lead.affected)}: {step} has no gradient to check",
        f"{sentence(optimizer(lead))} holds {names(lead.affected)}, and the recorded losses are not computed from "
        f"{verb(lead.affected, 'it', 'them')}{place(lead)}.",
        "Build the optimizer from the parameters that its loss trains, and step it only after a backward pass of that loss.",
    )


def bad() -> None:
    """The leftover block runs although the batches divide evenly: the sum that it asks is never set back."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    scaler = torch.amp.GradScaler("cpu", init_scale=256.0)
    batches = [(x, x.sum(dim=1, keepdim=True)) for x in torch.randn(8, 16, 6)]

    def update():
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()

    pending = 0.0
    for i, (inputs, target) in enumerate(batches, 1):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = nn.functional.mse_loss(model(inputs), target) / 4
        scaler.scale(loss).backward()
        pending += loss.item()
        if i % 4 == 0:
            update()
    if pending > 0:
        update()  # <- here


def good() -> None:
    """The sum starts anew after each step."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    scaler = torch.amp.GradScaler("cpu", init_scale=256.0)
    batches = [(x, x.sum(dim=1, keepdim=True)) for x in torch.randn(8, 16, 6)]

    def update():
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()

    pending = 0.0
    for i, (inputs, target) in enumerate(batches, 1):
        if i % 4 == 1:
            optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = nn.functional.mse_loss(model(inputs), target) / 4
        scaler.scale(loss).backward()
        pending += loss.item()
        if i % 4 == 0:
            update()
            pending = 0.0
    if pending > 0:
        update()
