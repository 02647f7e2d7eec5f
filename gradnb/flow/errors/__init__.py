"""What ended the cell, where it is a gradient error whose cause lies elsewhere than the line that raised."""

from __future__ import annotations

from ...recorder.recording import Recording
from ..lead import Lead
from .again import again
from .dtypes import dtypes
from .empty import used_up
from .inference import inference
from .inplace import modified
from .leaf import leaf
from .number import number
from .returned import returned
from .scalar import scalar
from .targets import targets
from .twice import twice
from .vectors import vectors


def raised(recording: Recording) -> list[Lead]:
    """Leads for the error that the cell died of: the first file that knows it speaks."""
    if recording.raised is None:
        return []
    for find in (scalar, inference, number, again, twice, leaf, modified, vectors, targets, dtypes, used_up, returned):
        try:
            found = find(recording)
        except Exception as fault:  # the others may know the error
            recording.notes.append(f"the analysis {find.__name__} failed and was skipped: {type(fault).__name__}: {fault}")
            continue
        if found:
            return found
    return []
