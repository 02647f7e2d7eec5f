"""Gradients are switched off where the parameters do their work.

What happens
    Under `torch.no_grad()`, `torch.inference_mode()` or `torch.set_grad_enabled(False)` nothing is recorded. As a decorator
    it holds for the whole function, wherever the function is called from.

Why it matters
    What is computed inside is a constant for backward, so the parameters used there get no gradient. The forward pass, the
    loss and the printed numbers look the same as ever.

Fix
    Take the context or the decorator off the code that trains. Keep it for evaluation, targets and changes of weights by
    hand, or call an undecorated function from both.

References
    https://docs.pytorch.org/docs/stable/generated/torch.no_grad.html
    https://docs.pytorch.org/docs/stable/notes/autograd.html#locally-disabling-gradient-computation
    https://github.com/pytorch/pytorch/issues/103509
"""

from __future__ import annotations

from collections.abc import Iterator

from ..flow import leads
from ..recorder.recording import Recording
from ..report.finding import Finding
from ._words import after, build, consequence, cut_title, quote, subject

SPELLING = {
    "no_grad": "torch.no_grad()",
    "inference_mode": "torch.inference_mode()",
    "set_grad_enabled": "torch.set_grad_enabled(False)",
}


def find(recording: Recording) -> Iterator[Finding]:
    """One finding for each region without gradients that parameters pass on their only way to the loss."""
    for lead in leads(recording, "no-grad"):
        switch = SPELLING.get(lead.details.get("region", "no_grad"), "torch.no_grad()")
        library, function = lead.details.get("library"), lead.location.function if lead.location else ""
        if library:
            what = subject(lead, f"a call into {library}")
            how = f"{library} switches gradients off inside this call."
            fix = f"Use the differentiable call of {library} (`.rsample()` for `.sample()`), or compute the step outside of it."
        elif lead.details.get("decorator"):
            what = quote(f"@{switch}")
            named = f" `{function}`" if function and not function.startswith("<") else ""
            how = f"The decorator switches gradients off in the whole function{named}, for every caller."
            fix = f"Remove {what}, and write `with {switch}:` around the calls that only evaluate."
        else:
            what = quote(switch)
            how = f"Nothing inside `with {switch}:` is recorded for backward."
            fix = f"Move the computation that trains out of {what}; leave inside only targets, logging and changes of weights by hand."
        yield build(lead, title=cut_title(lead, what), explanation=f"{how} {consequence(lead)}", fix=fix + after(lead))


def bad() -> None:
    """The decorator came along when the encoding was copied out of the code for inference."""
    import torch
    from torch import nn

    torch.manual_seed(0)

    class Matcher(nn.Module):
        def __init__(self):
            super().__init__()
            self.text = nn.Sequential(nn.Embedding(20, 8), nn.Flatten(), nn.Linear(24, 6))
            self.image = nn.Linear(12, 6)

        @torch.no_grad()  # <- here
        def encode_text(self, tokens):
            return nn.functional.normalize(self.text(tokens), dim=1)

        def forward(self, tokens, pixels):
            return self.encode_text(tokens) @ nn.functional.normalize(self.image(pixels), dim=1).T

    model = Matcher()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    tokens, pixels = torch.arange(24).remainder(20).view(8, 3), torch.randn(8, 12)
    for _ in range(3):
        loss = nn.functional.cross_entropy(10 * model(tokens, pixels), torch.arange(8))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def good() -> None:
    """The encoder trains; the retrieval after training switches gradients off for itself."""
    import torch
    from torch import nn

    torch.manual_seed(0)

    class Matcher(nn.Module):
        def __init__(self):
            super().__init__()
            self.text = nn.Sequential(nn.Embedding(20, 8), nn.Flatten(), nn.Linear(24, 6))
            self.image = nn.Linear(12, 6)

        def encode_text(self, tokens):
            return nn.functional.normalize(self.text(tokens), dim=1)

        def forward(self, tokens, pixels):
            return self.encode_text(tokens) @ nn.functional.normalize(self.image(pixels), dim=1).T

    model = Matcher()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    tokens, pixels = torch.arange(24).remainder(20).view(8, 3), torch.randn(8, 12)
    for _ in range(3):
        loss = nn.functional.cross_entropy(10 * model(tokens, pixels), torch.arange(8))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        best = model(tokens, pixels).argmax(dim=1)
    print((best == torch.arange(8)).float().mean().item())
