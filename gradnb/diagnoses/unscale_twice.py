"""The gradients of one optimizer are unscaled twice.

What happens
    GradScaler keeps one state for each optimizer: scaled, unscaled, stepped. `unscale_(optimizer)` divides all gradients that the
    optimizer holds, may come once, before `scaler.step`, and only `scaler.update()` starts the next round. Anything else raises.

Why it matters
    A second division would make the gradients too small by the factor of the scale, 65536 by default.

Fix
    In each round, in this order: `unscale_` once for each optimizer, clipping, `scaler.step`, `scaler.update()`.

References
    https://docs.pytorch.org/docs/stable/amp.html#gradient-scaling
    https://docs.pytorch.org/docs/stable/notes/amp_examples.html#working-with-unscaled-gradients
    https://github.com/microsoft/Swin-Transformer/issues/311
"""

from __future__ import annotations

from collections.abc import Iterator

from ..flow import leads
from ..flow.lead import Lead
from ..recorder.recording import Recording
from ..report.finding import Finding
from ._words import build, optimizer, place, quote, subject, variable


def find(recording: Recording) -> Iterator[Finding]:
    """One finding for the call that unscales again, or for the update that did not come between."""
    for lead in leads(recording, "unscale-twice"):
        title, why, fix = _told(lead)
        yield build(lead, title=title, explanation=why, fix=fix)


def _told(lead: Lead) -> tuple[str, str, str]:
    kind, name = lead.details.get("kind"), variable(lead)
    unscale, step = quote(f"scaler.unscale_({name})"), quote(f"scaler.step({name})")
    if kind == "after-step":
        return (
            f"{subject(lead, unscale)} comes after {step}, which unscales by itself",
            f"At this point{place(lead)} the step is over: the gradients of {optimizer(lead)} are unscaled and used.",
            f"Move it, and the clipping that needs it, in front of {step}.",
        )
    if kind == "update-skipped":
        return (
            f"{subject(lead, '`scaler.update()`')} is left out in an iteration that had unscaled: the next {unscale} raises",
            f"Only `update()` lets {optimizer(lead)} leave the state of being unscaled, and a condition{place(lead)} skips it together "
            "with the step.",
            f"Call `scaler.update()` in every iteration that calls {unscale}, also where the step is left out. For Inf and NaN no "
            f"condition is needed: {step} looks for them itself.",
        )
    if kind == "update-missing":
        return (
            f"no `scaler.update()` follows {subject(lead, step)}: the {unscale} of the next iteration raises",
            f"Only `update()` ends a round{place(lead)}; without it GradScaler takes the gradients of {optimizer(lead)} for unscaled.",
            f"Call `scaler.update()` once for each iteration, after {step}.",
        )
    return (
        f"{subject(lead, unscale)} unscales gradients that are unscaled already",
        f"The call before it divided all gradients that {optimizer(lead)} holds, not only those of one module; GradScaler keeps one "
        f"state for each optimizer and raises at the second call{place(lead)}.",
        f"Call {unscale} once before the first clipping, then clip as many groups as you like.",
    )


def bad() -> None:
    """Each of the two networks is unscaled and clipped, and one optimizer holds both."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    encoder, decoder = nn.Linear(8, 3), nn.Linear(3, 8)
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=1e-3)
    scaler = torch.amp.GradScaler("cpu", init_scale=256.0)
    batch = torch.randn(16, 8)
    for _ in range(3):
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = nn.functional.mse_loss(decoder(encoder(batch).tanh()), batch)
        scaler.scale(loss).backward()
        for network in (encoder, decoder):
            scaler.unscale_(optimizer)  # <- here
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()


def good() -> None:
    """Unscaled once for the optimizer, clipped for each network."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    encoder, decoder = nn.Linear(8, 3), nn.Linear(3, 8)
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=1e-3)
    scaler = torch.amp.GradScaler("cpu", init_scale=256.0)
    batch = torch.randn(16, 8)
    for _ in range(3):
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = nn.functional.mse_loss(decoder(encoder(batch).tanh()), batch)
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        for network in (encoder, decoder):
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
