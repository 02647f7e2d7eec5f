"""Terms of the loss that are constants for autograd although they were computed from parameters that train."""

from __future__ import annotations

import ast

from ..recorder.recording import Op, Recording
from .cuts import graph_of, group_cuts, loss_text
from .graph import Cone, Edge, Graph
from .lead import Lead
from .path import gradient_path

_ADDING = set("add sub rsub add_ sub_ __add__ __radd__ __sub__ __rsub__ __iadd__ __isub__".split())
_PASSING = set(
    "neg __neg__ mean sum stack cat squeeze unsqueeze view reshape to float double clone contiguous __getitem__ flatten nanmean nansum "
    "positive __pos__ type as_tensor".split()
)
_SCALING = set("mul div true_divide __mul__ __rmul__ __truediv__ mul_ div_ __imul__ __itruediv__ __rdiv__ multiply divide".split())


def inert(recording: Recording) -> list[Lead]:
    """One lead for each dead term, at the cut that killed it."""
    graph = graph_of(recording)
    found: dict[tuple, Lead] = {}
    for position, event in enumerate(recording.events):
        if event.kind != "backward" or not event.ok or not event.losses:
            continue
        trained = _next_trained(recording, position)
        if not trained:
            continue
        cone = graph.cone(event.losses)
        if not cone.fed():
            continue
        for term, edge in _terms(graph, cone, event.losses[0]):
            lead = _lead(graph, cone, term, edge, trained)
            if lead is not None and lead.location is not None:
                found.setdefault((lead.location.filename, lead.location.line), lead)
    known = {(lead.location.filename, lead.location.line) for lead in recording.memo.get("cut leads", []) if lead.location}
    return [lead for key, lead in found.items() if key not in known]


def _next_trained(recording: Recording, position: int) -> int:
    """Bit set of what the next optimizer steps are about to move, until the next backward after them."""
    found, stepped = 0, False
    for event in recording.events[position + 1 :]:
        if event.kind == "step" and event.optimizer is not None:
            stepped = True
            for group in recording.optimizers[event.optimizer].groups:
                for number in group:
                    if recording.parameters[number].ever_trainable:
                        found |= 1 << number
        elif event.kind == "backward" and stepped:
            break
    return found


def _terms(graph: Graph, cone: Cone, loss: int) -> list[tuple[int, Edge | None]]:
    """The dead addends of a loss: values without gradient, each with the edge by which it was added."""
    recording, values = graph.recording, graph.recording.values
    dead: list[tuple[int, Edge | None]] = []
    living: set[int] = set()
    todo: list[tuple[int, Edge | None]] = [(loss, None)]
    seen: set[int] = set()
    while todo:
        value, by = todo.pop()
        if value in seen or len(seen) > 400:
            continue
        seen.add(value)
        if by is not None and recording.ops[by.op].kind == "escape":
            dead.append((value, by))  # it arrived as a number: what it was computed from does not matter any more
            continue
        if not cone.live.get(value, 0):
            if by is not None and cone.data.get(value, 0):
                dead.append((value, by))
            continue
        made = values[value].op
        op = recording.ops[made] if made >= 0 else None
        if op is None:
            living.add(value)
            continue
        edges = cone.edges.get(value, [])
        if op.name in _ADDING:
            if not _scalar(values[value].shape):
                living.add(value)  # a constant inside a sum over samples (an old log-probability, a baseline) is no term of the loss
                continue
            todo.extend((e.source, e) for e in edges)
        elif op.name in _PASSING and op.kind in ("op", "inplace"):
            todo.extend((e.source, by if op.name not in ("stack", "cat") else e) for e in edges if recording.ops[e.op].kind != "escape")
        elif op.name in _SCALING:
            factors = [e for e in edges if cone.data.get(e.source, 0)]
            if len(factors) == 1 and recording.ops[factors[0].op].kind != "escape":
                todo.append((factors[0].source, by))
            else:
                living.add(value)
        else:
            living.add(value)
    return [(value, by) for value, by in dead if not _straight_through(cone, value, living, by)]


def _scalar(shape: tuple[int, ...] | None) -> bool:
    return all(size == 1 for size in shape or ())


def _straight_through(cone: Cone, value: int, living: set[int], by: Edge | None) -> bool:
    """``a + (b - a).detach()``: the dead term is made from a living one on purpose."""
    below = cone.upstream(value, carrying=False)
    values, ops = cone.graph.recording.values, cone.graph.recording.ops
    # the scalars that living terms are products of: a value's bookkeeping copy is often taken off again
    parts = {
        v
        for term in living
        if values[term].op >= 0
        for v in ops[values[term].op].inputs
        if _scalar(values[v].shape) and cone.live.get(v, 0)
    }
    return bool(below & (living | parts))


def _lead(graph: Graph, cone: Cone, term: int, by: Edge | None, trained: int) -> Lead | None:
    recording = graph.recording
    part = graph.cone((term,)) if by is None or recording.ops[by.op].kind != "escape" else cone
    mask = cone.data.get(term, 0) & trained
    if not mask:
        return None
    if by is not None and recording.ops[by.op].kind == "escape":
        # the term left torch as a number: that is the cut, unless one came before it
        return _of_number(graph, cone, term, by, mask)
    groups = group_cuts(graph, part, mask)
    if not groups:
        return None
    best = max(groups, key=lambda g: ((g.starved & mask).bit_count(), g.mends, g.depth))
    # of several in one line, one that alone ends a gradient: what a no_grad baseline meets further on had none to lose
    cut = next((c for c in best.cuts if "switched" not in c.details), best.first)
    if by is not None and _within_a_library(recording, cut.edge, by):
        return None
    # a penalty on gradients that were taken without a graph: what it does to the loss says more than where differentiation ends
    cause = "inert-term" if cut.cause == "not-twice-differentiable" else cut.cause
    lead = Lead(cause, recording.sites[cut.site], "warning", operation=cut.operation, inert=True, rank=50)
    lead.expression = graph.slicer.text(lead.location) if lead.location else ""
    lead.term = _text(graph, term, by)
    lead.details = {**cut.details, "loss": loss_text(graph, cone)}
    if by is not None:
        stack = recording.ops[by.op].stack
        if stack:
            lead.related.append((recording.sites[stack[0]], "the term is added to the loss here"))
    number = next(i for i in range(len(recording.parameters)) if (best.starved & mask) >> i & 1)
    lead.path = gradient_path(graph, part, cut.edge, number)
    return lead


def _within_a_library(recording: Recording, cut: Edge, added: Edge) -> bool:
    """One and the same call in the user's code makes the term, cuts it and adds it: what a library does with its own terms."""
    stack = recording.ops[added.op].stack
    return bool(stack) and cut.op != added.op and recording.ops[cut.op].stack == stack


def _of_number(graph: Graph, cone: Cone, term: int, by: Edge, mask: int) -> Lead | None:
    from .classify import classify

    recording = graph.recording
    cut = classify(graph, by)
    if cut is None or cut.site < 0 or not cone.live.get(term, 0) & mask:
        return None
    added = recording.values[by.target].op
    if added != by.op and added >= 0 and recording.ops[added].stack == recording.ops[by.op].stack:
        return None  # a library's own bookkeeping
    lead = Lead(cut.cause, recording.sites[cut.site], "warning", operation=cut.operation, inert=True, rank=50)
    lead.expression = graph.slicer.text(recording.sites[cut.site])
    lead.term = lead.expression
    lead.details = {**cut.details, "loss": loss_text(graph, cone)}
    return lead


def _text(graph: Graph, term: int, by: Edge | None) -> str:
    """The addend in the user's words: the operand of the ``+`` that it is, else what made it."""
    recording = graph.recording
    made = recording.values[term].op
    own: Op | None = recording.ops[made] if made >= 0 else None
    if by is not None and recording.ops[by.op].stack:
        found = graph.slicer.at(recording.sites[recording.ops[by.op].stack[0]])
        if found is not None and isinstance(found[2], ast.BinOp):
            inputs = recording.ops[by.op].inputs
            side = found[2].right if len(inputs) > 1 and inputs[-1] == term else found[2].left
            return found[0].segment(side, 50)
    return graph.text(made, 50) if own is not None else ""
