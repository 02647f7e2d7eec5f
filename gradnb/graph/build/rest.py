"""What a step's graph does not show, told with its numbers."""

from __future__ import annotations

from ...recorder.recording import Recording
from .gather import Gathered

_SAME = ("requires_grad_",)  # gives the tensor that it was given
_ARRIVED = ("flows", "zero", "nan", "inf")
NAMED = 4  # names in one note


def count_rest(recording: Recording, found: Gathered) -> None:
    """Notes on the operations of this step that are not drawn, and on what is drawn although it ran before."""
    r = found.round
    ops = range(r.start, min(r.end, len(recording.ops)))
    outside = [i for i in ops if i not in found.of_op and recording.ops[i].parent < 0 and recording.ops[i].name not in _SAME]
    making = sum(1 for i in outside if i in found.origins.making)
    if making:
        found.notes.append(f"+ {_operations(making)} that made parameters and buffers")
    rest = len(outside) - making
    if rest and r.events:
        found.notes.append(f"+ {_operations(rest)} that no loss of this step depends on")
    elif rest:
        found.notes.append(f"+ {_operations(rest)} that the results drawn here do not depend on")
    inner = sum(1 for i in ops if recording.ops[i].parent >= 0 and i not in found.of_op)
    if inner:
        found.notes.append(f"+ {_operations(inner)} inside custom autograd Functions, each drawn as one")
    before = sum(1 for i in found.of_op if i < r.start)
    if before:
        found.notes.append(
            f"{_operations(before)} drawn here ran before the optimizer step in front of this one: the gradient goes back there"
        )
    if found.earlier:
        noun = "tensor comes" if found.earlier == 1 else "tensors come"
        found.notes.append(f"{found.earlier} {noun} from an earlier step, whose operations are not drawn here")


def foreign(recording: Recording, found: Gathered) -> list[int]:
    """The nodes whose history autograd has and the recording has not: a gradient arrives, and no way goes on from there."""
    onward = {target for (_, target), edge in found.edges.items() if edge.kind == "flows"}
    return [
        number
        for number, node in enumerate(found.nodes)
        if node.kind in ("operation", "input")
        and node.state in _ARRIVED
        and number not in onward
        and number not in found.leaves
        and not (node.op >= 0 and recording.ops[node.op].kind in ("leaf", "factory"))
    ]


def tell_foreign(found: Gathered) -> None:
    """A note on those nodes."""
    names = [found.nodes[number].name or found.nodes[number].label for number in found.foreign]
    if names:
        noun, its = ("tensor has", "its") if len(names) == 1 else ("tensors have", "their")
        found.notes.append(
            f"{len(names)} {noun} a history that was not recorded ({some(names)}): made before the check, in another thread, inside "
            f"torch.func, scripted or compiled code, or by a backward with create_graph=True; {its} way to the parameters is not drawn"
        )


def tell_failure(recording: Recording, found: Gathered) -> None:
    """What blue means where a backward raised."""
    if any(not recording.events[event].ok and found.nodes[node].requires_grad for node, event, _ in found.losses if event >= 0):
        found.notes.append("the backward pass raised: blue shows the ways that its gradient would have taken")


def tell_norms(recording: Recording, found: Gathered) -> None:
    """What the norms of the parameters are of, where that is more than one backward pass."""
    r = found.round
    passes = sum(1 for i in r.events if recording.events[i].kind == "backward")
    between = {e.kind for e in recording.events[r.events[-1] + 1 : r.step]} if r.events and r.step >= 0 else set()
    changed = [word for kind, word in (("unscale", "after unscaling"), ("clip", "after clipping")) if kind in between]
    if passes > 1:
        changed = [f"summed over {passes} backward passes", *changed]
    if changed and r.step >= 0:
        found.notes.append(f"norms at parameters are of .grad as optimizer.step() found it: {', '.join(changed)}")
    elif changed:
        found.notes.append(f"norms at parameters are of .grad at the end: {', '.join(changed)}")


def some(names: list[str]) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def _operations(count: int) -> str:
    return f"{count} operation{'' if count == 1 else 's'}"
