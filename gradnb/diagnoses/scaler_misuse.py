"""The calls of a GradScaler do not fit together, so the gradients that the optimizer applies have the wrong size.

What happens
    `scaler.scale(loss)` multiplies the gradients, `scaler.step(optimizer)` divides them by the same scale and steps,
    `scaler.update()` sets the scale for the next iteration. A loss that was not scaled, a plain `optimizer.step()`, a second step
    or a missing update break this.

Why it matters
    The updates are too large or too small by the scale (65536 by default), or are applied twice, or skip the check for Inf and
    NaN. Most of these orders raise nothing.

Fix
    For each iteration: `scaler.scale(loss).backward()`, `scaler.step(optimizer)`, `scaler.update()`, all of one scaler, and no
    `optimizer.step()`.

References
    https://docs.pytorch.org/docs/stable/notes/amp_examples.html#typical-mixed-precision-training
    https://docs.pytorch.org/docs/stable/notes/amp_examples.html#working-with-multiple-models-losses-and-optimizers
    https://github.com/IAHispano/Applio/pull/860
"""

from __future__ import annotations

from collections.abc import Iterator

from ..flow import leads
from ..flow.lead import Lead
from ..recorder.recording import Recording
from ..report.finding import Finding
from ._words import build, optimizer, place, quote, subject, variable


def find(recording: Recording) -> Iterator[Finding]:
    """One finding for each place where the order of a GradScaler's calls is broken."""
    for lead in leads(recording, "scaler-misuse"):
        tell = KINDS.get(str(lead.details.get("kind")), _unscaled)
        title, why, fix = tell(lead, quote(f"scaler.step({variable(lead)})"))
        yield build(lead, title=title, explanation=why, fix=fix)


def _unscaled(lead: Lead, step: str) -> tuple[str, str, str]:
    if lead.details.get("raised"):
        effect = "the scaler has scaled nothing yet, has no scale to divide by, and raises."
    else:
        effect = f"{optimizer(lead)} sees gradients that are too small by the factor of the scale."
    return (
        f"{subject(lead, 'this backward')} runs on a loss that was not scaled, and {step} divides its gradients by the scale",
        f"No `scaler.scale` stands between the loss and this backward{place(lead)}: {effect}",
        "Write `scaler.scale(loss).backward()`.",
    )


def _other_scaler(lead: Lead, step: str) -> tuple[str, str, str]:
    return (
        f"{subject(lead, step)} divides by the scale of another GradScaler than the one that scaled the loss",
        f"Two scalers hold two scales, which drift apart with the first Inf: the gradients of {optimizer(lead)} come out too large or "
        "too small"
        f"{place(lead)}.",
        "Use one GradScaler for the loss and for the step; one is enough for any number of losses and optimizers.",
    )


def _update_between(lead: Lead, step: str) -> tuple[str, str, str]:
    return (
        f"{subject(lead, '`scaler.update()`')} may change the scale while the gradients of {optimizer(lead)} still wait for their step",
        f"Those gradients carry the scale from before the update{place(lead)}, and {step} divides them by the new one: where the two "
        "differ, the update has the wrong size.",
        "Call `scaler.update()` once for each iteration, after the steps of all optimizers.",
    )


def _stepped_past(lead: Lead, step: str) -> tuple[str, str, str]:
    return (
        f"{subject(lead, 'this step')} applies gradients a second time: {step} has stepped already",
        f"`scaler.step` calls the optimizer's own `step` for you. The second call{place(lead)} doubles the update, and it also runs "
        "where the scaler left a step out because of Inf or NaN.",
        f"Remove {subject(lead, 'the direct call')}.",
    )


def _plain_step(lead: Lead, step: str) -> tuple[str, str, str]:
    return (
        f"{subject(lead, 'this step')} applies gradients that still carry the loss scale",
        f"The loss was scaled, and a plain step{place(lead)} knows nothing of that: the update of {optimizer(lead)} is too large by the "
        "factor of the scale, and nobody looks for Inf and NaN.",
        f"Write {step}, and `scaler.update()` after it.",
    )


def _step_twice(lead: Lead, step: str) -> tuple[str, str, str]:
    return (
        f"{subject(lead, step)} steps {optimizer(lead)} a second time in one round, and GradScaler raises",
        f"GradScaler takes one step for each optimizer between two updates; the gradients are used already{place(lead)}.",
        f"Remove the second {step}, or end the first round with `scaler.update()` and a new backward.",
    )


def _update_skipped(lead: Lead, step: str) -> tuple[str, str, str]:
    return (
        f"{subject(lead, '`scaler.update()`')} is left out in an iteration that had stepped: the next {step} raises",
        f"Only `update()` ends a round, and a condition skips it here{place(lead)}.",
        f"Call `scaler.update()` after every {step}, whatever the condition says.",
    )


def _update_missing(lead: Lead, step: str) -> tuple[str, str, str]:
    return (
        f"no `scaler.update()` follows {subject(lead, step)}: the next step raises",
        f"Only `update()` ends a round and adapts the scale; without it GradScaler takes {optimizer(lead)} for stepped{place(lead)}.",
        f"Call `scaler.update()` once for each iteration, after {step}.",
    )


def _update_alone(lead: Lead, step: str) -> tuple[str, str, str]:
    return (
        f"{subject(lead, '`scaler.update()`')} has nothing to learn from: no step and no `unscale_` came since the last update",
        f"`update()` adapts the scale to what the steps of the round found{place(lead)}; there was none, so it raises.",
        f"Call `scaler.update()` only in iterations that step, right after {step}.",
    )


def _scaled_twice(lead: Lead, step: str) -> tuple[str, str, str]:
    return (
        f"{subject(lead, '`scaler.scale`')} scales a loss that is scaled already",
        f"{step} divides the gradients of {optimizer(lead)} by the scale once, and they carry it twice{place(lead)}: the update is too "
        "large by the factor of the scale, or overflows and is left out.",
        "Scale the loss once, right before `backward()`.",
    )


KINDS = {
    "scaled-twice": _scaled_twice,
    "loss-not-scaled": _unscaled,
    "other-scaler": _other_scaler,
    "update-between": _update_between,
    "stepped-past": _stepped_past,
    "plain-step": _plain_step,
    "step-twice": _step_twice,
    "update-skipped": _update_skipped,
    "update-missing": _update_missing,
    "update-without-step": _update_alone,
}


def bad() -> None:
    """The scaler came into the loop, and the direct step stayed."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 2))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    scaler = torch.amp.GradScaler("cpu", init_scale=512.0)
    inputs, target = torch.randn(32, 6), torch.randn(32, 2)
    for _ in range(3):
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = nn.functional.l1_loss(model(inputs), target)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.step()  # <- here


def good() -> None:
    """The scaler steps the optimizer."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 2))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    scaler = torch.amp.GradScaler("cpu", init_scale=512.0)
    inputs, target = torch.randn(32, 6), torch.randn(32, 2)
    for _ in range(3):
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = nn.functional.l1_loss(model(inputs), target)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
