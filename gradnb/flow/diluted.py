"""A mean that runs over elements which are right already, so that the wrong ones hardly count."""

from __future__ import annotations

from ..recorder.recording import Recording, Share
from .cuts import graph_of
from .lead import Lead

# From the field report on hard cells: at 85 % and more the wrong elements share less than a sixth of the weight.
RIGHT = 0.85
PADDING = 0.3
ELEMENTS = 200
APART = 20.0  # wrong elements lose this many times more than right ones: they are no borderline cases


def diluted(recording: Recording) -> list[Lead]:
    """A warning for each loss line whose recorded passes all show it."""
    lines: dict[tuple, list[Share]] = {}
    for event in recording.events:
        if event.kind == "backward" and event.ok:
            for share in event.shares:
                if share.op >= 0:
                    lines.setdefault(recording.ops[share.op].stack[:1], []).append(share)
    leads = []
    for stack, shares in lines.items():
        last = shares[-1]
        padded = all(_padded(recording, s) for s in shares)
        if not stack or not padded and (len(shares) < 2 or not all(_diluted(s) for s in shares) or not _stuck(shares)):
            continue
        lead = Lead("diluted-loss", recording.sites[stack[0]], "warning", rank=20)
        lead.expression = graph_of(recording).text(last.op)
        wrong = last.elements - last.right
        lead.details = {
            "elements": last.elements,
            "right": last.right,
            "loss_right": last.loss_right,
            "loss_wrong": last.loss_wrong,
            "share": wrong / last.elements,
            "never": last.never,
            "kind": "padding" if padded else "right",
            "padding": last.common if padded else -1,
            "padding_share": last.common_count / last.elements,
        }
        leads.append(lead)
    return leads


def _padded(recording: Recording, share: Share) -> bool:
    """Are many of the targets the padding of an embedding with the same vocabulary."""
    vocabulary = (share.common, share.classes) in recording.paddings
    return vocabulary and share.elements >= ELEMENTS and share.common_count >= PADDING * share.elements


def _diluted(share: Share) -> bool:
    """Nearly all right, the wrong ones far off, and most of them of classes that are never right."""
    wrong = share.elements - share.right
    return (
        share.elements >= ELEMENTS
        and share.right >= RIGHT * share.elements
        and wrong > 0
        and share.loss_wrong >= max(1.0, APART * share.loss_right)
        and 2 * share.never >= wrong
    )


def _stuck(shares: list[Share]) -> bool:
    """The loss of the wrong elements hardly falls over the recorded passes."""
    return shares[-1].loss_wrong > 0.8 * shares[0].loss_wrong
