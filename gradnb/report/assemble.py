"""Fills a Report from a finished recorder: build the recording, diagnose it, choose what to show."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..recorder.build import build
from ..recorder.recording import Recording
from .finding import Finding
from .parts import listed, parts
from .report import LossRow, ParameterRow, RaisedRow, Report, StepRow

if TYPE_CHECKING:
    from ..recorder.recorder import Recorder


def fill(report: Report, recorder: "Recorder", *, models: list[str] | None = None, loss: str | None = None) -> None:
    """Fill ``report`` in place."""
    from ..diagnoses import diagnose

    recording = build(recorder)
    reach(recording)
    report.findings = diagnose(recording)
    report.parameters = rows(recording, models, report.findings)
    report.losses = _losses(recording, loss)
    report.steps = [
        StepRow(e.kind, recording.location(e.stack), e.ok)
        for e in recording.events
        if e.kind in ("backward", "step", "zero_grad", "scale", "unscale", "update", "clip")
    ]
    if recording.raised is not None:
        report.raised = RaisedRow(recording.raised.type, recording.raised.message, recording.location(recording.raised.stack))
    report.environment = recording.environment
    report.optimizers = [f"{o.label} ({o.name})" if o.label else o.name for o in recording.optimizers]
    report.sources = {f.location.filename: recording.sources.get(f.location.filename, "") for f in report.findings if f.location}
    report.sources.update({r.location.filename: recording.sources.get(r.location.filename, "") for f in report.findings for r in f.related})
    report.notes = _notes(recording) + report.notes
    if recording.ops:
        report.recording, report.alive = recording, recorder.gradients.living_losses()
    if models:
        _limit(report, models)


def reach(recording: Recording) -> None:
    """Mark the parameters that some loss depends on."""
    from ..flow.cuts import graph_of

    graph = graph_of(recording)
    found = 0
    for losses in dict.fromkeys(e.losses for e in recording.events if e.kind in ("backward", "grad") and e.losses):
        found |= graph.cone(losses).reached()
    for number, parameter in enumerate(recording.parameters):
        parameter.reached = bool(found >> number & 1)


def rows(recording: Recording, models: list[str] | None, findings: list[Finding]) -> list[ParameterRow]:
    """The parameter table, in the order the modules define."""
    part = parts(recording, [name for f in findings if f.severity != "info" for name in f.affected])
    return [
        ParameterRow(p.name, p.shape, p.dtype, p.device, p.trainable, p.reached, p.gradient, p.grad_norm, p.optimizer, p.moved, part[id(p)])
        for p in listed(recording)
        if not models or p.root in models or p.name.split(".")[0] in models
    ]


def _losses(recording: Recording, only: str | None) -> list[LossRow]:
    from ..flow.cuts import graph_of, loss_text

    graph = graph_of(recording)
    found = []
    for loss in recording.losses:
        event = recording.events[loss.index]
        name = loss_text(graph, graph.cone(event.losses)) if event.losses else "loss"
        if only is None or only in name:
            found.append(LossRow(name, loss.value, recording.location(loss.stack), loss.has_grad_fn))
    return found


def _notes(recording: Recording) -> list[str]:
    notes = list(recording.notes)
    kinds = {e.kind for e in recording.events}
    if not kinds & {"backward", "grad", "step"} and recording.raised is None:
        if recording.cells:
            notes.append("no backward() ran in this cell: put %%gradcheck on the cell that trains (the one that calls loss.backward())")
        else:
            notes.append("no backward() ran in this process; what other processes do, started by this one, is not recorded")
    if recording.counted_steps:
        notes.append(
            f"the first optimizer steps were recorded in full, {recording.counted_steps} more were counted (--steps N records more)"
        )
    return notes


def _limit(report: Report, models: list[str]) -> None:
    """``--model``: keep what concerns these modules, and what concerns no parameter at all."""
    names = {p.name for p in report.parameters}
    report.findings = [f for f in report.findings if not f.affected or any(a in names for a in f.affected)]
