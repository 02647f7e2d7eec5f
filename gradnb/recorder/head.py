"""What stands right before a loss: constant factors, the direction each quantity is pushed, and how much of it is right already.

Only the nodes near the loss are looked at, and hooks are set on the first backward of a training line only.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from .readable import readable

if TYPE_CHECKING:
    from .recorder import Recorder

NEAR = 160  # nodes from the loss on
ELEMENTS = 4_000_000  # of a classification's scores, above which it is not read
_THROUGH = ("ToCopyBackward", "SqueezeBackward", "ViewBackward", "UnsafeViewBackward", "ReshapeAliasBackward", "UnsqueezeBackward")


@dataclass(slots=True)
class Share:
    """A mean negative log-likelihood, split into the elements that are already right and those that are wrong."""

    sequence: int  # of its autograd node
    elements: int
    right: int
    loss_right: float  # mean loss of the right ones, in nats
    loss_wrong: float
    never: int = 0  # elements of classes none of whose members is right
    common: int = -1  # the most frequent class, and its elements
    common_count: int = 0
    classes: int = 0


@dataclass(slots=True)
class Head:
    """``signs`` maps an autograd node's sequence number to "+", "-", "0" or "±": the gradient that arrived there."""

    signs: dict[int, str] = field(default_factory=dict)
    shares: list[Share] = field(default_factory=list)


def factors(root: Any) -> tuple[tuple[int, str, float], ...]:
    """The constants that the loss was multiplied with or divided by, from the outside in."""
    found: list[tuple[int, str, float]] = []
    node = root
    for _ in range(12):
        if node is None:
            break
        name = node.name()
        below = [n for n, _ in node.next_functions]
        if name.startswith(("MulBackward", "DivBackward")) and len(below) == 2:
            side = 1 if below[1] is None else 0 if below[0] is None else -1
            if side < 0:
                break
            constant = _saved(node, "_saved_other" if side else "_saved_self")
            if constant is not None:
                found.append((node._sequence_nr(), "div" if name.startswith("Div") else "mul", constant))
            node = below[1 - side]
        elif name.startswith(_THROUGH) or name.startswith(("AddBackward", "SubBackward")):
            alive = [n for n in below if n is not None]
            node = alive[0] if len(alive) == 1 else None
        else:
            break
    return tuple(found)


def _saved(node: Any, name: str) -> float | None:
    try:
        value = getattr(node, name)
    except (RuntimeError, AttributeError):
        return None
    if isinstance(value, torch.Tensor) and readable(value) and value.numel() == 1 and value.device.type == "cpu" and not value.is_complex():
        return float(value)  # reading it from another device would make the host wait
    return None


class HeadScan:
    """Looks at the nodes near a loss, before and during its first backward."""

    def __init__(self, recorder: "Recorder", head: Head):
        self.recorder, self.head = recorder, head
        self._handles: list[Any] = []

    def attach(self, losses: list[torch.Tensor], *, signs: bool) -> None:
        todo = [t.grad_fn for t in losses if t.grad_fn is not None]
        seen = set(todo)
        for node in todo:  # breadth first: grows while it is read
            name = node.name()
            if name.startswith(("NllLossBackward", "NllLoss2DBackward")):
                share = _share(node)
                if share is not None:
                    self.head.shares.append(share)
            if signs and not hasattr(node, "variable"):
                self._handles.append(node.register_prehook(self._hook(node._sequence_nr())))
            for below, _ in node.next_functions:
                if below is not None and below not in seen and len(seen) < NEAR:
                    seen.add(below)
                    todo.append(below)

    def _hook(self, sequence: int) -> Any:
        recorder, signs = self.recorder, self.head.signs

        def hook(grads: Any) -> None:
            with recorder.guard(), torch.no_grad():
                signs[sequence] = _sign(next((g for g in grads if isinstance(g, torch.Tensor)), None))

        return hook

    def finish(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = []


def _sign(grad: torch.Tensor | None) -> str:
    if grad is None or not readable(grad) or grad.layout != torch.strided or grad.is_complex() or not grad.numel():
        return "0"
    low, high = torch.aminmax(grad)
    below, above = bool(low < 0), bool(high > 0)
    return "±" if below and above else "-" if below else "+" if above else "0"


@torch.no_grad()
def _share(node: Any) -> Share | None:
    """Read what the loss saved for backward: log-probabilities and targets."""
    try:
        scores, target, weight, reduction = node._saved_self, node._saved_target, node._saved_weight, node._saved_reduction
        ignored = node._saved_ignore_index
    except (RuntimeError, AttributeError):
        return None
    if weight is not None or reduction != 1 or scores.dim() < 2 or scores.numel() > ELEMENTS or not readable(scores):
        return None
    scores, target = scores.detach(), target.detach()
    keep = target != ignored
    valid = target.clamp(0, scores.shape[1] - 1)
    nll = -scores.gather(1, valid.unsqueeze(1)).squeeze(1)
    hit = (scores.argmax(dim=1) == target)[keep]
    nll, labels = nll[keep].float(), valid[keep]
    right = int(hit.sum())
    if not len(hit):
        return None
    members = torch.bincount(labels)
    hits = torch.bincount(labels[hit], minlength=len(members))
    never = int(members[(members > 2) & (hits == 0)].sum())
    mean = lambda values: float(values.mean()) if len(values) else 0.0  # noqa: E731
    common = int(members.argmax())
    return Share(
        node._sequence_nr(), len(hit), right, mean(nll[hit]), mean(nll[~hit]), never, common, int(members[common]), scores.shape[1]
    )
