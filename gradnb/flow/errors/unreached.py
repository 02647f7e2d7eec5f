"""``autograd.grad`` is asked for tensors that the loss does not depend on, or a ``.grad`` is None where a number is needed."""

from __future__ import annotations

from ...recorder.recording import Event, Location, Recording
from ..cuts import graph_of, loss_text
from ..lead import Lead
from ..starved import unanswered
from ..unused import defined, topmost
from .history import RANK, apart, relate


def unreached(recording: Recording) -> list[Lead]:
    """Leads for gradients that were asked for and do not exist, where no cut explains it."""
    if recording.raised is None or recording.memo.get("cut leads"):
        return []
    return _asked(recording) or _not_required(recording) or _computed(recording) or _frozen(recording)


# -- autograd.grad -----------------------------------------------------------------------------------------------------------


def _asked(recording: Recording) -> list[Lead]:
    event = unanswered(recording)
    if event is None or not event.losses or not event.inputs:
        return []
    missing = unreached_inputs(recording, event)
    if event.ok and not missing:
        return []  # the None came from somewhere else
    numbers = [n for v in missing if (n := recording.values[v].parameter) >= 0 and _of_a_module(recording, n)]
    lead = Lead("unused-in-grad", None, rank=RANK)
    lead.affected = [recording.parameters[n].name for n in numbers]
    lead.details = {
        "loss": loss_text(graph_of(recording), graph_of(recording).cone(event.losses)),
        "raised": True,
        "count": len(missing),
        "asked": len(event.inputs),
        "allowed": event.ok,
    }
    call = recording.location(event.stack)
    if numbers:
        lead.location = _layer(recording, numbers, lead) or call
    elif missing:
        lead.location = _other_tensor(recording, event, missing[0], lead) or call
    else:
        lead.location = call
    lead.expression = lead.location.code if lead.location else ""
    relate(lead, call, "the gradient is asked for here")
    if recording.raised is not None:
        relate(lead, recording.location(recording.raised.stack), "the error is raised here")
    return [lead]


def _of_a_module(recording: Recording, number: int) -> bool:
    return recording.parameters[number].registered or recording.parameters[number].is_parameter


def unreached_inputs(recording: Recording, event: Event) -> list[int]:
    """The inputs that the gradient of the losses does not come back to."""
    cone = graph_of(recording).cone(event.losses)
    reached: set[int] = set()
    for loss in event.losses:
        reached |= cone.upstream(loss)
    fed = cone.fed()
    found = []
    for value in event.inputs:
        number = recording.values[value].parameter
        if value not in reached and not (number >= 0 and fed >> number & 1):
            found.append(value)
    return found


def _layer(recording: Recording, numbers: list[int], lead: Lead) -> Location | None:
    """The line that builds a layer which its module leaves out; None where the module does not run at all, or the layer does."""
    module, inside = next(iter(topmost(recording, numbers).items()))
    lead.details["module"] = module
    if any(recording.parameters[n].value >= 0 and _used(recording, recording.parameters[n].value) for n in inside):
        return None
    owner = module.rpartition(".")[0]
    ran = any(op.module == owner or not owner and op.module in recording.modules for op in recording.ops)
    return defined(recording, module) if ran else None


def _used(recording: Recording, value: int) -> bool:
    return any(value in op.inputs for op in recording.ops if op.kind == "op" and op.grad_enabled)


def _other_tensor(recording: Recording, event: Event, value: int, lead: Lead) -> Location | None:
    """A tensor that is not the one the loss was computed from: a new slice or copy of it, or one that was left out."""
    graph = graph_of(recording)
    made = recording.values[value].op
    lead.details["other"] = True
    if made < 0 or not recording.ops[made].stack:
        return None
    lead.operation = recording.ops[made].name
    place = recording.location(recording.ops[made].stack)
    cone = graph.cone(event.losses)
    last = max((recording.values[v].op for v in event.losses), default=-1)
    if last >= 0 and recording.ops[made].kind == "leaf" and last < made:
        # a new leaf in each round, and a loss of an earlier one
        relate(lead, place, "a new tensor takes its place here")
        return apart(recording, recording.ops[last].stack, recording.ops[made].stack)
    origins = graph.cone((value,)).edges
    after = [e for v in origins if v != value for e in cone.children.get(v, ()) if e.op > made]
    if after and not any(value in op.inputs for op in recording.ops[made + 1 : event.time] if op.kind == "op"):
        # it stood ready, and the forward pass took in what it was made from
        lead.location = apart(recording, recording.ops[min(e.op for e in after)].stack, recording.ops[made].stack)
        relate(lead, place, "the tensor that was meant is made here")
        return lead.location
    before = next((e for v in origins for e in cone.children.get(v, ()) if e.carries), None)
    if before is not None:
        stack = recording.ops[before.op].stack
        relate(lead, apart(recording, stack, recording.ops[made].stack), "the loss is computed from another tensor here")
    return place


# -- a tensor that does not require grad ---------------------------------------------------------------------------------------


def _not_required(recording: Recording) -> list[Lead]:
    """``autograd.grad(loss, x)`` for an x that was never told to require grad."""
    error = recording.raised
    if error is None or "One of the differentiated Tensors does not require grad" not in error.message:
        return []
    event = next((e for e in reversed(recording.events) if e.kind == "grad" and not e.ok), None)
    plain = [v for v in event.inputs if not recording.values[v].requires_grad] if event is not None else []
    if event is None or not plain:
        return []
    made = recording.values[plain[0]].op
    call = recording.location(event.stack)
    lead = Lead("unused-in-grad", recording.location(recording.ops[made].stack) if made >= 0 else call, rank=RANK)
    lead.expression = lead.location.code if lead.location else ""
    lead.details = {"plain": True, "raised": True, "asked": len(event.inputs), "count": len(plain)}
    lead.details["loss"] = loss_text(graph_of(recording), graph_of(recording).cone(event.losses))
    relate(lead, call, "the gradient is asked for here")
    return [lead]


# -- .grad is None ---------------------------------------------------------------------------------------------------------------


def _computed(recording: Recording) -> list[Lead]:
    """``w.grad`` is None because w is the result of an operation: ``w = w - lr * w.grad`` makes one in each round."""
    absent = next((a for a in recording.absent if not a.leaf and a.trainable and a.value >= 0), None)
    made = recording.values[absent.value].op if absent is not None else -1
    if absent is None or made < 0 or not recording.ops[made].stack or recording.raised is None:
        return []
    lead = Lead("non-leaf", recording.location(recording.ops[made].stack), rank=RANK, operation=recording.ops[made].name)
    lead.expression = graph_of(recording).text(made)
    lead.details = {"name": absent.text, "raised": True, "read": True}
    relate(lead, recording.location(recording.raised.stack), f"`{absent.text}.grad` is None here")
    return [lead]


def _frozen(recording: Recording) -> list[Lead]:
    """``w.grad`` is None because w does not require grad, while a loss was computed from it."""
    absent = next((a for a in recording.absent if a.leaf and not a.trainable and a.value >= 0), None)
    backwards = [e for e in recording.events if e.kind == "backward" and e.ok and e.losses]
    if absent is None or not backwards or recording.raised is None:
        return []
    switched = next((s for n, on, s in reversed(recording.switches) if n == absent.parameter and not on and s), ())
    made = recording.values[absent.value].op
    place = recording.location(switched or (recording.ops[made].stack if made >= 0 else ()))
    lead = Lead("frozen", place or recording.location(recording.raised.stack), rank=RANK, affected=[absent.text])
    lead.expression = lead.location.code if lead.location else ""
    relate(lead, recording.location(recording.raised.stack), f"`{absent.text}.grad` is None here")
    return [lead]
