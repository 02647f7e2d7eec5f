"""Parameters that an optimizer holds and that no loss depends on: never called, or their result is dropped."""

from __future__ import annotations

import ast

from ..recorder.recording import Location, Recording
from .lead import Lead
from .places import attribute_assigned, last_return, statement_of
from .starved import hungry


def unused(recording: Recording) -> list[Lead]:
    """One lead for each module whose parameters are not on the way to any loss."""
    explained: set[int] = recording.memo.setdefault("explained", set())
    leads: list[Lead] = []
    for hunger in hungry(recording):
        if hunger.event is not None or not hunger.losses:
            continue
        left = [n for n in hunger.parameters if n not in explained and not recording.parameters[n].reached]
        for module, numbers in topmost(recording, left).items():
            lead = _lead(recording, module, numbers)
            leads.append(lead)
            explained.update(numbers)
    return _joined(leads)


def topmost(recording: Recording, numbers: list[int]) -> dict[str, list[int]]:
    """The parameters by the topmost module that is unused as a whole."""
    used = {p.name for i, p in enumerate(recording.parameters) if p.listed and i not in numbers}
    found: dict[str, list[int]] = {}
    for number in numbers:
        parts = recording.parameters[number].name.split(".")
        for depth in range(1, len(parts)):
            prefix = ".".join(parts[:depth])
            if not any(name.startswith(prefix + ".") for name in used):
                found.setdefault(prefix, []).append(number)
                break
        else:
            found.setdefault(recording.parameters[number].name, []).append(number)
    return found


def _lead(recording: Recording, module: str, numbers: list[int]) -> Lead:
    names = [recording.parameters[n].name for n in numbers]
    values = [v for v, value in enumerate(recording.values) if value.parameter in numbers]
    sink = _sink(recording, values)
    lead = Lead("unused", None, "warning", affected=names, rank=40 + len(names))
    lead.details = {"module": module, "called": sink is not None}
    if sink is not None:
        place, dropped = _dropped(recording, sink)
        lead.location = place
        if dropped is not None and dropped != place:
            lead.related.append((dropped, "the result is made here and not used any further"))
    if lead.location is None:
        lead.location = defined(recording, module)
    if sink is None and _one_of_many(recording, module, numbers):
        lead.severity = "info"  # an expert that was not routed to, a head that had no turn
    if lead.location is None:
        lead.severity = "info"  # a layer that a library ships: no line of the user's is at fault
    lead.expression = lead.location.code if lead.location else ""
    return lead


def _one_of_many(recording: Recording, module: str, numbers: list[int]) -> bool:
    """Does the module stand in a list or dict of modules of which others were used."""
    container, _, key = module.rpartition(".")
    others = [p for i, p in enumerate(recording.parameters) if i not in numbers and p.name.startswith(container + ".") and p.reached]
    siblings = {p.name[len(container) + 1 :].split(".")[0] for p in others}
    return bool(container) and key.isdigit() and any(s.isdigit() for s in siblings)


def _sink(recording: Recording, values: list[int]) -> int | None:
    """The op that made the last value that depends on these and that nothing reads; None where no op read them."""
    own = set(values)
    reached, last = set(values), None
    consumed: set[int] = set()
    for index, op in enumerate(recording.ops):
        if op.kind in ("escape", "cut") or not op.grad_enabled:
            continue
        if any(v in reached for v in op.inputs):
            consumed.update(op.inputs)
            reached.update(op.outputs)
            if op.outputs and op.kind not in ("leaf", "inplace"):
                last = index
    ends = [
        i
        for i, op in enumerate(recording.ops)
        if op.outputs and set(op.outputs) & reached - own and not set(op.outputs) & consumed and op.grad_enabled
    ]
    return ends[-1] if ends else last


def _dropped(recording: Recording, sink: int) -> tuple[Location | None, Location | None]:
    """Where the result is dropped: the return of the function that kept it in a name and returned something else."""
    for site in recording.ops[sink].stack:
        location = recording.sites[site]
        found = statement_of(recording, location)
        if found is None:
            return location, None
        if isinstance(found[1], ast.Return) or location.function == "<lambda>":
            continue
        if isinstance(found[1], ast.Expr) and _whole(recording, location, found[1]):  # a bare call: its result is thrown away on the spot
            return location, None
        returned = last_return(recording, location)
        return returned or location, location
    stack = recording.ops[sink].stack
    return (recording.sites[stack[-1]] if stack else None), None


def _whole(recording: Recording, location: Location, statement: ast.Expr) -> bool:
    """Is the call the whole statement, and not an argument of an ``append``."""
    return location.column == statement.col_offset and location.end_column == statement.end_col_offset


def defined(recording: Recording, module: str) -> Location | None:
    """The line that builds the module: ``self.pooler = …``."""
    for part in reversed(module.split(".")):
        if not part.isdigit():
            places = attribute_assigned(recording, part)
            if places:
                return places[0]
    return None


def _joined(leads: list[Lead]) -> list[Lead]:
    """Blocks that are bypassed by the same line are one finding."""
    found: dict[tuple, Lead] = {}
    for lead in leads:
        key = (lead.location.filename, lead.location.line) if lead.location else ("", lead.details["module"])
        known = found.setdefault(key, lead)
        if known is not lead:
            known.affected.extend(lead.affected)
    return list(found.values())
