"""Checkpoints that survive anything: exact resume from a folder, a Drive mount, or the Drive API."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .checkpointer import Checkpointer
    from .drive_api import DriveAPI
    from .errors import CheckpointError, DamagedError, MismatchError, NoCheckpointError, QuotaError, RemoteError, WriteError
    from .model import Damage, Manifest
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

_HOME = {"Checkpointer": "checkpointer", "DriveAPI": "drive_api", "DriveMount": "mount", "Damage": "model", "Manifest": "model"}
"""The file of each name, the errors' aside: imported when it is used, for most who import gradnb save no checkpoint."""


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(importlib.import_module(f".{_HOME.get(name, 'errors')}", __name__), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
