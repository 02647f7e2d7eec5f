"""Parameters that are wired wrongly: frozen, hidden from ``parameters()``, held by no optimizer, or no leaf at all."""

from __future__ import annotations

import difflib

from ..recorder.recording import Holder, Location, Optimizer, Parameter, Recording
from .cuts import fed_by, graph_of
from .lead import Lead
from .places import assigned, attribute_assigned, generator_of, switched_off
from .rebuilt import rebuilt
from .starved import failing
from .unused import unused

MANY_GROUPS = 3  # param groups beyond this are made in a loop, not by hand


def wiring(recording: Recording) -> list[Lead]:
    """Leads for frozen, unregistered, not-in-optimizer, non-leaf and unused parameters."""
    leads: list[Lead] = []
    attributes = (_misspelled, _frozen_groups, _all_frozen, _unregistered, rebuilt)
    for find in (*attributes, _non_leaf_refused, _non_leaf, _dropped, _orphans, unused):
        leads.extend(find(recording))
    return leads


def fed_parameters(recording: Recording) -> int:
    """Bit set of the parameters to which the gradient of some backward comes back."""
    return fed_by(recording, [e for e in recording.events if e.kind == "backward"])


# -- frozen ----------------------------------------------------------------------------------------------------------------


def _misspelled(recording: Recording) -> list[Lead]:
    """``p.required_grad = True``: Python takes any attribute."""
    groups: dict[str, list[Parameter]] = {}
    for p in recording.parameters:
        if not p.trainable and p.optimizer is not None:
            for name in p.attributes:
                if name != "requires_grad" and difflib.SequenceMatcher(None, name, "requires_grad").ratio() > 0.9:
                    groups.setdefault(name, []).append(p)
    leads = []
    for name, parameters in groups.items():
        places = attribute_assigned(recording, name)
        lead = Lead("frozen", places[0] if places else None, affected=[p.name for p in parameters], rank=90)
        lead.expression = places[0].code if places else name
        lead.details = {"misspelled": name}
        lead.related = [(place, "and here") for place in places[1:3]]
        leads.append(lead)
    for _, label, value in recording.flags:
        below = [p for p in recording.parameters if not p.trainable and p.optimizer is not None and p.name.startswith(label + ".")]
        if value and below:
            seen = {(recording.sites[s[0]].filename, recording.sites[s[0]].line) for _, _, s in recording.switches if s}
            places = [p for p in attribute_assigned(recording, "requires_grad") if (p.filename, p.line) not in seen]
            lead = Lead("frozen", places[0] if places else None, affected=[p.name for p in below], rank=90)
            lead.expression, lead.details = (places[0].code if places else ""), {"on_module": True}
            leads.append(lead)
    return leads


def _frozen_groups(recording: Recording) -> list[Lead]:
    """A param group of its own whose parameters are frozen at every step contradicts itself."""
    leads = []
    for index, optimizer in enumerate(recording.optimizers):
        steps = [e for e in recording.events if e.kind == "step" and e.optimizer == index]
        if not steps:
            continue
        for number, group in enumerate(optimizer.groups):
            if not group or not all(set(group) <= set(e.frozen) for e in steps):
                continue
            if any(recording.parameters[n].trainable for n in group):
                continue  # unfrozen further on
            if len(optimizer.groups) > MANY_GROUPS:
                continue  # one group a layer, made in a loop: the frozen ones are not named by hand
            names = [recording.parameters[n].name for n in group]
            lead = Lead("frozen", _freezing(recording, group, optimizer.site), affected=names, rank=90 + len(names))
            lead.expression = lead.location.code if lead.location else ""
            lead.details = {"group": number, "all": len(optimizer.groups) == 1, "optimizer": optimizer.label or optimizer.name}
            if optimizer.site >= 0:
                lead.related.append((recording.sites[optimizer.site], "the optimizer holds them all the same"))
            leads.append(lead)
    return leads


def _all_frozen(recording: Recording) -> list[Lead]:
    """The loss has no grad_fn because everything it was computed from is frozen."""
    event = failing(recording)
    if event is None:
        return []
    cone = graph_of(recording).cone(event.losses)
    data, values = cone.reached() & ~fed_by(recording, [e for e in recording.events if e.kind == "backward" and e.ok]), recording.values
    if any(bits & data and values[v].parameter < 0 for v, bits in cone.live.items()):
        return []  # something computed from them could learn: then a cut is to blame
    if any(data >> i & 1 and p.trainable and p.listed for i, p in enumerate(recording.parameters)):
        return []
    frozen = [i for i, p in enumerate(recording.parameters) if data >> i & 1 and not p.trainable and p.listed]
    if not frozen:
        return []
    optimizer = next((o for o in recording.optimizers if any(n in frozen for g in o.groups for n in g)), None)
    lead = Lead("frozen", _freezing(recording, tuple(frozen), optimizer.site if optimizer else -1), rank=110)
    lead.affected = [recording.parameters[n].name for n in frozen]
    lead.expression = lead.location.code if lead.location else ""
    lead.details = {"all": True, "raised": True}
    return [lead]


def _freezing(recording: Recording, numbers: tuple[int, ...], otherwise: int) -> Location | None:
    """Where the parameters were switched off: the last time for the first of them, else a line that reads like it."""
    for number, on, stack in reversed(recording.switches):
        if number in numbers and not on and stack:
            return switched_off(recording, stack)
    born = {recording.values[v].op for n in numbers if (v := recording.parameters[n].value) >= 0 and not recording.values[v].requires_grad}
    made = [recording.ops[op] for op in sorted(born) if op >= 0 and recording.ops[op].kind == "leaf" and recording.ops[op].stack]
    if made:  # ``nn.Parameter(…, requires_grad=False)``, ``nn.Embedding.from_pretrained(…)``
        return recording.location(made[0].stack)
    written = [p for p in attribute_assigned(recording, "requires_grad") if "False" in p.code]
    if written:
        return written[0]
    return recording.sites[otherwise] if otherwise >= 0 else None


# -- unregistered ------------------------------------------------------------------------------------------------------------


def _unregistered(recording: Recording) -> list[Lead]:
    raised = recording.raised
    empty = raised is not None and "empty parameter list" in raised.message
    fed = fed_parameters(recording)
    leads = []
    for holder in recording.holders:
        if holder.kind != "parameters" or not (empty or _matters(recording, holder, fed)):
            continue
        place = assigned(recording, holder)
        lead = Lead("unregistered", place, affected=list(holder.names), rank=85 + len(holder.names))
        lead.expression = place.code if place else f"self.{holder.attribute}"
        lead.details = {"owner": holder.owner, "attribute": holder.attribute, "container": _container(holder), "empty": empty}
        if empty and raised is not None and raised.stack:
            lead.related.append((recording.sites[raised.stack[0]], "so the optimizer gets an empty list here"))
        leads.append(lead)
    leads.sort(key=lambda lead: -lead.rank)
    return leads


def _matters(recording: Recording, holder: Holder, fed: int) -> bool:
    """The hidden parameters should learn (the gradient reaches them), and nobody moves them."""
    used = [recording.parameters[n] for n in holder.numbers if n >= 0 and fed >> n & 1]
    return bool(used) and bool(recording.optimizers) and all(p.optimizer is None and not p.moved and not p.registered for p in used)


def _container(holder: Holder) -> str:
    first = holder.names[0].split(holder.attribute, 1)[-1] if holder.names else ""
    if first.startswith(".<"):
        return "closure"
    if first.startswith("["):
        return "dict" if first[1:2] in "'\"" else "list"
    return "object" if first.startswith(".") else "tensor"


# -- not in an optimizer -----------------------------------------------------------------------------------------------------


def _dropped(recording: Recording) -> list[Lead]:
    """A newer optimizer took over and left some parameters of the older one out."""
    leads = []
    for new_index, new in enumerate(recording.optimizers):
        if not new.steps or new.time < 0:
            continue
        for old_index, old in enumerate(recording.optimizers[:new_index]):
            last = max((e.time for e in recording.events if e.kind == "step" and e.optimizer == old_index), default=-1)
            if last < 0 or last > new.time:
                continue
            now = {n for g in new.groups for n in g}
            before = {n for g in old.groups for n in g}
            fed = fed_by(recording, [e for e in recording.events if e.kind == "backward" and e.time > new.time])
            missing = sorted(n for n in before - now if fed >> n & 1 and recording.parameters[n].trainable)
            if not missing or not (before & now):
                continue
            if any(
                e.kind == "step" and e.states.get(n, ("none",))[0] == "ok" and e.time > new.time
                for e in recording.events
                for n in missing[:1]
            ):
                continue
            generator = generator_of(recording, new.stack) if new.empty_groups else None
            place = generator or (recording.sites[new.site] if new.site >= 0 else None)
            lead = Lead("not-in-optimizer", place, affected=[recording.parameters[n].name for n in missing], rank=80 + len(missing))
            lead.expression = place.code if place else ""
            lead.details = {"exhausted": generator is not None, "optimizer": new.label or new.name}
            if generator is not None and new.site >= 0:
                lead.related.append((recording.sites[new.site], "the optimizer built here gets an empty group: the generator is used up"))
            leads.append(lead)
            break
        if leads:
            break
    return leads


def _orphans(recording: Recording) -> list[Lead]:
    """Parameters that receive a gradient in every backward and that no optimizer holds."""
    stepping = [o for o in recording.optimizers if o.steps]
    if not stepping:
        return []
    fed = fed_parameters(recording)
    held = {n for o in recording.optimizers for g in o.groups for n in g}
    hidden = {n for h in recording.holders for n in h.numbers}
    orphans: dict[str, list[int]] = {}
    for number, p in enumerate(recording.parameters):
        if fed >> number & 1 and p.registered and number not in held and number not in hidden and p.trainable:
            if not p.moved and not p.hand_set and p.alive and not _computed(recording, p):
                orphans.setdefault(p.root, []).append(number)
    leads = []
    for root, numbers in orphans.items():
        siblings = [n for n in held if recording.parameters[n].root == root]
        stale = [o for o in stepping if _stale(recording, o)]
        if not siblings and not stale and not (_trains_alone(recording, numbers) and _moves_modules(recording, stepping)):
            continue
        # the one that should hold them is the one that holds most of their module
        optimizer = stale[0] if stale else max(stepping, key=lambda o: sum(n in siblings for g in o.groups for n in g))
        replaced = _replaced(recording, numbers, optimizer.site)
        place = replaced or (recording.sites[optimizer.site] if optimizer.site >= 0 else None)
        lead = Lead("not-in-optimizer", place, affected=[recording.parameters[n].name for n in numbers], rank=70 + len(numbers))
        lead.severity = "error" if siblings or stale else "warning"
        lead.expression = place.code if place else ""
        lead.details = {"stale": bool(stale), "replaced": replaced is not None, "optimizer": optimizer.label or optimizer.name}
        # what the optimizer holds instead of them is the same fault seen from the other side
        left_behind = {n for g in optimizer.groups for n in g if not recording.parameters[n].registered or stale}
        recording.memo.setdefault("explained", set()).update(left_behind)
        if replaced is not None and optimizer.site >= 0:
            lead.related.append((recording.sites[optimizer.site], "the optimizer was built before that, here"))
        leads.append(lead)
    return leads


def _computed(recording: Recording, p: Parameter) -> bool:
    """Made anew from other tensors in each round (a re-parameterised weight): no optimizer could hold it."""
    if p.value < 0:
        return False
    own, made = recording.values[p.value].parameter, recording.values[p.value].op
    first = min((e.time for e in recording.events if e.kind == "backward"), default=0)
    if made < 0 or made < first and recording.ops[made].module is None:
        return False  # once, before the training: a weight that was normalised, or loaded from another model's
    return bool(graph_of(recording).cone((p.value,)).reached() & ~(1 << max(own, 0)))


def _stale(recording: Recording, optimizer: Optimizer) -> bool:
    """None of the optimizer's parameters took part in any loss: it holds those of an object that is not trained any more."""
    numbers = [n for g in optimizer.groups for n in g]
    return bool(numbers) and all(recording.parameters[n].gradient == "none" and not recording.parameters[n].reached for n in numbers)


def _trains_alone(recording: Recording, numbers: list[int]) -> bool:
    """A whole module without an optimizer: meant to learn, if it is in training mode and was called as part of the loss."""
    return all(recording.parameters[n].training and recording.parameters[n].called for n in numbers)


def _moves_modules(recording: Recording, stepping: list[Optimizer]) -> bool:
    """Do the optimizers move parameters of modules at all, and not an image, a latent or an attack."""
    return any(recording.parameters[n].registered for o in stepping for g in o.groups for n in g)


def _replaced(recording: Recording, numbers: list[int], after: int) -> Location | None:
    """``model.head = nn.Linear(…)`` behind the optimizer's construction."""
    if after < 0:
        return None
    built = recording.sites[after]
    for part in reversed(recording.parameters[numbers[0]].name.split(".")[:-1]):
        for place in attribute_assigned(recording, part):
            if place.filename == built.filename and place.line > built.line and place.function == built.function:
                return place
    return None


# -- non-leaf ----------------------------------------------------------------------------------------------------------------


def _non_leaf_refused(recording: Recording) -> list[Lead]:
    raised = recording.raised
    if raised is None or "non-leaf" not in raised.message:
        return []
    made = next((recording.values[v].op for v in raised.values if recording.values[v].op >= 0), -1)
    symptom = recording.location(raised.stack)
    place = recording.location(recording.ops[made].stack) if made >= 0 else symptom
    lead = Lead("non-leaf", place, rank=95, operation=recording.ops[made].name if made >= 0 else "")
    lead.expression = graph_of(recording).text(made) if made >= 0 else ""
    lead.details = {"raised": True}
    if symptom is not None and symptom != place:
        lead.related.append((symptom, "the optimizer refuses it here"))
    return [lead]


def _non_leaf(recording: Recording) -> list[Lead]:
    """A tensor computed from a leaf that nobody keeps, and used in one loss after another: a parameter by intention."""
    graph = graph_of(recording)
    hidden = {n for h in recording.holders if h.kind == "parameters" for n in h.numbers}
    attributes = {h.value: h for h in recording.holders if h.kind == "non-leaf" and h.value >= 0}
    cones = [graph.cone(losses) for losses in dict.fromkeys(e.losses for e in recording.events if e.kind == "backward" and e.losses)]
    first = min((e.time for e in recording.events if e.kind == "backward"), default=0)
    leads: dict[int, Lead] = {}
    for number, p in enumerate(recording.parameters):
        if (
            p.registered
            or p.optimizer is not None
            or not p.ever_trainable
            or number in hidden
            or p.value < 0
            or p.moved
            or _in_namespace(p)
        ):
            continue
        values = [v for v, value in enumerate(recording.values) if value.parameter == number]
        derived = {e.target for cone in cones for v in values for e in cone.children.get(v, ()) if e.carries}
        for value in sorted(derived):
            made = recording.values[value].op
            # behind a cut it is a new leaf's first value, and no gradient passes it
            used = sum(1 for cone in cones if value in cone.edges and cone.fed() >> number & 1)
            if made < 0 or made >= first or not (value in attributes or used > 1 and _meant_as_parameter(recording, values[0], made)):
                continue
            place = recording.location(recording.ops[made].stack)
            holder = attributes.get(value)
            key = place.line if place else made
            lead = leads.setdefault(key, Lead("non-leaf", place, rank=75, operation=recording.ops[made].name))
            lead.expression = graph.text(made)
            lead.details = {"attribute": holder.attribute} if holder else {"name": lead.expression}
            lead.affected.extend(holder.names if holder else ())
    return list(leads.values())


def _meant_as_parameter(recording: Recording, leaf: int, made: int) -> bool:
    """``torch.randn(…, requires_grad=True) * 0.1``: born trainable and changed by one step, of the same shape."""
    born = recording.values[leaf].op
    if born < 0 or recording.ops[born].kind != "factory" and recording.ops[born].name != "Parameter":
        return False
    op = recording.ops[made]
    return len(op.inputs) == 1 and recording.values[op.outputs[0]].shape == recording.values[leaf].shape


def _in_namespace(p: Parameter) -> bool:
    return p.listed and not p.is_parameter
