"""Facts about lost gradients, worked out from a Recording; the diagnoses put them into words."""

from __future__ import annotations

from ..recorder.recording import Recording
from .lead import Lead

__all__ = ["Lead", "leads"]


def leads(recording: Recording, cause: str) -> list[Lead]:
    """The leads for one cause. Every analysis runs once for a recording, whoever asks first."""
    if "leads" not in recording.memo:
        recording.memo["leads"] = _all(recording)
    return [lead for lead in recording.memo["leads"] if lead.cause == cause]


def _all(recording: Recording) -> list[Lead]:
    from . import cuts, inert, loop, raised, wiring, zero

    found: list[Lead] = []
    # later analyses ask what earlier ones explained, so the order matters
    for analysis in (raised.raised, cuts.lost, zero.zeros, wiring.wiring, inert.inert, loop.loop):
        try:
            found.extend(analysis(recording))
        except Exception as fault:  # the others still have something to say
            recording.notes.append(f"the analysis {analysis.__name__} failed and was skipped: {type(fault).__name__}: {fault}")
    return found
