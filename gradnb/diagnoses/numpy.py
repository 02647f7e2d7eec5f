"""A round trip through NumPy loses the history of a tensor.

What happens
    `.numpy()` gives an array, and NumPy, SciPy or any other library outside of torch keeps no history. What comes back by
    `torch.from_numpy` or `torch.tensor` is a new constant.

Why it matters
    The parameters before the round trip get no gradient from what is computed there. `.detach().numpy()` is what the error
    message of `.numpy()` suggests, so the cut is written in good faith.

Fix
    Use the function that torch has for it (`torch.fft`, `torch.linalg`, `torch.special`, …), or write the step as a
    `torch.autograd.Function` with a backward of its own.

References
    https://docs.pytorch.org/docs/stable/generated/torch.Tensor.numpy.html
    https://docs.pytorch.org/docs/stable/notes/extending.html
    https://github.com/pytorch/pytorch/issues/54375
"""

from __future__ import annotations

from collections.abc import Iterator

from ..flow import leads
from ..recorder.recording import Recording
from ..report.finding import Finding
from ._words import after, build, consequence, cut_title, place, quote, subject


def find(recording: Recording) -> Iterator[Finding]:
    """One finding for each array that goes on into the loss."""
    for lead in leads(recording, "numpy"):
        into = lead.details.get("into")
        back = f" It comes back as a constant in {quote(str(into))}." if into else ""
        outside = lead.details.get("library") or "NumPy"
        yield build(
            lead,
            title=cut_title(lead, subject(lead, "the round trip through NumPy")),
            explanation=f"The value leaves torch for {outside}{place(lead)}, where no history is kept.{back} {consequence(lead)}",
            fix="Compute this step with torch functions on the tensor itself (`np.abs(x)` becomes `x.abs()`, `np.fft.rfft(x)` becomes "
            f"`torch.fft.rfft(x)`), or give it a backward in a `torch.autograd.Function`.{after(lead)}",
        )


def bad() -> None:
    """A spectral loss is computed with NumPy's FFT, and only the noise level still learns."""
    import numpy as np
    import torch
    from torch import nn

    torch.manual_seed(0)
    vocoder = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 32))
    log_gain = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.Adam([*vocoder.parameters(), log_gain], lr=0.01)

    def spectrum(signal):
        magnitude = np.abs(np.fft.rfft(signal.detach().numpy()))  # <- here
        return torch.from_numpy(magnitude).float()

    features, target = torch.randn(8, 4), torch.randn(8, 32)
    for _ in range(3):
        optimizer.zero_grad()
        loss = nn.functional.l1_loss(log_gain.exp() * spectrum(vocoder(features)), torch.fft.rfft(target).abs())
        loss.backward()
        optimizer.step()


def good() -> None:
    """torch has the same transform, with a gradient."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    vocoder = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 32))
    log_gain = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.Adam([*vocoder.parameters(), log_gain], lr=0.01)

    def spectrum(signal):
        return torch.fft.rfft(signal).abs()

    features, target = torch.randn(8, 4), torch.randn(8, 32)
    for _ in range(3):
        optimizer.zero_grad()
        loss = nn.functional.l1_loss(log_gain.exp() * spectrum(vocoder(features)), torch.fft.rfft(target).abs())
        loss.backward()
        optimizer.step()
