"""The loss is averaged over elements that are right already, so the wrong ones hardly count.

What happens
    A mean gives every element the same weight. Where nearly all of them are right from the start (background pixels, copied cells,
    padding, a majority class), the few wrong ones get a few percent of the gradient together.

Why it matters
    The loss is small and falls, the accuracy over all elements looks excellent, and what the model should learn does not improve.

Fix
    Average over the elements that matter, or weigh them: `weight=` for classes, a mask for regions, `ignore_index` for padding, a
    focal loss. Measure the rare ones apart.

References
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.cross_entropy.html
    https://docs.pytorch.org/vision/stable/generated/torchvision.ops.sigmoid_focal_loss.html
    https://arxiv.org/abs/1708.02002
"""

from __future__ import annotations

from collections.abc import Iterator

from ..flow import leads
from ..recorder.recording import Recording
from ..report.finding import Finding
from ._words import build, place, sentence, subject


def find(recording: Recording) -> Iterator[Finding]:
    """One finding for each mean that is diluted by elements that are right."""
    for lead in leads(recording, "diluted-loss"):
        details = lead.details
        elements, right, never = (int(details.get(name) or 0) for name in ("elements", "right", "never"))
        share, wrong = float(details.get("share") or 0.0), elements - right
        lost, kept = float(details.get("loss_wrong") or 0.0), float(details.get("loss_right") or 0.0)
        counted = f"{_percent(right / elements)} of the {elements}" if elements else "nearly all"
        why = f"{sentence(counted)} elements that the mean runs over{place(lead)} are right already"
        if wrong:
            why += f" (mean loss {kept:.2g}); the {wrong} wrong ones, with a mean loss of {lost:.1f}, get {_percent(share)} of the weight"
        if never:
            why += f", and {'all' if never >= wrong else never} of them belong to classes of which no element is right"
        yield build(
            lead,
            title=f"{counted} elements that {subject(lead, 'this loss')} averages over are right already: the wrong ones hardly count",
            explanation=f"{why}.",
            fix="Average over the elements that matter, or give them weight: `weight=` for rare classes, a mask for the changed region, "
            "a focal loss. Watch the accuracy on them, not on all.",
        )


def _percent(part: float) -> str:
    """A share in percent that never rounds to all or nothing."""
    percent = 100 * part
    return f"{percent:.0f} %" if 1 <= percent <= 99 else f"{percent:.1f} %"


def bad() -> None:
    """Names are rare among the words of a text, and the tagger starts out with "no name" for all."""
    import torch
    from torch import nn

    torch.manual_seed(0)

    class Tagger(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(50, 12)
            self.head = nn.Linear(12, 4)
            nn.init.constant_(self.head.bias[0], 8.0)

        def forward(self, words):
            return self.head(self.embed(words))

    def tag_loss(scores, tags):
        return nn.functional.cross_entropy(scores.flatten(0, 1), tags.flatten())  # <- here

    model = Tagger()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    words = torch.randint(0, 50, (16, 40))
    tags = (words == 7).long() * 3
    for _ in range(4):
        loss = tag_loss(model(words), tags)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def good() -> None:
    """The rare tag gets the weight that its share takes away."""
    import torch
    from torch import nn

    torch.manual_seed(0)

    class Tagger(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(50, 12)
            self.head = nn.Linear(12, 4)
            nn.init.constant_(self.head.bias[0], 8.0)

        def forward(self, words):
            return self.head(self.embed(words))

    def tag_loss(scores, tags):
        share = torch.bincount(tags.flatten(), minlength=4) / tags.numel()
        return nn.functional.cross_entropy(scores.flatten(0, 1), tags.flatten(), weight=1 / share.clamp(min=0.01))

    model = Tagger()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    words = torch.randint(0, 50, (16, 40))
    tags = (words == 7).long() * 3
    for _ in range(4):
        loss = tag_loss(model(words), tags)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
