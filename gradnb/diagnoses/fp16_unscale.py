"""GradScaler is asked to unscale float16 gradients, and refuses.

What happens
    A gradient has the dtype of its parameter. Parameters that are float16 themselves, by `.half()`, `.to(torch.float16)` or
    `dtype=torch.float16`, get float16 gradients, and `unscale_` (yours, or the one inside `scaler.step`) raises "Attempting to
    unscale FP16 gradients".

Why it matters
    Loss scaling is made for float32 weights: in float16 a division by the scale rounds small gradients to zero again, and a
    small update vanishes beside a large weight.

Fix
    Leave the parameters that the optimizer holds in float32; `torch.autocast` casts for the forward pass. Frozen parameters may
    stay float16.

References
    https://docs.pytorch.org/docs/stable/amp.html#gradient-scaling
    https://docs.pytorch.org/docs/stable/notes/amp_examples.html
    https://github.com/pytorch/pytorch/issues/74739
"""

from __future__ import annotations

from collections.abc import Iterator

from ..flow import leads
from ..recorder.recording import Recording
from ..report.finding import Finding
from ._words import build, crowd, names, optimizer, place, sentence, subject, verb


def find(recording: Recording) -> Iterator[Finding]:
    """One finding for the place that made trainable parameters float16."""
    for lead in leads(recording, "fp16-unscale"):
        what = subject(lead, "this line")
        is_are, gradient = verb(lead.affected, "is", "are"), verb(lead.affected, "its gradient is", "their gradients are")
        if lead.details.get("cast"):
            title = f"{what} casts {crowd(lead.affected)} to float16, and GradScaler unscales float32 gradients only"
            fix = f"Remove the cast: keep what {optimizer(lead)} holds in float32, and let `torch.autocast` cast for the forward pass."
        elif "set_default_dtype" in lead.expression:
            title = f"{what} makes {crowd(lead.affected)} float16, and GradScaler unscales float32 gradients only"
            fix = "Leave the default dtype at float32, and let `torch.autocast` cast for the forward pass."
        else:
            title = f"{what} makes {crowd(lead.affected)} in float16, and GradScaler unscales float32 gradients only"
            fix = f"Make them with `dtype=torch.float32`, or add `.float()` before {optimizer(lead)} is built; `torch.autocast` casts them "
            fix += "for the forward pass."
        yield build(
            lead,
            title=title,
            explanation=f"{sentence(names(lead.affected))} {is_are} float16{place(lead)}, so {gradient} too, and `unscale_` raises: "
            "divided by the scale in float16, small gradients would round to zero.",
            fix=f"{fix} Frozen parameters may stay float16.",
        )


def bad() -> None:
    """The model is cast by hand, and autocast and GradScaler are used on top of it."""
    import torch
    from torch import nn

    torch.manual_seed(0)

    class Tagger(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(30, 8)
            self.head = nn.Linear(8, 4)

        def forward(self, tokens):
            return self.head(torch.tanh(self.embed(tokens)))

    model = Tagger().half()  # <- here
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    scaler = torch.amp.GradScaler("cpu", init_scale=128.0)
    tokens, tags = torch.arange(30).view(6, 5), torch.randint(0, 4, (6, 5))
    for _ in range(3):
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.float16):
            logits = model(tokens)
        loss = nn.functional.cross_entropy(logits.float().flatten(0, 1), tags.flatten())
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()


def good() -> None:
    """The weights stay float32, and autocast runs the forward pass in float16."""
    import torch
    from torch import nn

    torch.manual_seed(0)

    class Tagger(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(30, 8)
            self.head = nn.Linear(8, 4)

        def forward(self, tokens):
            return self.head(torch.tanh(self.embed(tokens)))

    model = Tagger()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    scaler = torch.amp.GradScaler("cpu", init_scale=128.0)
    tokens, tags = torch.arange(30).view(6, 5), torch.randint(0, 4, (6, 5))
    for _ in range(3):
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.float16):
            logits = model(tokens)
        loss = nn.functional.cross_entropy(logits.float().flatten(0, 1), tags.flatten())
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
