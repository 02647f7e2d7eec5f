"""The gradient, or the weights with it, grows by orders of magnitude.

What happens
    An operation that is repeated over layers or time steps multiplies by more than 1 each time, and the product explodes; or
    every step is larger than the one before, because the learning rate is too high for the scale of the data.

Why it matters
    One such step throws the weights away; a few more, and they are infinite or NaN.

Fix
    Keep the product near 1: normalise the factor (divide by its absolute sum), start the weights at the scale of
    `nn.init.orthogonal_`, put a normalisation between the layers. Lower the learning rate and scale the data where the steps
    are too large; `clip_grad_norm_` bounds what is left.

References
    https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.clip_grad_norm_.html
    https://docs.pytorch.org/docs/stable/nn.init.html
"""

from __future__ import annotations

from collections.abc import Iterator

from ..flow import leads
from ..flow.lead import Lead
from ..recorder.recording import Recording
from ..report.finding import Finding
from ._words import build, names, quote, sentence, subject, verb

FIXES = {
    "gate": "Bound the gate: its factor is above 1.",
    "weights": "Start the weights smaller: `nn.init.orthogonal_` or `nn.init.xavier_normal_` keeps the scale from step to step.",
    "factor": "Normalise the factor, so that its absolute values sum up to 1 at most, or bound it with a sigmoid or tanh.",
    "operation": "Normalise what this operation returns (divide a sum by its number of terms, LayerNorm), or scale its input down.",
    "point": "Keep the argument away from the point where the slope is so steep: add an epsilon of 1e-6 or more, or clamp before.",
    "diverged": "Lower the learning rate (ten times, until the loss falls) and scale inputs and targets to about 1.",
}


def find(recording: Recording) -> Iterator[Finding]:
    """One finding for the place where the gradient grows, or for the optimizer whose steps do."""
    for lead in leads(recording, "exploding"):
        title, why = _diverged(lead) if lead.details.get("kind") == "diverged" else _grown(lead)
        kind = str(lead.details.get("kind"))
        fix = FIXES.get(kind) or FIXES.get(str(lead.details.get("blame")), FIXES["operation"])
        yield build(lead, title=title, explanation=why, fix=fix)


def _grown(lead: Lead) -> tuple[str, str]:
    details = lead.details
    times = int(details.get("times") or 1)
    each, whole = float(details.get("each") or 0.0), float(details.get("whole") or 0.0)
    operation = quote(str(details.get("operation") or lead.operation or "the operation"))
    here = subject(lead, operation)
    norm = details.get("norm")
    spread = (
        f"{operation} multiplies it by about {each:.3g} each of the {times} times it runs"
        if times > 1
        else f"one {operation} multiplies it by {each:.1e}"
    )
    if details.get("blame") == "weights":
        title = f"the weights that {here} sets are too large: the gradient explodes over {times} steps"
    elif details.get("blame") == "factor":
        title = f"{here} gives a factor that is not normalised, and the gradient explodes over {times} products"
    else:
        title = f"the gradient explodes in {here}"
    get = verb(lead.affected, "gets", "get")
    size = f" of norm {norm:.1e}" if norm else ""
    why = (
        f"{sentence(names(lead.affected))} {get} a gradient{size}: from the loss to there it grows to {whole:.1e} of its size. "
        f"{sentence(spread)}."
    )
    return title, why


def _diverged(lead: Lead) -> tuple[str, str]:
    details = lead.details
    losses = ", ".join(f"{value:.3g}" for value in details.get("losses") or ())
    rate = dict(details.get("options") or {}).get("lr")
    title = f"every step of {subject(lead, 'the optimizer')} is larger than the one before, and the training diverges"
    why = f"The loss grows from step to step: {losses}." if losses else "The loss grows from step to step."
    if details.get("name"):
        why += f" {sentence(quote(str(details['name'])))} grew from norm {details['before']:.2g} to {details['after']:.2g}."
    if rate:
        why += f" The learning rate is {rate:g}."
    return title, why


def bad() -> None:
    """A graph layer sums over all neighbours, so the values grow twenty times in each of eight rounds."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    nodes = torch.randn(24, 8)
    links = (torch.rand(24, 24) < 0.9).float()

    class Messages(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.head = nn.Linear(8, 8), nn.Linear(8, 1)

        def forward(self, x):
            x = self.embed(x)
            for _ in range(8):
                x = links @ x  # <- here
            return self.head(x)

    model = Messages()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.001)
    target = torch.randn(24, 1)
    for _ in range(3):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(nodes), target)
        loss.backward()
        optimizer.step()


def good() -> None:
    """The mean over the neighbours keeps the scale."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    nodes = torch.randn(24, 8)
    links = (torch.rand(24, 24) < 0.9).float()
    links = links / links.sum(dim=1, keepdim=True)

    class Messages(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.head = nn.Linear(8, 8), nn.Linear(8, 1)

        def forward(self, x):
            x = self.embed(x)
            for _ in range(8):
                x = links @ x
            return self.head(x)

    model = Messages()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.001)
    target = torch.randn(24, 1)
    for _ in range(3):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(nodes), target)
        loss.backward()
        optimizer.step()
