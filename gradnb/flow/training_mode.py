"""Training steps that ran in eval mode: dropout switched off, batch statistics frozen."""

from __future__ import annotations

from ..recorder.recording import Event, Recording
from .cuts import graph_of
from .lead import Lead
from .places import uncalled


def training_mode(recording: Recording) -> list[Lead]:
    """A lead for each model whose steps ran in eval mode after a call of ``eval()`` that nothing took back."""
    leads = []
    for root in dict.fromkeys(name for e in recording.events for name in e.modes):
        lead = _switched(recording, root)
        if lead is not None:
            leads.append(lead)
    return leads


def _switched(recording: Recording, root: str) -> Lead | None:
    steps = [
        (i, e) for i, e in enumerate(recording.events) if e.kind in ("step", "late_step") and root in e.modes and _moves(recording, e, root)
    ]
    idle = [(i, e) for i, e in steps if e.modes[root][1] == e.modes[root][0]]
    if not idle:
        return None
    active = [i for i, e in steps if e.modes[root][1] < e.modes[root][0]]
    first, event = idle[0]
    drops = event.modes[root][2] > 0
    switch = next((e for e in reversed(recording.events[:first]) if e.kind == "mode" and not e.training and e.root in ("", root)), None)
    validated = switch is not None and _validated(recording, switch, event)
    forgotten = uncalled(recording, "train") if not active else None
    # a probe on a model that is frozen for the most part is trained in eval mode on purpose
    whole = all(p.trainable for p in recording.parameters if p.root == root and p.listed)
    if active and active[0] < first and switch is not None or switch is not None and validated and drops and whole:
        severity = "error"
    elif forgotten is not None:
        severity = "error"
    elif switch is not None and not active and drops and whole and not any(e.kind == "mode" and e.training for e in recording.events):
        severity = "warning"
    else:  # statistics alone are often frozen on purpose
        return None
    location = forgotten or recording.location(switch.stack if switch is not None else event.stack)
    lead = Lead("eval-mode", location, severity, rank=44)
    lead.expression = graph_of(recording).slicer.text(location) if location else ""
    lead.affected = [p.name for p in recording.parameters if p.root == root and p.listed and p.optimizer is not None]
    lead.details = {
        "kind": "not-called" if forgotten is not None else "left",
        "model": root,
        "drops": drops,
        "steps": len(idle),
        "of": len(steps),
        "since_start": not active,
    }
    for site in switch.stack[1:2] if switch is not None and forgotten is None else ():
        lead.related.append((recording.sites[site], "called from here, and training goes on in eval mode behind it"))
    place = recording.location(event.stack)
    if place is not None:
        lead.related.append((place, f"{len(idle)} of {len(steps)} recorded steps run in eval mode"))
    return lead


def _moves(recording: Recording, step: Event, root: str) -> bool:
    """Does the step's optimizer hold parameters of the model."""
    if step.optimizer is None:
        return False
    return any(recording.parameters[n].root == root for g in recording.optimizers[step.optimizer].groups for n in g)


def _validated(recording: Recording, switch: Event, step: Event) -> bool:
    """Did the model run without gradients between ``eval()`` and the step, as a validation does."""
    return any(not op.grad_enabled and op.module for op in recording.ops[switch.time : step.time])
