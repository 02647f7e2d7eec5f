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
    from . import (
        accumulation,
        autocast,
        constant,
        cuts,
        died,
        diluted,
        errors,
        inert,
        loop,
        magnitude,
        nonfinite,
        scaler_errors,
        scaling,
        signs,
        training_mode,
        wiring,
        zero,
    )
    from .errors.broadcast import broadcast
    from .errors.stale import stale
    from .errors.targets import unnoticed
    from .errors.unreached import unreached

    found: list[Lead] = []
    # later analyses ask what earlier ones explained, so the order matters
    for analysis in (
        nonfinite.nonfinite,
        errors.raised,
        cuts.lost,
        unreached,
        scaler_errors.scaler_errors,
        constant.constants,
        zero.zeros,
        died.died,
        magnitude.magnitudes,
        wiring.wiring,
        inert.inert,
        loop.loop,
        accumulation.accumulation,
        scaling.scaling,
        autocast.autocast,
        training_mode.training_mode,
        signs.sign,
        diluted.diluted,
        broadcast,
        unnoticed,
        stale,
    ):
        try:
            found.extend(analysis(recording))
        except Exception as fault:  # the others still have something to say
            recording.notes.append(f"the analysis {analysis.__name__} failed and was skipped: {type(fault).__name__}: {fault}")
    told = recording.memo.get("told", ())  # cuts that another lead tells as its reason
    return [lead for lead in found if not any(lead is other for other in told)]
