"""Terms that enter a loss with the wrong sign, told by the direction in which backward pushed them."""

from __future__ import annotations

import ast
import re

from ..recorder.recording import Event, Recording
from .cuts import graph_of
from .graph import Cone
from .lead import Lead
from .rounds import feeds, held
from .terms import ERRORS, FLIPPED, SUBTRACT, Term, joins, scored, spread, straight, terms, way

_GAIN = re.compile(r"reward|return|advantage|\badv|gae\b|score", re.IGNORECASE)


def sign(recording: Recording) -> list[Lead]:
    """At most one lead for each training line."""
    from .adversaries import adversaries

    leads = []
    for event in recording.events:
        if event.kind != "backward" or not event.signs or not event.losses or not event.ok:
            continue
        cone = graph_of(recording).cone(event.losses)
        stepped = [i for i, o in enumerate(recording.optimizers) if o.steps and feeds(recording, event) & held(recording, i)]
        if not stepped:
            continue
        for find in (_entropy, _own_samples, _policy, _likelihood, _divergence, _gaussian_divergence, _cosine, _error):
            lead = find(recording, event, cone)
            if lead is not None:
                leads.append(lead)
                break
    leads.extend(adversaries(recording))
    return leads


def entry(recording: Recording, event: Event, ops: list[int], start: int) -> int:
    """Where a term enters the wrong way: the op that turns its direction on the way to the loss, else the sum where it meets the others."""
    for index in ops:
        op = recording.ops[index]
        before = [event.signs.get(recording.values[v].op) for v in op.inputs if recording.values[v].op in event.signs]
        if event.signs.get(index) == "+" and "-" in before and op.name in (*SUBTRACT, *FLIPPED, "neg", "__neg__", "mul", "__mul__", "__rmul__"):
            return index
    return joins(recording, ops, start)


def make(recording: Recording, kind: str, op: int, term: str, rank: float = 40) -> Lead | None:
    """The lead for a term that enters at an op."""
    stack = recording.ops[op].stack if op >= 0 else ()
    if not stack:
        return None
    lead = Lead("sign", recording.sites[stack[0]], rank=rank)
    lead.expression = graph_of(recording).text(op)
    lead.details = {"kind": kind, "term": term}
    return lead


def _text(recording: Recording, op: int) -> str:
    return graph_of(recording).text(op, 60)


def _of(recording: Recording, cone: Cone, kind: str) -> list[Term]:
    return [t for t in terms(recording, cone) if t.kind == kind]


# -- policies ------------------------------------------------------------------------------------------------------------------


def _is_policy(recording: Recording, cone: Cone) -> bool:
    """Does the loss weigh log-probabilities with one constant a sample, as policy gradients do."""
    return any(scored(recording, cone, t.value) for t in _of(recording, cone, "log_prob"))


def _entropy(recording: Recording, event: Event, cone: Cone) -> Lead | None:
    """An entropy that is minimised beside a policy gradient: a bonus with the wrong sign."""
    for term in _of(recording, cone, "entropy"):
        if event.signs.get(term.op) == "+" and _is_policy(recording, cone):
            ops = way(cone, term.value)
            return make(recording, "entropy", joins(recording, ops, term.value), _text(recording, term.op)) if ops else None
    return None


def _own_samples(recording: Recording, event: Event, cone: Cone) -> Lead | None:
    """Beside the policy gradient stands minus the mean log-probability of the same samples, an estimate of the entropy."""
    for term in _of(recording, cone, "log_prob"):
        if not scored(recording, cone, term.value):
            continue
        value = spread(recording, cone, term.value)
        for edge in cone.children.get(value, ()):
            ops = [edge.op, *way(cone, edge.target)]
            if not edge.carries or not straight(recording, cone, ops) or scored(recording, cone, edge.target):
                continue
            direction = {"+": 1, "-": -1}.get(event.signs.get(edge.op, ""), 0) * _slope(recording, edge.op, value)
            weighed = any(_many(recording, v) for v in recording.ops[edge.op].inputs if v != value)
            if direction < 0 and not weighed:
                return make(recording, "log-prob", joins(recording, ops, value), _text(recording, term.op))
    return None


def _many(recording: Recording, value: int) -> bool:
    return any(size > 1 for size in recording.values[value].shape or ())


def _slope(recording: Recording, op: int, value: int) -> int:
    """The sign of an operation's derivative with respect to one operand, read from its name and its source."""
    made = recording.ops[op]
    if made.name in ("neg", "__neg__", "rsub", "__rsub__"):
        return -1
    if made.name in ("sub", "__sub__", "subtract") and len(made.inputs) > 1 and made.inputs[1] == value and made.inputs[0] != value:
        return -1
    if made.name in ("mul", "__mul__", "__rmul__", "div", "__truediv__") and made.stack:
        found = graph_of(recording).slicer.at(recording.sites[made.stack[0]])
        if found is not None and isinstance(found[2], ast.BinOp):
            sides = (found[2].left, found[2].right)
            return -1 if any(isinstance(s, ast.UnaryOp) and isinstance(s.op, ast.USub) for s in sides) else 1
    return 1


def _policy(recording: Recording, event: Event, cone: Cone) -> Lead | None:
    """PPO's pessimistic minimum, or log-probability times reward, is minimised."""
    for value in cone.order:
        made = recording.values[value].op
        if made < 0 or recording.ops[made].name not in ("min", "minimum") or event.signs.get(made) != "+":
            continue
        op = recording.ops[made]
        live = [v for v in op.inputs if recording.values[v].requires_grad]
        if len(live) == 2 and all(_follows(recording, cone, v, "exp") for v in live) and any(_clipped(recording, cone, v) for v in live):
            return make(recording, "policy", made, _text(recording, made), 58)
    for term in _of(recording, cone, "log_prob"):
        for op, _ in (*scored(recording, cone, term.value), *_numbered(recording, cone, term.value)):
            if _uphill(event, cone, op, recording) and _GAIN.search(_words(recording, op)):
                if not _follows(recording, cone, recording.ops[op].outputs[0], "exp"):
                    return make(recording, "policy", op, _text(recording, op), 42)
    return None


def _uphill(event: Event, cone: Cone, op: int, recording: Recording) -> bool:
    """Is the product itself minimised, counting a minus that stands in front of its log-probability."""
    outputs = recording.ops[op].outputs
    if not outputs or event.signs.get(op) != "+" or not straight(recording, cone, way(cone, outputs[0])):
        return False
    text = _text(recording, op)
    negated = any(recording.ops[recording.values[v].op].name == "neg" for v in recording.ops[op].inputs if recording.values[v].op >= 0)
    return not negated and "-" not in re.sub(r"\([^()]*\)|dim=-1|\[[^\]]*\]", "", text)


def _numbered(recording: Recording, cone: Cone, value: int) -> list[tuple[int, int]]:
    """Products of a log-probability with a Python number, as an episode's returns are."""
    edges = [e for e in cone.children.get(spread(recording, cone, value), ()) if e.carries]
    return [(e.op, -1) for e in edges if recording.ops[e.op].name in ("mul", "__mul__", "__rmul__") and recording.ops[e.op].numbers]


def _words(recording: Recording, op: int) -> str:
    """The user's words for what a log-probability is multiplied with: its expression, and those that its value comes from."""
    slicer = graph_of(recording).slicer
    stack = recording.ops[op].stack
    found = slicer.at(recording.sites[stack[0]]) if stack else None
    if found is None or not isinstance(found[2], ast.BinOp):
        return _text(recording, op)
    sides = [side for side in (found[2].left, found[2].right) if not re.search(r"log|prob", ast.unparse(side)) and not isinstance(side, ast.Constant)]
    traced = slicer.trace([recording.sites[s] for s in stack], list(sides)) if sides else None
    words = [ast.unparse(side) for side in sides]
    return " ".join([*words, *(ast.unparse(e) for _, e in traced.expressions[:40])] if traced else words)


def _follows(recording: Recording, cone: Cone, value: int, name: str) -> bool:
    return any(recording.values[v].op >= 0 and recording.ops[recording.values[v].op].name == name for v in cone.upstream(value))


def _clipped(recording: Recording, cone: Cone, value: int) -> bool:
    return _follows(recording, cone, value, "clamp") or _follows(recording, cone, value, "clip")


# -- likelihoods and divergences -------------------------------------------------------------------------------------------------


def _likelihood(recording: Recording, event: Event, cone: Cone) -> Lead | None:
    """The log-probability of data, with no weight a sample, is minimised."""
    for term in _of(recording, cone, "log_prob"):
        if event.signs.get(term.op) != "+" or scored(recording, cone, term.value) or not straight(recording, cone, way(cone, term.value)):
            continue
        others = [t for t in terms(recording, cone) if t is not term]
        if others or _of_a_sample(recording, term):
            continue
        return make(recording, "likelihood", joins(recording, way(cone, term.value), term.value), _text(recording, term.op), 55)
    return None


def _of_a_sample(recording: Recording, term: Term) -> bool:
    """Is it the probability of something that a distribution drew, or that learns itself."""
    stack = recording.ops[term.op].stack
    for index in range(term.op, -1, -1):
        op = recording.ops[index]
        if op.stack != stack:
            break
        for value in op.inputs:
            made = recording.values[value].op
            source = recording.ops[made] if made >= 0 else None
            if source is not None and source.stack != stack and (source.via == "torch.distributions" and not source.grad_enabled):
                return True
            if source is not None and source.stack != stack and source.via == "torch.distributions" and source.name in ("add", "normal"):
                return True
    return False


def _divergence(recording: Recording, event: Event, cone: Cone) -> Lead | None:
    """A KL divergence enters with a minus while an error measure or a likelihood is fitted beside it."""
    for term in _of(recording, cone, "kl_divergence"):
        if event.signs.get(term.op) == "-" and not _is_policy(recording, cone):
            ops = way(cone, term.value)
            if ops and straight(recording, cone, ops) and _fitted(recording, event, cone):
                return make(recording, "kl", entry(recording, event, ops, term.value), _text(recording, term.op), 55)
    return None


def _fitted(recording: Recording, event: Event, cone: Cone) -> bool:
    return any(t.kind in ERRORS and event.signs.get(t.op) == "+" or t.kind == "log_prob" for t in terms(recording, cone))


def _gaussian_divergence(recording: Recording, event: Event, cone: Cone) -> Lead | None:
    """The closed form of KL(N(mu, s) ‖ N(0, 1)) with the wrong sign: mu² and exp(log s²) in one sum, both pushed up without bound."""
    for value in cone.order:
        made = recording.values[value].op
        if made < 0 or recording.ops[made].name != "exp" or event.signs.get(made) != "-":
            continue
        ops = way(cone, value)
        if not straight(recording, cone, ops):
            continue
        joined = joins(recording, ops, value)
        squares = [v for v in recording.ops[joined].inputs if v != value] if joined >= 0 else []
        near = {u for v in squares for u in (v, *_sources(cone, v))}
        squared = [
            recording.values[u].op for u in near if recording.values[u].op >= 0 and recording.ops[recording.values[u].op].name in ("pow", "square")
        ]
        if any(event.signs.get(op) == "-" for op in squared):
            return make(recording, "kl", entry(recording, event, ops, value), _text(recording, joined), 55)
    return None


def _sources(cone: Cone, value: int) -> list[int]:
    return [e.source for e in cone.edges.get(value, ()) if e.carries]


# -- similarities and error measures -----------------------------------------------------------------------------------------------


def _cosine(recording: Recording, event: Event, cone: Cone) -> Lead | None:
    """The similarity of two outputs of one encoder, pair by pair, is minimised, and no other pair is pulled together."""
    similar = [
        (v, recording.values[v].op)
        for v in cone.order
        if recording.values[v].op >= 0 and recording.ops[recording.values[v].op].name == "cosine_similarity"
    ]
    if any(event.signs.get(op) in ("-", "±") for _, op in similar):
        return None
    for value, op in similar:
        if event.signs.get(op) != "+" or not (_twins(recording, op) or _pupil(recording, op)):
            continue
        ops = way(cone, value)
        if straight(recording, cone, ops):
            return make(recording, "cosine", joins(recording, ops, value), _text(recording, op), 45)
    return None


def _twins(recording: Recording, op: int) -> bool:
    """Do both operands come out of the same module, called twice: from the same line, or by the same weights."""
    first, second = (recording.ops[op].inputs + (-1, -1))[:2]
    if first < 0 or second < 0 or recording.values[first].shape != recording.values[second].shape:
        return False
    made = []
    for value in (first, second):
        maker = recording.values[value].op
        for _ in range(4):
            if maker >= 0 and recording.ops[maker].name in ("detach", "normalize", "view", "reshape", "float", "to") and recording.ops[maker].inputs:
                maker = recording.values[recording.ops[maker].inputs[0]].op
        made.append(maker)
    a, b = made
    if a < 0 or b < 0 or a == b:
        return False
    one, two = recording.ops[a], recording.ops[b]
    if not one.module or one.module != two.module or one.name != two.name:
        return False
    weights = [{recording.values[v].parameter for v in op.inputs} - {-1} for op in (one, two)]
    return one.stack[:1] == two.stack[:1] or bool(weights[0] & weights[1])


def _pupil(recording: Recording, op: int) -> bool:
    """Is one operand constant and computed from the same input as the one that learns, as a teacher's answer is."""
    first, second = (recording.ops[op].inputs + (-1, -1))[:2]
    if first < 0 or second < 0 or recording.values[first].shape != recording.values[second].shape:
        return False
    if recording.values[first].requires_grad == recording.values[second].requires_grad:
        return False
    return bool(_inputs(recording, first) & _inputs(recording, second))


def _inputs(recording: Recording, value: int) -> set[int]:
    """The values that no operation made and that are no parameters, behind a value."""
    graph, todo, seen, found = graph_of(recording), [value], set[int](), set[int]()
    while todo and len(seen) < 400:
        v = todo.pop()
        if v in seen:
            continue
        seen.add(v)
        made = recording.values[v].op
        if (made < 0 or not recording.ops[made].inputs) and recording.values[v].parameter < 0 and not recording.values[v].requires_grad:
            found.add(v)
        todo.extend(e.source for e in graph.parents(v))
    return found


def _error(recording: Recording, event: Event, cone: Cone) -> Lead | None:
    """The only optimizer maximises an error measure: a minus in the loss, or ``maximize=True``."""
    if sum(bool(o.steps) for o in recording.optimizers) != 1 or any(e.kind == "grad" for e in recording.events):
        return None
    measures = [t for t in terms(recording, cone) if t.kind in ERRORS]
    index = next(i for i, o in enumerate(recording.optimizers) if o.steps)
    optimizer = recording.optimizers[index]
    if _attacks(recording, cone, held(recording, index)):
        return None
    if optimizer.maximize:
        if not measures or len(terms(recording, cone)) > len(measures) or any(event.signs.get(t.op) != "+" for t in measures):
            return None
        if not optimizer.stack:
            return None
        lead = Lead("sign", recording.sites[optimizer.stack[0]], rank=60)
        lead.expression = graph_of(recording).slicer.text(lead.location) if lead.location else ""
        lead.details = {"kind": "maximize", "term": _text(recording, measures[0].op), "operation": measures[0].kind}
        return lead
    if not measures or len(terms(recording, cone)) > len(measures) or any(event.signs.get(t.op) != "-" for t in measures):
        return None
    ops = way(cone, measures[0].value)
    if not straight(recording, cone, ops) or _pulled(recording, cone, ops, measures[0].value):
        return None
    lead = make(recording, "error", _negation(recording, measures[0].op, ops), _text(recording, measures[0].op), 50)
    if lead is not None:
        lead.details["operation"] = measures[0].kind
    return lead


def _attacks(recording: Recording, cone: Cone, mine: int) -> bool:
    """Does the gradient come back through a network that the optimizer does not hold: a perturbation is made to mislead it."""
    for value in cone.order:
        if not cone.live.get(value, 0) & mine:
            continue
        for edge in cone.edges[value]:
            number = recording.values[edge.source].parameter
            if number >= 0 and not mine >> number & 1 and recording.parameters[number].owner:
                return True
    return False


def _pulled(recording: Recording, cone: Cone, ops: list[int], value: int) -> bool:
    """Does another learning quantity join the loss on the way."""
    on_way = {value}
    for index in ops:
        op = recording.ops[index]
        if any(v not in on_way and recording.values[v].requires_grad for v in op.inputs):
            return True
        on_way.update(op.outputs)
    return False


def _negation(recording: Recording, start: int, ops: list[int]) -> int:
    """The op that turns the sign: a negation, a difference, else a product with a negative number."""
    for index in ops:
        if _slope(recording, index, recording.ops[index].inputs[-1] if recording.ops[index].inputs else -1) < 0:
            return index
    return ops[0] if ops else start
