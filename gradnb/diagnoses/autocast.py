"""Autocast covers the wrong part of the training step, or an operation does not bear its low precision.

What happens
    Inside `torch.autocast` matrix products and convolutions return float16 or bfloat16, and the code after them works on that.
    float16 ends at 65504, some losses refuse it, and the low-precision copies of the weights live until the outermost region ends.

Why it matters
    A constant such as `-1e9` raises. A region around the whole loop raises nothing: the optimizer moves the float32 weights, and
    the forward pass goes on with the copies from before the first step.

Fix
    `with torch.autocast(...)` in each iteration around the forward pass and the loss only; constants from `torch.finfo(x.dtype)`;
    `.float()` where an operation needs the range.

References
    https://docs.pytorch.org/docs/stable/amp.html#autocasting
    https://docs.pytorch.org/docs/stable/amp.html#prefer-binary-cross-entropy-with-logits-over-binary-cross-entropy
    https://github.com/pytorch/pytorch/pull/63552
"""

from __future__ import annotations

from collections.abc import Iterator

from ..flow import leads
from ..flow.lead import Lead
from ..recorder.recording import Recording
from ..report.finding import Finding
from ._words import build, place, quote, subject


def find(recording: Recording) -> Iterator[Finding]:
    """One finding for an operation that low precision broke, or for a training step inside the region."""
    for lead in leads(recording, "autocast"):
        title, why, fix = _told(lead, str(lead.details.get("dtype") or "low precision"))
        yield build(lead, title=title, explanation=why, fix=fix)


def _told(lead: Lead, dtype: str) -> tuple[str, str, str]:
    kind = lead.details.get("kind")
    if kind == "raised":
        operation, message = str(lead.details.get("operation") or "this operation"), str(lead.details.get("message") or "").rstrip(".")
        said = f" PyTorch says: {message}." if message else ""
        if "unsafe" in message:
            fix = "Use the loss that takes logits, `F.binary_cross_entropy_with_logits`, or compute it in float32 outside of the region."
        else:
            fix = "Take the constant from the dtype, as in `torch.finfo(x.dtype).min`, or go to float32 with `.float()` before this line."
        return (
            f"{subject(lead, quote(operation))} does not work in {dtype}, to which autocast has cast its input",
            f"Autocast runs the operation from which the tensor comes in {dtype}, and what follows{place(lead)} works on that.{said}",
            fix,
        )
    if kind == "step-inside":
        return (
            f"{subject(lead, '`step()`')} lies inside the autocast region: the forward passes keep the weights from before it",
            f"Autocast casts each weight to {dtype} once and keeps the copy until the region ends. Here{place(lead)} the region goes on "
            "over several steps: the optimizer moves the float32 weights, and the forward pass reads the old copies.",
            "Open `with torch.autocast` anew in each iteration, around the forward pass and the loss only.",
        )
    return (
        f"{subject(lead, '`backward()`')} runs inside the autocast region",
        f"Backward repeats the dtypes of the forward pass by itself. Under autocast to {dtype}{place(lead)} hooks, custom functions and "
        "gradients of gradients are cast a second time.",
        "End the `with torch.autocast` block behind the loss, and call backward outside of it.",
    )


def bad() -> None:
    """The attention mask uses a constant that float16 cannot hold."""
    import torch
    from torch import nn

    torch.manual_seed(0)

    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.query, self.key, self.value = nn.Linear(8, 8), nn.Linear(8, 8, bias=False), nn.Linear(8, 8)

        def forward(self, x, mask):
            scores = self.query(x) @ self.key(x).transpose(1, 2) / 8**0.5
            scores = scores.masked_fill(mask, -1e9)  # <- here
            return scores.softmax(dim=-1) @ self.value(x)

    model = Attention()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x = torch.randn(4, 6, 8)
    mask = torch.ones(6, 6, dtype=torch.bool).triu(1)
    for _ in range(3):
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.float16):
            loss = nn.functional.mse_loss(model(x, mask).float(), x)
        loss.backward()
        optimizer.step()


def good() -> None:
    """The smallest number of the scores' own dtype."""
    import torch
    from torch import nn

    torch.manual_seed(0)

    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.query, self.key, self.value = nn.Linear(8, 8), nn.Linear(8, 8, bias=False), nn.Linear(8, 8)

        def forward(self, x, mask):
            scores = self.query(x) @ self.key(x).transpose(1, 2) / 8**0.5
            scores = scores.masked_fill(mask, torch.finfo(scores.dtype).min)
            return scores.softmax(dim=-1) @ self.value(x)

    model = Attention()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x = torch.randn(4, 6, 8)
    mask = torch.ones(6, 6, dtype=torch.bool).triu(1)
    for _ in range(3):
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.float16):
            loss = nn.functional.mse_loss(model(x, mask).float(), x)
        loss.backward()
        optimizer.step()
