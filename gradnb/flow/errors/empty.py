"""An optimizer that was refused an empty list of parameters."""

from __future__ import annotations

from ...recorder.recording import Recording
from ..lead import Lead
from ..places import generator_of


def used_up(recording: Recording) -> list[Lead]:
    """The list is a generator that something else had read before: a count of the parameters, a log."""
    raised, failed = recording.raised, next((o for o in recording.optimizers if o.failed), None)
    if raised is None or failed is None or "empty parameter list" not in raised.message:
        return []
    place = generator_of(recording, failed.stack)
    if place is None:
        return []
    lead = Lead("not-in-optimizer", place, rank=95, affected=[p.name for p in recording.parameters if p.registered])
    lead.expression, lead.details = place.code, {"exhausted": True, "raised": True, "optimizer": failed.label or failed.name}
    lead.related.append((recording.sites[failed.site], "so the optimizer gets an empty list here"))
    return [lead]
