"""The last micro-batches of an epoch do not fill a group of gradient accumulation, and are handled wrongly.

What happens
    With a step after every k backward passes, an epoch whose length k does not divide leaves some over. They are dropped, or
    mixed into the next epoch, or divided by k although they are fewer, or a leftover block steps where nothing is left.

Why it matters
    The samples at the end never count, or count too little, or a used gradient is applied again. It shows only where the length
    of the data does not fit, so it comes and goes with the batch size.

Fix
    Step at `(i + 1) % k == 0 or i + 1 == len(loader)`, and divide each loss by the size of its own group.

References
    https://docs.pytorch.org/docs/stable/notes/amp_examples.html#gradient-accumulation
    https://github.com/huggingface/transformers/pull/39659
    https://github.com/Lightning-AI/pytorch-lightning/issues/4653
"""

from __future__ import annotations

from collections.abc import Iterator

from ..flow import leads
from ..flow.lead import Lead
from ..recorder.recording import Recording
from ..report.finding import Finding
from ._words import build, optimizer, place, quote, sentence, subject, variable


def find(recording: Recording) -> Iterator[Finding]:
    """One finding for each place where the leftover of an accumulation is lost or stepped wrongly."""
    for lead in leads(recording, "remainder"):
        title, why, fix = _told(lead)
        yield build(lead, title=title, explanation=why, fix=fix)


def _told(lead: Lead) -> tuple[str, str, str]:
    kind = lead.details.get("kind")
    count, size = int(lead.details.get("count") or 1), int(lead.details.get("size") or 2)
    passes = "1 backward pass" if count == 1 else f"{count} backward passes"
    if kind == "twice":
        return (
            f"{subject(lead, 'the leftover block')} steps on gradients that were applied already",
            f"{sentence(optimizer(lead))} has stepped on them, and neither backward nor `zero_grad()` came since{place(lead)}.",
            f"Step here only while backward passes wait, and call {quote(variable(lead) + '.zero_grad()')} after every step.",
        )
    if kind == "empty":
        return (
            f"{subject(lead, 'the leftover block')} steps without a gradient: nothing was left over",
            f"The gradients of {optimizer(lead)} are cleared, and no backward came since{place(lead)}. Where they are `None` the step "
            "moves nothing; where they are zeros, momentum and weight decay move the weights once more. Counters and schedulers go on.",
            "Run this block only while backward passes wait for a step: count them, and set the count to 0 after each step.",
        )
    if kind == "leaked":
        return (
            f"{passes} at the end of an epoch {'joins' if count == 1 else 'join'} the first step of the next one: "
            f"{subject(lead, 'the condition')} leaves {'it' if count == 1 else 'them'} over",
            f"The number of batches is no multiple of {size}{place(lead)}. The rest is neither stepped nor cleared, and the next "
            f"step of {optimizer(lead)} adds up {size + count} backward passes, some of them from older weights.",
            f"Step also after the last batch, as in `if (i + 1) % {size} == 0 or i + 1 == len(loader)`, and divide those losses by their "
            "own number.",
        )
    if kind == "divided":
        return (
            f"{subject(lead, 'this division')} divides by {size}, and the last group has only {count} "
            f"micro-batch{'' if count == 1 else 'es'}",
            f"The losses of a full group add up to their mean. The last step of {optimizer(lead)}{place(lead)} follows {passes}: its "
            f"gradient is too small by the factor {count}/{size}.",
            f"Divide by the size of the group: {size}, and the number of micro-batches that are left for the last one.",
        )
    return (
        f"{passes} at the end of an epoch never reach{'es' if count == 1 else ''} a step: {subject(lead, 'the condition')} leaves "
        f"{'it' if count == 1 else 'them'} over",
        f"{sentence(optimizer(lead))} steps after every {size} backward passes{place(lead)}, the number of batches is no multiple of "
        f"{size}, and no step comes for the rest.",
        f"Step also after the last batch, as in `if (i + 1) % {size} == 0 or i + 1 == len(loader)`, and divide those losses by their own "
        "number.",
    )


def bad() -> None:
    """Ten batches in groups of four: the last two are computed and thrown away."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(40, 8), nn.Flatten(), nn.Linear(48, 5))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    batches = [(torch.randint(0, 40, (8, 6)), torch.randint(0, 5, (8,))) for _ in range(10)]
    for _ in range(2):
        optimizer.zero_grad()
        for i, (tokens, labels) in enumerate(batches):
            loss = nn.functional.cross_entropy(model(tokens), labels)
            (loss / 4).backward()
            if (i + 1) % 4 == 0:  # <- here
                optimizer.step()
                optimizer.zero_grad()


def good() -> None:
    """The last group steps too, and its losses are divided by its own size."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(40, 8), nn.Flatten(), nn.Linear(48, 5))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    batches = [(torch.randint(0, 40, (8, 6)), torch.randint(0, 5, (8,))) for _ in range(10)]
    for _ in range(2):
        for start in range(0, len(batches), 4):
            group = batches[start : start + 4]
            optimizer.zero_grad()
            for tokens, labels in group:
                loss = nn.functional.cross_entropy(model(tokens), labels)
                (loss / len(group)).backward()
            optimizer.step()
