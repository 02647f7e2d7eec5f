"""What the gradient did at each node and edge of a gathered step: it flowed, was zero, never arrived, or was lost."""

from __future__ import annotations

import math
from collections.abc import Callable

from ...recorder.recording import Profile, Recording
from .dropped import hit
from .gather import Gathered
from .parameters import drop_unfed, give_parameters
from .rest import foreign


def give_states(recording: Recording, found: Gathered, cut: set[tuple[int, int]]) -> None:
    """Set ``state`` of the nodes and ``kind`` of the edges; ``cut`` are the edges on which a finding says the gradient is lost."""
    order = sorted(range(len(found.nodes)), key=lambda n: found.nodes[n].order)
    into: dict[int, list[int]] = {}
    out: dict[int, list[int]] = {}
    for source, target in found.edges:
        into.setdefault(target, []).append(source)
        out.setdefault(source, []).append(target)
    fed = _fed(recording, found, into, out)
    if _ends_unseen(recording, found, into, fed):  # the gradient went on through code that was not recorded
        fed |= _along([*hit(recording, found)], into, lambda at, other: found.carries[other, at])
    fed -= drop_unfed(recording, found, fed)
    live = _live(found, order, into)
    waiting = _waiting(found, cut, order, into, live)
    lost = _lost(found, cut, out, fed, live)
    for number, node in enumerate(found.nodes):
        if node.kind == "parameter":
            continue
        if number in fed:
            node.state = "flows"
        elif number in lost:
            node.state = "lost"
        elif number in waiting:
            node.state = "starved" if number in live else "lost"
    for key, edge in found.edges.items():
        source, target = key
        if found.carries[key] and target in fed and source in fed:
            edge.kind = "flows"
        elif key in cut or source in lost and not found.carries[key]:
            edge.kind, edge.cut = "lost", key in cut
        elif source in waiting and target in waiting:
            edge.kind = "starved" if found.carries[key] else "lost"
    found.foreign = foreign(recording, found)
    give_parameters(recording, found, fed, waiting)


def _fed(recording: Recording, found: Gathered, into: dict[int, list[int]], out: dict[int, list[int]]) -> set[int]:
    """The nodes that the gradient of some loss comes back to; of a pass that was asked for some inputs, those on the way to them."""
    fed: set[int] = set()
    for number, event, _ in found.losses:
        if not found.nodes[number].requires_grad:
            continue
        back = _along([number], into, lambda at, other: found.carries[other, at])
        inputs = recording.events[event].inputs if event >= 0 else ()
        if inputs:
            wanted = [node for v in inputs if (node := found.of(recording, v)) >= 0]
            back &= _along(wanted, out, lambda at, other: found.carries[at, other])
        fed |= back
    return fed


def _ends_unseen(recording: Recording, found: Gathered, into: dict[int, list[int]], fed: set[int]) -> bool:
    """Does the gradient reach a tensor that is no leaf, and whose history was not recorded."""
    for number in fed - found.leaves:
        node = found.nodes[number]
        made = recording.ops[node.op].kind if node.op >= 0 else ""
        if node.kind in ("operation", "input") and made not in ("leaf", "factory"):
            if not any(found.carries[source, number] for source in into.get(number, ())):
                return True
    return False


def _along(start: list[int], ways: dict[int, list[int]], carries: Callable[[int, int], bool]) -> set[int]:
    seen: set[int] = set()
    todo = list(start)
    while todo:
        node = todo.pop()
        if node not in seen:
            seen.add(node)
            todo.extend(other for other in ways.get(node, ()) if carries(node, other))
    return seen


def _live(found: Gathered, order: list[int], into: dict[int, list[int]]) -> set[int]:
    """The nodes with history that leads back to a trainable parameter (or another leaf that requires grad)."""
    live: set[int] = set()
    for number in order:
        node = found.nodes[number]
        source = node.kind in ("parameter", "input") and node.requires_grad
        if source or any(s in live and found.carries[s, number] for s in into.get(number, ())):
            live.add(number)
    return live


def _waiting(found: Gathered, cut: set[tuple[int, int]], order: list[int], into: dict[int, list[int]], live: set[int]) -> set[int]:
    """What stands behind a cut with history: the gradient would come back to it. Where no finding tells of a cut, nobody waits."""
    upstream = set(live)  # what data of a trainable parameter went into, with history or without
    for number in order:
        if any(s in upstream for s in into.get(number, ())):
            upstream.add(number)
    waiting: set[int] = set()
    todo = [source for source, _ in cut]
    while todo:
        node = todo.pop()
        if node not in waiting:
            waiting.add(node)
            # history may end before the cut that is told, as in x.detach().numpy()
            todo.extend(s for s in into.get(node, ()) if found.carries[s, node] or node not in live and s in upstream)
    return waiting


def _lost(found: Gathered, cut: set[tuple[int, int]], out: dict[int, list[int]], fed: set[int], live: set[int]) -> set[int]:
    """From each cut down to where its data joins what has history of its own, or ends."""
    lost: set[int] = set()
    todo = [target for _, target in cut]
    while todo:
        node = todo.pop()
        if node in lost or node in fed or node in live:
            continue
        lost.add(node)
        todo.extend(out.get(node, ()))
    return lost


def give_norms(recording: Recording, found: Gathered) -> None:
    """Gradient norms and autograd node names, from the backward passes of this step that were looked into."""
    profiles = [profile for profile in recording.profiles if profile.event in found.round.events]
    for profile in profiles:
        _from_profile(found, profile)
    if len(profiles) == len(found.round.events) == 1:
        _unread(found)


def _unread(found: Gathered) -> None:
    """A parameter whose .grad nobody read before it was cleared: of its only use the norm is known all the same."""
    uses: dict[int, list[float | None]] = {}
    for (source, _), edge in found.edges.items():
        if edge.kind == "flows":
            uses.setdefault(source, []).append(edge.norm)
    for number in found.of_parameter.values():
        node, norms = found.nodes[number], uses.get(number, [])
        if node.norm is None and node.state == "flows" and len(norms) == 1 and norms[0] is not None:
            _arrived(found, number, norms[0])


def _from_profile(found: Gathered, profile: Profile) -> None:
    newest: dict[int, int] = {}
    for stage in profile.stages:
        node = found.of_op.get(stage.op, -1)
        if node >= 0 and stage.sequence >= newest.get(node, -1) and stage.parameter < 0:
            newest[node] = stage.sequence
            found.nodes[node].grad_fn = stage.node
            _arrived(found, node, stage.came)
    along: dict[tuple[int, int], float] = {}
    for stage in profile.stages:
        target = found.of_op.get(stage.op, -1)
        for (other, _), went in zip(stage.edges, stage.went):
            if other < 0 or target < 0 or went < 0:
                continue
            behind = profile.stages[other]
            source = found.of_parameter.get(behind.parameter, -1) if behind.parameter >= 0 else found.of_op.get(behind.op, -1)
            if source >= 0 and source != target:
                along[source, target] = math.hypot(along.get((source, target), 0.0), went)
    for key, norm in along.items():
        if key in found.edges:
            found.edges[key].norm = norm


def _arrived(found: Gathered, number: int, came: float) -> None:
    node = found.nodes[number]
    if came < 0 or node.state != "flows":
        return
    node.norm = came
    node.state = "zero" if came == 0 else "nan" if math.isnan(came) else "inf" if math.isinf(came) else "flows"
