"""Whether a checkpoint fits on the disk, and what is said when it does not."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from . import disk, survey
from .errors import WriteError
from .slots import place
from .words import size as human


def need(path: Path, slot: int, spare: Iterable[int], nbytes: int, keep_last: int) -> None:
    """See that `nbytes` fit over `slot`. Where they fit only without the `spare` slots, which hold nothing that lives, remove those.

    Raises WriteError, with nothing removed, when they do not fit even then.
    """
    free, spare = _free(path), list(spare)
    if free is None or nbytes <= free + _occupied(path, [slot]):
        return
    if nbytes > free + _occupied(path, [slot, *spare]):
        raise WriteError(full(path, nbytes, keep_last))
    for other in spare:
        survey.remove(path, other)


def full(path: Path, nbytes: int, keep_last: int, why: str = "") -> str:
    """What to say: the bytes needed, the bytes free, the folder."""
    free = _free(path)
    room = "" if free is None else f", and {human(free)} are free"
    fewer = f", or keep fewer than {keep_last}" if keep_last > 1 else ""
    return (
        f"No room for a checkpoint in {path}{why and f' ({why})'}: about {human(nbytes)} are needed{room}. "
        f"The older checkpoints are as they were; make room there{fewer}."
    )


@contextlib.contextmanager
def told(path: Path, nbytes: int = 0, keep_last: int = 1) -> Iterator[None]:
    """OSError becomes a WriteError that says what to do."""
    try:
        yield
    except OSError as error:
        why = error.strerror or str(error)
        if nbytes and error.errno in disk.FULL:
            raise WriteError(full(path, nbytes, keep_last, why)) from error
        raise WriteError(f"No checkpoint could be written into {path}: {why}. The others are as they were.") from error


def _occupied(path: Path, slots: Iterable[int]) -> int:
    """Bytes that writing over these slots, or removing them, gives back."""
    found = survey.named(path)
    return sum(disk.size(path / place(slot, name)) or 0 for slot in slots for name in found.get(slot, ()))


def _free(path: Path) -> int | None:
    """Bytes that still fit; None where the file system does not tell."""
    try:
        usage = shutil.disk_usage(path)
    except OSError:
        return None
    return usage.free if usage.total else None
