"""Terms that enter a loss with the wrong sign, told by the direction in which backward pushed them."""

from __future__ import annotations

from ...recorder.recording import Recording
from ..cuts import graph_of
from ..lead import Lead
from ..rounds import feeds, held
from .adversaries import adversaries
from .classes import overlap, picked, soft_targets
from .error import error
from .likelihood import divergence, gaussian_divergence, likelihood
from .policy import entropy, own_samples, policy
from .similarity import cosine

_FINDERS = (entropy, own_samples, policy, likelihood, divergence, gaussian_divergence, soft_targets, picked, overlap, cosine, error)


def sign(recording: Recording) -> list[Lead]:
    """At most one lead for each training line."""
    leads = []
    for event in recording.events:
        if event.kind != "backward" or not event.signs or not event.losses or not event.ok:
            continue
        cone = graph_of(recording).cone(event.losses)
        stepped = [i for i, o in enumerate(recording.optimizers) if o.steps and feeds(recording, event) & held(recording, i)]
        if not stepped:
            continue
        up = any(recording.optimizers[i].maximize for i in stepped)  # what the loss should be small for, it is now large for
        for find in (error,) if up else _FINDERS:
            lead = find(recording, event, cone)
            if lead is not None:
                leads.append(lead)
                break
    leads.extend(adversaries(recording))
    return leads
