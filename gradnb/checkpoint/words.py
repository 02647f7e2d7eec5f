"""What a Checkpointer says: sizes, times, lists, in words."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from ..report.words import plural as plural  # a part of what a Checkpointer says, too
from .model import Damage, Manifest


def size(count: float) -> str:
    """Bytes for a reader: 312 MB."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "bytes" or count >= 100 else f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def when(seconds: float) -> str:
    """A time in the reader's own time zone."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def number(value: float) -> str:
    """A metric, never rounded to 0."""
    return f"{value:.4g}" if value == 0 or abs(value) >= 1e-3 else f"{value:.2e}"


def stands(manifest: Manifest) -> str:
    """Where it was saved: ``step 150 (epoch 3, batch 12)``. Epochs are counted from 0, as ``loop`` gives them."""
    if manifest.epoch is None:
        return f"step {manifest.step:,}"
    batch = f", batch {manifest.batch:,}" if manifest.batch else ""
    return f"step {manifest.step:,} (epoch {manifest.epoch}{batch})"


def metrics(found: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {number(value)}" for name, value in found.items())


def damaged(found: Sequence[Damage]) -> str:
    """One line for a few, a count for the rest."""
    shown = "; ".join(f"{one.what}: {one.file} {one.why}" for one in found[:3])
    return shown + (f"; and {len(found) - 3} more" if len(found) > 3 else "")


def table(rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> str:
    """Columns of equal width; those in ``right`` are set to the right."""
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.rjust(width) if at in right else cell.ljust(width) for at, (cell, width) in enumerate(zip(row, widths))).rstrip()
        for row in rows
    )


class Listing(list[Manifest]):
    """Checkpoints, newest first: a list of Manifest that shows itself as a table. ``marks``: what else to say of some, by serial."""

    def __init__(
        self,
        manifests: Sequence[Manifest],
        place: str,
        best: Manifest | None = None,
        marks: Mapping[int, str] | None = None,
        damage: Sequence[Damage] = (),
    ):
        super().__init__(manifests)
        self._place, self._best, self._marks = place, best, dict(marks or {})
        self._damage = f"\nleft out, damaged: {damaged(damage)}" if damage else ""

    def __repr__(self) -> str:
        if not self:
            return f"no checkpoints in {self._place}{self._damage}"
        rows = [("id", "step", "epoch", "batch", "saved", "size", "")]
        for one in self:
            marks = ["best"] if self._best is not None and one.serial == self._best.serial else []
            marks += [self._marks[one.serial]] if one.serial in self._marks else []
            note = "  ".join(filter(None, [metrics(one.metrics), ", ".join(marks)]))
            rows.append((one.id, f"{one.step:,}", _or_dash(one.epoch), _or_dash(one.batch), when(one.time), size(one.size), note))
        return f"{plural(len(self), 'checkpoint')} in {self._place}\n{table(rows, right=(1, 2, 3, 5))}{self._damage}"


def _or_dash(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"
