"""Turns what a Recorder logged into a Recording of plain data."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import torch

from .build_numeric import numeric
from .environment import environment
from .frames import Places
from .log import RawOp
from .postmortem import version
from .recording import Absent, Event, Holder, Loss, Op, Optimizer, Parameter, Raised, Recording, Region, Share, Spoiled, Value, ZeroBirth
from .spans import Spans

if TYPE_CHECKING:
    from .census import Person
    from .recorder import Recorder

_DECORATOR = re.compile(r"^\s*@.*(no_grad|inference_mode|set_grad_enabled)")


def _sizes(shape: Any) -> tuple[int, ...] | None:
    """Sizes as plain numbers: while ``torch.jit.trace`` runs they are tensors; None for those that are only symbols."""
    sizes = tuple(shape)
    if all(type(size) is int for size in sizes):
        return sizes
    return tuple(int(size) for size in sizes) if all(isinstance(size, (int, torch.Tensor)) for size in sizes) else None


def build(recorder: "Recorder") -> Recording:
    """The Recording of a recorder that was stopped."""
    places = Places(recorder.cells)
    recording = Recording(sites=places.locations, sources=places.sources, cells=dict(recorder.cells))
    log = recorder.log
    ops = [None if raw is None else RawOp._make(raw) for raw in log.ops]
    recording.ops = [_op(raw, places, recorder) for raw in ops]
    recording.values = [
        Value(op, requires_grad, str(dtype)[6:], _sizes(shape), leaf, "tensor", group, -1, inference)
        for op, requires_grad, dtype, shape, leaf, group, inference in log.values
    ]
    recording.met = {value: (op, position) for value, op, position in log.fresh}
    recording.regions = [_region(raw, places) for raw in log.regions]
    replaced = recorder.census.replaced()
    recording.parameters = [_parameter(person, recorder, person.number not in replaced) for person in recorder.census.people]
    _name_values(recorder, recording)
    _optimizers(recorder, recording, places)
    nodes = Spans((op.first_node, op.last_node, i) for i, op in enumerate(recording.ops))
    _events(recorder, recording, places, nodes)
    _losses(recorder, recording, places)
    _births(recorder, recording, places, nodes)
    numeric(recorder, recording, places, nodes)
    _holders(recorder, recording, places)
    _after_the_error(recorder, recording, places, nodes)
    census = recorder.census
    for number, (dtype, sites) in recorder.casts.items():
        recording.parameters[number].cast = (str(dtype).removeprefix("torch."), places.stack(sites))
    recording.paddings = census.paddings()
    recording.flags = list(census.flags.values())
    numbers = {id(p.reference()): p.number for p in census.people if p.reference() is not None}
    recording.switches = [(numbers[i], on, places.stack(sites)) for i, on, sites in recorder.freezes if i in numbers]
    recording.paths, recording.buffers = dict(census.paths), dict(census.buffers)
    recording.shared = census.shared()
    recording.modules = {name: type(ref()).__name__ if ref() is not None else "" for name, ref in census.roots.items()}
    places.read_cells()
    recording.raised = _raised(recorder, places, recording.ops)
    recording.notes = list(recorder.notes)
    recording.counted_steps = recorder.training.counted
    recording.environment = environment()
    return recording


def _op(raw: RawOp | None, places: Places, recorder: "Recorder") -> Op:
    if raw is None:  # a custom Function that never came back
        return Op("apply", "function", (), (), True, -1, ())
    kind = raw.operation.kind
    kind = {"set_data": "inplace", "empty": "factory", "gradient": "op"}.get(kind, kind)
    name = raw.operation.name
    if raw.via == "deepcopy" and kind == "cut":
        name = "deepcopy"
    if kind == "op" and _wrote_its_input(raw, recorder):
        kind = "inplace"
    module = recorder.census.module_names.get(raw.module) if raw.module >= 0 else None
    return Op(
        name,
        kind,
        raw.inputs,
        raw.outputs,
        raw.grad_enabled,
        raw.region,
        places.stack(raw.sites),
        module,
        raw.first_node,
        raw.last_node,
        raw.numbers,
        raw.error,
        raw.function,
        raw.parent,
        raw.via,
    )


def _wrote_its_input(raw: RawOp, recorder: "Recorder") -> bool:
    """``relu(x, inplace=True)``: it handed its own argument back. Dropout does so too where it has nothing to do."""
    if raw.operation.view or not raw.inputs or not raw.outputs or "dropout" in raw.operation.name and raw.first_node == raw.last_node:
        return False
    group = recorder.log.group
    return raw.outputs[0] != raw.inputs[0] and group(raw.outputs[0]) == group(raw.inputs[0])


def _region(raw, places: Places) -> Region:  # type: ignore[no-untyped-def]
    kind, library = raw.kind, raw.via
    if raw.decorated is not None:
        site = _decorator(raw.decorated, places)
        text = places.locations[site].code
    else:
        stack = places.stack(raw.sites)
        site = stack[0] if stack else -1
        text = places.locations[site].code if site >= 0 else ""
    if kind == "no_grad" and "set_grad_enabled" in text:
        kind = "set_grad_enabled"
    return Region(site, kind, raw.decorated is not None, library)


def _decorator(code, places: Places) -> int:  # type: ignore[no-untyped-def]
    """The decorator's own line: co_firstlineno is the first decorator, which may be another one."""
    first = places.at(code.co_filename, code.co_firstlineno, code.co_name)
    lines = places.sources[code.co_filename].split("\n")
    for number in range(code.co_firstlineno, min(code.co_firstlineno + 8, len(lines) + 1)):
        line = lines[number - 1]
        if _DECORATOR.match(line):
            start = len(line) - len(line.lstrip())
            return places.at(code.co_filename, number, code.co_name, start, number, len(line.rstrip()))
        if line.lstrip().startswith(("def ", "async def ", "class ")):
            break
    return first


def _parameter(person: "Person", recorder: "Recorder", current: bool) -> Parameter:
    gradients = recorder.gradients
    return Parameter(
        name=person.name,
        shape=person.shape,
        dtype=person.dtype,
        device=person.device,
        trainable=person.trainable,
        value=person.values[-1] if person.values else -1,
        moved=gradients.moved.get(person.number),
        root=person.root,
        owner=person.owner,
        registered=person.registered,
        leaf=person.leaf,
        attributes=person.attributes,
        training=person.training,
        called=person.called,
        ever_trainable=person.ever_trainable,
        is_parameter=person.is_parameter,
        library=person.owner_library,
        hand_set=person.number in recorder.hand_set,
        fed_late=person.number in gradients.fed_late,
        listed=person.registered or person.is_parameter or person.from_namespace,
        alive=person.reference() is not None,
        current=current,
        anonymous=person.is_parameter and not person.registered and not person.from_namespace,
    )


def _name_values(recorder: "Recorder", recording: Recording) -> None:
    """Each value that is a parameter (or a later version of one) knows which."""
    people = recorder.census.people
    owner: dict[int, int] = {}
    for person in people:
        for value in person.values:
            owner[value] = person.number
    for op in recording.ops:
        if op.outputs and op.inputs and (op.kind == "inplace" or op.name == "requires_grad_") and op.inputs[0] in owner:
            owner.setdefault(op.outputs[0], owner[op.inputs[0]])
    for value, number in owner.items():
        recording.values[value].parameter = number


def _optimizers(recorder: "Recorder", recording: Recording, places: Places) -> None:
    labels = recorder.census.optimizer_labels
    for index, raw in enumerate(recorder.training.optimizers):
        label = labels.get(raw.key, "")
        stack = places.stack(raw.sites)
        recording.optimizers.append(
            Optimizer(
                raw.kind,
                label,
                stack[0] if stack else -1,
                stack,
                tuple(tuple(g) for g in raw.groups),
                raw.steps + raw.late_steps,
                raw.time,
                raw.reference() is not None,
                raw.empty_groups,
                raw.failed is not None,
                raw.maximize,
            )
        )
        for group_number, group in enumerate(raw.groups):
            for position, number in enumerate(group):
                parameter = recording.parameters[number]
                parameter.optimizer, parameter.group, parameter.listed = index, group_number, True
                if not parameter.name:
                    parameter.name = f"{label or raw.kind}.param_groups[{group_number}]['params'][{position}]"
    for parameter in recording.parameters:
        if not parameter.name:
            shape = "×".join(map(str, parameter.shape)) or "scalar"
            parameter.name = f"unnamed {'parameter' if parameter.is_parameter else 'tensor'} ({shape})"


def _events(recorder: "Recorder", recording: Recording, places: Places, nodes: Spans) -> None:
    roots = {id(r()): name for name, r in recorder.census.roots.items() if r() is not None}
    for raw in recorder.events:
        recording.events.append(
            Event(
                raw.kind,
                places.stack(raw.sites),
                raw.time,
                raw.ok,
                raw.error,
                raw.losses,
                raw.inputs,
                raw.optimizer,
                raw.full,
                raw.shape,
                raw.uncleared,
                raw.states,
                raw.frozen,
                raw.has_grad_fn,
                retain=raw.retain,
                scaler=raw.scaler,
                enabled=raw.enabled,
                inner=raw.inner,
                skipped=raw.skipped,
                numbers=raw.numbers,
                factors=tuple((nodes.op(n), kind, number) for n, kind, number in raw.factors),
                autocast=raw.autocast,
                modes=raw.modes,
                root=roots.get(id(raw.owner()), "") if raw.owner is not None else "",
                training=raw.training,
                signs=nodes.outputs(raw.head.signs) if raw.head is not None else {},
                shares=[
                    Share(
                        nodes.op(s.sequence), s.elements, s.right, s.loss_right, s.loss_wrong, s.never, s.common, s.common_count, s.classes
                    )
                    for s in (raw.head.shares if raw.head is not None else ())
                ],
            )
        )
    order = {"none": 0, "zero": 1, "inf": 2, "nan": 2, "ok": 3}
    for index, event in enumerate(recording.events):
        for number, (state, norm) in event.states.items():
            parameter = recording.parameters[number]
            if event.kind == "step":
                parameter.steps[index] = state
            if order[state] >= order[parameter.gradient] or state in ("nan", "inf"):
                parameter.gradient = state
                if norm is not None:
                    parameter.grad_norm = norm


def _losses(recorder: "Recorder", recording: Recording, places: Places) -> None:
    for index, (raw, event) in enumerate(zip(recorder.events, recording.events)):
        if raw.kind == "backward":
            recording.losses.append(Loss("loss", raw.number, event.stack, raw.has_grad_fn, index))


def _births(recorder: "Recorder", recording: Recording, places: Places, nodes: Spans) -> None:
    for scan in recorder.backward.scans:
        for birth in scan.births:
            op = nodes.op(birth.sequence)
            site = -1
            if birth.function_code is not None:
                code = birth.function_code
                site = places.at(code.co_filename, code.co_firstlineno, code.co_name)
            stack = recording.ops[op].stack if op >= 0 else ()
            recording.births.append(
                ZeroBirth(
                    birth.kind,
                    birth.node,
                    op,
                    stack,
                    tuple(birth.parameters),
                    scan.event,
                    birth.function,
                    site,
                    birth.outputs,
                    birth.detail,
                )
            )


def _after_the_error(recorder: "Recorder", recording: Recording, places: Places, nodes: Spans) -> None:
    for raw in recorder.spoiled:
        shape, writer, writes = version(raw.message)
        recording.spoiled.append(Spoiled(nodes.op(raw.sequence), raw.node, raw.saved, shape, writer, writes, raw.values, raw.message))
    recording.absent = [Absent(a.text, a.value, a.parameter, a.leaf, a.trainable) for a in recorder.absent]
    recording.writes = [(number, time, places.stack(sites)) for number, time, sites in recorder.writes]


def _holders(recorder: "Recorder", recording: Recording, places: Places) -> None:
    for known in recorder.census.hidden.values():
        site = -1
        if known["code"] is not None:
            site = places.at(known["code"][0], known["code"][1], "__init__")
        recording.holders.append(
            Holder(known["owner"], known["attribute"], known["kind"], known["names"], known["numbers"], known["root"], known["value"], site)
        )


def _raised(recorder: "Recorder", places: Places, ops: list[Op]) -> Raised | None:
    error = recorder.error
    if error is None:
        return None
    stack = places.stack(recorder.frames.of_traceback(error.__traceback__))
    op = next((i for i in range(len(ops) - 1, -1, -1) if ops[i].error), -1)
    if op >= 0 and str(error)[:80] not in (ops[op].error or ""):
        op = -1
    return Raised(
        type(error).__name__,
        str(error),
        stack,
        isinstance(error, KeyboardInterrupt),
        op,
        _values(recorder, error),
        recorder.autocast_at_error if op >= 0 else "",
    )


def _values(recorder: "Recorder", error: BaseException) -> tuple[int, ...]:
    """The tensor an optimizer refused, read from the frame that refused it."""
    traceback = error.__traceback__
    while traceback is not None:
        if traceback.tb_frame.f_code.co_name == "add_param_group":
            refused = traceback.tb_frame.f_locals.get("param")
            if isinstance(refused, torch.Tensor):
                known = recorder.log.known(refused)
                return (known,) if known >= 0 else ()
        traceback = traceback.tb_next
    return ()
