"""Checkpoints that survive anything: exact resume from a folder, a Drive mount, or the Drive API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .checkpointer import Checkpointer
from .errors import CheckpointError, DamagedError, MismatchError, NoCheckpointError, QuotaError, RemoteError, WriteError
from .model import Damage, Manifest

if TYPE_CHECKING:
    from .drive_api import DriveAPI
    from .mount import DriveMount

__all__ = [
    "CheckpointError",
    "Checkpointer",
    "Damage",
    "DamagedError",
    "DriveAPI",
    "DriveMount",
    "Manifest",
    "MismatchError",
    "NoCheckpointError",
    "QuotaError",
    "RemoteError",
    "WriteError",
]


def __getattr__(name: str) -> Any:
    """The stores, where they are used: one needs the client of the Drive API."""
    if name == "DriveAPI":
        from .drive_api import DriveAPI

        return DriveAPI
    if name == "DriveMount":
        from .mount import DriveMount

        return DriveMount
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
