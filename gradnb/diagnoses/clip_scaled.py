"""Gradients are clipped at the wrong moment: while the loss scale is in them, or after the step.

What happens
    After `scaler.scale(loss).backward()` every gradient is larger by the scale, 65536 by default. A limit such as 1.0 then cuts all
    of them down, and `scaler.step` divides what is left by the scale. After the step clipping changes nothing that is used.

Why it matters
    Clipping while scaled makes all steps tiny (or, with Adam, all of one length), and it looks like a learning rate that is too
    small. Clipping after the step protects from nothing.

Fix
    `scaler.scale(loss).backward()`, `scaler.unscale_(optimizer)`, clip, `scaler.step(optimizer)`, `scaler.update()`.

References
    https://docs.pytorch.org/docs/stable/notes/amp_examples.html#gradient-clipping
    https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.clip_grad_norm_.html
    https://github.com/milesial/Pytorch-UNet/issues/468
"""

from __future__ import annotations

from collections.abc import Iterator

from ..flow import leads
from ..recorder.recording import Recording
from ..report.finding import Finding
from ._words import build, optimizer, place, quote, sentence, subject, variable


def find(recording: Recording) -> Iterator[Finding]:
    """One finding for each line that clips too early or too late, or decides by gradients that are still scaled."""
    for lead in leads(recording, "clip-scaled"):
        unscale = quote(f"scaler.unscale_({variable(lead)})")
        if lead.details.get("kind") == "after-step":
            title = f"{subject(lead, 'this clipping')} comes after the step and changes nothing"
            why = f"{optimizer(lead)} has used these gradients already{place(lead)}, and they are cleared before the next step."
            fix = "Move the clipping between backward and the step."
        elif lead.details.get("kind") == "decided":
            title = f"{subject(lead, 'this line')} decides by the size of gradients that still carry the loss scale"
            why = (
                f"The gradients of {optimizer(lead)} are multiplied by the scale{place(lead)}: the number that is compared here is larger "
            )
            why += "by that factor, and changes whenever the scale does."
            fix = f"Call {unscale} before the gradients are read."
        else:
            title = f"{subject(lead, 'this line')} clips gradients that still carry the loss scale"
            why = (
                f"The gradients of {optimizer(lead)} are multiplied by the scale{place(lead)}, so the limit cuts nearly all of them down, "
            )
            why += "and the step then divides what is left by the scale."
            fix = f"Call {unscale} in front of this line."
        yield build(lead, title=title, explanation=sentence(why), fix=fix)


def bad() -> None:
    """Mixed precision was added to a loop that clips, and unscaling was not."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    model = nn.GRU(4, 8, batch_first=True)
    head = nn.Linear(8, 1)
    weights = [*model.parameters(), *head.parameters()]
    optimizer = torch.optim.SGD(weights, lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    series = torch.randn(12, 7, 4)
    target = series.sum(dim=(1, 2)).unsqueeze(1)
    for _ in range(3):
        optimizer.zero_grad()
        _, state = model(series)
        loss = nn.functional.mse_loss(head(state[0]), target)
        scaler.scale(loss).backward()
        nn.utils.clip_grad_norm_(weights, 1.0)  # <- here
        scaler.step(optimizer)
        scaler.update()


def good() -> None:
    """Unscaled first, clipped then."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    model = nn.GRU(4, 8, batch_first=True)
    head = nn.Linear(8, 1)
    weights = [*model.parameters(), *head.parameters()]
    optimizer = torch.optim.SGD(weights, lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    series = torch.randn(12, 7, 4)
    target = series.sum(dim=(1, 2)).unsqueeze(1)
    for _ in range(3):
        optimizer.zero_grad()
        _, state = model(series)
        loss = nn.functional.mse_loss(head(state[0]), target)
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(weights, 1.0)
        scaler.step(optimizer)
        scaler.update()
