"""A fixed set of places, overwritten in turn: rotation deletes nothing, so nothing fills the trash of a Drive."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable
from typing import Any

from ..errors import UsageError
from .model import Manifest

KeepBest = tuple[str, str]
"""A metric and ``"max"`` or ``"min"``."""
SHARED = "shared-"
MANIFEST = "manifest"
_OURS = re.compile(r"slot-(\d{1,6})\.([a-z0-9.]+)")


def rule(keep_best: Any) -> KeepBest | None:
    """What a user gave as ``keep_best``. UsageError where it is neither None nor a metric with a direction."""
    if keep_best is None:
        return None
    pair = isinstance(keep_best, (tuple, list)) and len(keep_best) == 2
    if not (pair and isinstance(keep_best[0], str) and keep_best[1] in ("max", "min")):
        raise UsageError(f'keep_best={keep_best!r}: a metric and which way is better, ("accuracy", "max") or ("loss", "min"), is expected.')
    return keep_best[0], keep_best[1]


def place(slot: int, name: str) -> str:
    """The file name of a record: shared files stand by themselves, the others in their slot (``slot-3.safetensors``)."""
    return name if name.startswith(SHARED) else f"slot-{slot}.{name}"


def split(file: str) -> tuple[int, str] | None:
    """Slot and name of a file that `place` named; None for any other file."""
    match = _OURS.fullmatch(file)
    return (int(match[1]), match[2]) if match and str(int(match[1])) == match[1] else None


def newest_first(manifests: Iterable[Manifest]) -> list[Manifest]:
    return sorted(manifests, key=lambda manifest: (manifest.serial, manifest.time), reverse=True)


def best(manifests: Iterable[Manifest], keep_best: KeepBest | None) -> Manifest | None:
    """The checkpoint with the best metric. NaN never wins, of equal ones the older stays, one without the metric is no candidate."""
    if keep_best is None:
        return None
    metric, mode = keep_best
    sign = 1.0 if mode == "max" else -1.0
    candidates = [(manifest, manifest.metrics.get(metric, math.nan)) for manifest in newest_first(manifests)]
    rated = [(sign * value, -manifest.serial, manifest) for manifest, value in candidates if not math.isnan(value)]
    return max(rated, key=lambda entry: entry[:2])[2] if rated else None


def keep(manifests: Iterable[Manifest], keep_last: int, keep_best: KeepBest | None = None) -> list[Manifest]:
    """The checkpoints that live, newest first: the last `keep_last` and the best one."""
    ordered = newest_first(manifests)
    winner = best(ordered, keep_best)
    return [manifest for number, manifest in enumerate(ordered) if number < keep_last or manifest is winner]


def count(keep_last: int, keep_best: KeepBest | None = None) -> int:
    """How many slots are enough: one for each that lives, and one that is being written."""
    return keep_last + (keep_best is not None) + 1


def choose(manifests: Iterable[Manifest], keep_last: int, keep_best: KeepBest | None = None, pinned: Collection[int] = ()) -> int:
    """The slot to write next; never one that holds a living checkpoint or is in `pinned`.

    A slot without a good manifest comes first, then the one with the oldest checkpoint, then a new number.
    """
    manifests = list(manifests)
    held = {manifest.slot for manifest in keep(manifests, keep_last, keep_best)} | set(pinned)
    used = {manifest.slot for manifest in manifests}
    top = max(used | held, default=-1) + 1
    gaps = [slot for slot in range(top) if slot not in used and slot not in held]
    old = [manifest.slot for manifest in reversed(newest_first(manifests)) if manifest.slot not in held]
    return next(iter([*gaps, *old, top]))
