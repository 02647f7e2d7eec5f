"""What can go wrong with a checkpoint. Every message names what, where, and what to do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..errors import in_notebook

if TYPE_CHECKING:
    from .model import Damage


class CheckpointError(RuntimeError):
    """Something is wrong with a checkpoint: the base of all errors here."""

    def _render_traceback_(self) -> list[str]:
        return in_notebook(self)


class NoCheckpointError(CheckpointError):
    """``resume="must"``, ``latest()`` or ``load(id)`` found none."""


class DamagedError(CheckpointError):
    """A checkpoint cannot be read.

    Parameters
    ----------
    message
        What, where, and what to do.
    damage
        Which files, and why: a list of Damage.
    """

    def __init__(self, message: str, damage: Sequence[Damage] = ()):
        super().__init__(message)
        self.damage = list(damage)


class NewerFormatError(DamagedError):
    """A newer gradnb wrote it. It is whole, so its slot is never written over."""


class MismatchError(CheckpointError):
    """What is saved does not fit what is tracked; the message lists names, shapes and dtypes that differ. Nothing was loaded."""


class WriteError(CheckpointError):
    """A checkpoint could not be written (disk full, no permission); the older ones are as they were."""


class RemoteError(CheckpointError):
    """The remote store failed.

    Parameters
    ----------
    message
        What, where, and what to do, where that is not in ``todo``.
    again
        Can trying later help.
    todo
        What to do; ``what`` is the message without it, for where it was said before.
    """

    def __init__(self, message: str, again: bool = True, todo: str = ""):
        super().__init__(f"{message} {todo}".rstrip())
        self.what, self.again = message, again


class QuotaError(RemoteError):
    """The remote store is full.

    Parameters
    ----------
    message
        It names what is used or free, and the size needed.
    """

    def __init__(self, message: str):
        super().__init__(message, again=True)
