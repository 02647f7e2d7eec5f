"""Where the gradient of starved parameters is lost: root causes first, echoes folded into them."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..recorder.recording import Event, Recording
from .classify import Cut, classify, hard, without_graph
from .graph import Cone, Edge, Graph
from .lead import Lead
from .path import gradient_path
from .starved import Hunger, hungry


@dataclass(slots=True)
class Group:
    """The cuts that one repair would mend together, and the parameters each of them starves."""

    cuts: list[Cut] = field(default_factory=list)
    starved: int = 0
    depth: int = 0  # values on the gradient's side of it
    indexed: bool = True  # data goes on only as an index or a mask
    taught: bool = True  # parameters behind it learn all the same, from another loss: a policy behind its sample
    mends: bool = True  # a gradient would come back if these cuts alone were gone

    @property
    def first(self) -> Cut:
        return self.cuts[0]


def graph_of(recording: Recording) -> Graph:
    if "graph" not in recording.memo:
        recording.memo["graph"] = Graph(recording)
    return recording.memo["graph"]


def fed_by(recording: Recording, events: list[Event]) -> int:
    """Bit set of the parameters that the gradient of some of these backward passes comes back to."""
    graph, found = graph_of(recording), 0
    for losses, inputs in dict.fromkeys((e.losses, e.inputs if e.kind == "backward" else ()) for e in events if e.losses):
        asked = [n for v in inputs if (n := recording.values[v].parameter) >= 0]
        found |= graph.cone(losses).fed() & (sum(1 << n for n in set(asked)) if inputs else -1)
    return found


def lost(recording: Recording) -> list[Lead]:
    """A lead for each root cut, with the parameters that starve because of it."""
    graph = graph_of(recording)
    leads: list[Lead] = []
    explained: set[int] = set()
    for hunger in hungry(recording):
        # what another loss of these rounds feeds was cleared or is fed in turn: no cut starves it
        rounds = [e for e in recording.events if e.kind == "backward" and e.ok and e.losses in hunger.losses]
        rounds = [e for e in rounds if _serves(recording, e, hunger)]
        fed = 0 if hunger.event is not None else fed_by(recording, rounds)
        todo = [n for n in hunger.parameters if n not in explained and not fed >> n & 1]
        for losses in hunger.losses[:6]:
            if not todo:
                break
            cone = graph.cone(losses)
            done = _explain(graph, cone, hunger, todo, leads)
            explained |= done
            todo = [n for n in todo if n not in done]
    recording.memo["explained"] = explained
    merged = _merge(leads)
    recording.memo["cut leads"] = merged
    return merged


def _serves(recording: Recording, event: Event, hunger: Hunger) -> bool:
    """Is a backward for the optimizer that starves, and not for another one alone, which passes by its parameters."""
    from .rounds import held, meant_for  # rounds asks this file what a backward feeds

    meant = meant_for(recording, event)
    return not meant or hunger.optimizer is None or bool(meant & held(recording, hunger.optimizer))


def _explain(graph: Graph, cone: Cone, hunger: Hunger, todo: list[int], leads: list[Lead]) -> set[int]:
    fed, reached = cone.fed(), cone.reached()
    mask = 0
    for number in todo:
        bit = 1 << number
        if reached & bit and not (fed & bit):
            mask |= bit
    done: set[int] = set()
    if not mask:
        return done
    groups = group_cuts(graph, cone, mask)
    while mask and groups:
        best = max(groups, key=lambda g: _weight(g, mask))
        covered = best.starved & mask
        if not covered:
            break
        numbers = [n for n in todo if covered >> n & 1]
        others = [g for g in groups if g is not best and g.starved & covered and (best.taught or not g.taught)]
        leads.append(cut_lead(graph, cone, hunger, best, numbers, others))
        done.update(numbers)
        mask &= ~covered
        groups.remove(best)
    return done


def _weight(group: Group, mask: int) -> tuple:
    covered = group.starved & mask
    return (
        bool(covered),
        covered.bit_count(),
        not group.taught,
        group.mends,
        group.depth,
        "switched" not in group.first.details,
        not group.indexed,
    )


def group_cuts(graph: Graph, cone: Cone, mask: int) -> list[Group]:
    """The lost edges that starve any parameter of the mask, grouped by what would repair them."""
    groups: dict[tuple, Group] = {}
    sources: dict[tuple, set[int]] = {}
    others = cone.fed() & ~mask
    shared: set[tuple] = set()  # regions that cut parameters off which learn all the same: a rollout, switched off on purpose
    for edge in cone.cuts():
        starved = cone.live.get(edge.source, 0) & mask
        if not starved:
            if graph.recording.ops[edge.op].region >= 0 and cone.live[edge.source] & others:
                cut = classify(graph, edge)
                shared.update([cut.key] if cut is not None else [])
            continue
        cut = classify(graph, edge)
        if cut is None or cut.site < 0:
            continue
        cut = _end_of_the_line(graph, cone, cut)
        group = groups.setdefault(cut.key, Group())
        group.cuts.append(cut)
        group.starved |= starved
        group.taught = group.taught and starved != cone.live[edge.source]
        group.indexed = group.indexed and (edge.chooses or _only_indexes(cone, edge.target))
        sources.setdefault(cut.key, set()).add(edge.source)
    for key, group in groups.items():
        above: set[int] = set()
        for source in sources[key]:
            above |= cone.upstream(source)
        group.depth = len(above)
        group.taught = group.taught or key in shared
        # a sampled action is no way to the loss where all that comes of it is cut again: its log-probability is
        group.mends = group.first.cause not in ("not-twice-differentiable", "nondifferentiable") or _arrives(graph, cone, group)
    return list(groups.values())


def _arrives(graph: Graph, cone: Cone, group: Group) -> bool:
    """Does any way from behind these cuts reach the loss uncut. What comes of them and is detached later on has another cause."""
    todo, seen = [cut.edge.target for cut in group.cuts], set[int]()
    while todo:
        value = todo.pop()
        if value in cone.losses:
            return True
        if value not in seen:
            seen.add(value)
            ways = ((edge.target, graph.recording.ops[edge.op]) for edge in cone.children.get(value, ()))
            todo.extend(v for v, op in ways if op.grad_enabled and op.kind not in ("cut", "escape", "factory", "leaf"))
    return False


def _only_indexes(cone: Cone, value: int) -> bool:
    """Does all that follows from a value merely choose positions."""
    todo, seen = [value], set()
    while todo:
        v = todo.pop()
        if v in seen:
            continue
        seen.add(v)
        if v in cone.losses:
            return False
        todo.extend(e.target for e in cone.children.get(v, ()) if not e.chooses)
        if len(seen) > 200:
            return False
    return True


def _end_of_the_line(graph: Graph, cone: Cone, cut: Cut) -> Cut:
    """``x.detach().numpy()`` is about NumPy: a switch that could be turned (detach, no_grad) gives way to a cut behind it
    that could not, where all the data goes through such cuts and taking the switch away would mend nothing."""
    if cut.cause not in ("detach", "data", "no-grad"):
        return cut
    todo, found = [cut.edge.target], list[Cut]()
    seen: set[int] = set()
    while todo:
        v = todo.pop(0)
        if v in seen:
            continue
        seen.add(v)
        if v in cone.losses or len(seen) > 500:
            return cut
        for edge in cone.children.get(v, ()):
            behind = hard(graph, edge)
            if behind is None:
                todo.append(edge.target)
            else:
                found.append(behind)
    if not found:
        return cut
    found[0].details["switched"] = (cut.site, cut.operation)
    found[0].details["behind"] = found[0].edge
    found[0].edge = cut.edge
    return found[0]


def cut_lead(graph: Graph, cone: Cone, hunger: Hunger, group: Group, numbers: list[int], others: list[Group]) -> Lead:
    """The lead for a group of cuts that starves the numbered parameters."""
    recording = graph.recording
    cut = min(group.cuts, key=lambda c: recording.sites[c.site].line)
    place = recording.sites[cut.site]
    if cut.cause == "not-twice-differentiable":
        cut = max(group.cuts, key=lambda c: c.edge.op)  # the vector of a Hessian-vector product is made earlier, and may be a constant
        place = without_graph(graph, cut.edge.op)
    names = [recording.parameters[n].name for n in numbers]
    if hunger.wanted:
        names = _origins(recording, cone, hunger) or names
    lead = Lead(cut.cause, place, operation=cut.operation, affected=names)
    lead.expression = _expression(graph, cut) if place == recording.sites[cut.site] else graph.slicer.text(place)
    lead.details = {**cut.details, "raised": hunger.event is not None, "loss": loss_text(graph, cone)}
    hidden = _workaround(graph, cone)
    if hidden:
        lead.details["hidden_by"] = hidden
    switched, behind = lead.details.pop("switched", None), lead.details.pop("behind", None)
    if switched is not None and switched[0] >= 0 and recording.sites[switched[0]].line != place.line:
        lead.related.append((recording.sites[switched[0]], f"gradients are already off here ({switched[1]})"))
    for other in sorted(others, key=lambda g: -g.depth)[:3]:
        lead.related.append((recording.sites[other.first.site], f"a second path is cut here too ({other.first.operation})"))
    later = _later(graph, cone, cut)
    lead.related.extend((recording.sites[c.site], f"cut again further on ({c.operation})") for c in later if c.key != cut.key)
    lead.path = gradient_path(graph, cone, cut.edge, numbers[0] if numbers else -1, behind)
    lead.rank = 100 + len(names)
    return lead


def _expression(graph: Graph, cut: Cut) -> str:
    location = graph.recording.sites[cut.site]
    op = graph.recording.ops[cut.edge.op]
    if op.stack and op.stack[0] == cut.site:
        return graph.slicer.text(location)
    return graph.slicer.text(location) if location.column is not None else location.code


def _origins(recording: Recording, cone: Cone, hunger: Hunger) -> list[str]:
    """The named parameters behind the leaves that autograd.grad() was asked for."""
    found = 0
    for value in hunger.wanted:
        found |= cone.data.get(value, 0)
    return [p.name for i, p in enumerate(recording.parameters) if found >> i & 1 and p.listed]


def loss_text(graph: Graph, cone: Cone) -> str:
    """The user's expression for the loss: what backward() was called on."""
    event = next((e for e in graph.recording.events if e.losses == cone.losses and e.stack), None)
    if event is None:
        return "loss"
    found = graph.slicer.at(graph.recording.sites[event.stack[0]])
    if found is None:
        return "loss"
    text = found[0].segment(found[2], 60)
    for ending in (".backward()",):
        if text.endswith(ending):
            return text[: -len(ending)]
    return text.split(".backward(")[0] if ".backward(" in text else "loss"


def _workaround(graph: Graph, cone: Cone) -> str:
    """A ``requires_grad`` that was switched on behind a cut, so that no error shows."""
    recording = graph.recording
    for value in reversed(cone.order):
        made = recording.values[value].op
        if made >= 0 and recording.ops[made].name == "requires_grad_" and recording.values[value].parameter < 0:
            stack = recording.ops[made].stack
            return recording.sites[stack[0]].code if stack and cone.data.get(value, 0) else ""
    return ""


def _later(graph: Graph, cone: Cone, cut: Cut) -> list[Cut]:
    """Further cuts behind the first one, on the way to the loss."""
    todo, seen = [cut.edge.target], set[int]()
    found: dict[tuple, Cut] = {}
    recording = graph.recording
    while todo and len(seen) < 400:
        v = todo.pop(0)
        if v in seen:
            continue
        seen.add(v)
        for edge in cone.children.get(v, ()):
            if recording.ops[edge.op].kind in ("cut", "escape", "factory", "leaf"):
                again = classify(graph, edge)
                if again is not None and again.site >= 0 and again.key != cut.key:
                    found.setdefault(again.key, again)
            todo.append(edge.target)
    return list(found.values())[:3]


def _merge(leads: list[Lead]) -> list[Lead]:
    """One lead for one place and cause, whatever optimizer or round it was seen in."""
    merged: dict[tuple, Lead] = {}
    for lead in leads:
        key = (lead.cause, lead.location.filename if lead.location else "", lead.location.line if lead.location else 0)
        known = merged.get(key)
        if known is None:
            merged[key] = lead
        else:
            known.affected = list(dict.fromkeys([*known.affected, *lead.affected]))
    return list(merged.values())


__all__ = ["Edge", "cut_lead", "graph_of", "group_cuts", "loss_text", "lost"]
