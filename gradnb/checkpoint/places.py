"""Where checkpoints are kept: a text, a path or a store becomes a folder on this machine and, maybe, a store beyond it."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import sys
from pathlib import Path
from typing import Any

from ..errors import UsageError
from . import drive_path
from .model import Remote
from .mount import MOUNTPOINT, DriveMount

CACHE = "GRADNB_CHECKPOINTS"
"""The environment variable with the folder for local copies of remote checkpoints; else ``~/.cache/gradnb/checkpoints``."""
MOUNTED_AT = "GRADNB_DRIVE_MOUNT"
"""The environment variable that says where Google Drive is mounted, where that is not Colab."""
_METHODS = ("list", "put", "get", "read", "write", "remove", "free")
_POSSIBLE = 'a folder ("runs/a", a pathlib.Path), "drive:MyDrive/run1", or a store such as gradnb.checkpoint.DriveAPI("MyDrive/run1")'


def where(target: "str | os.PathLike[str] | Remote", local: "str | os.PathLike[str] | None" = None) -> tuple[Path, Remote | None]:
    """The local folder and the store behind it (None for a plain folder). Nothing is made, mounted or asked yet.

    ``drive:`` is the mount in Colab (or where ``$GRADNB_DRIVE_MOUNT`` names one), and the Drive API elsewhere; a path below the mount
    is the same place.

    Raises UsageError for what is no place, and what DriveAPI raises.
    """
    remote = _remote(target)
    if remote is not None:
        return (_path(local, "local") if local is not None else _cache(remote.name)), remote
    if local is not None:
        raise UsageError(f"local={str(local)!r} goes with a remote place; {str(target)!r} is a folder of this machine already.")
    return _path(target, "place"), None


def _remote(target: Any) -> Remote | None:
    if isinstance(target, (str, os.PathLike)):
        text = os.fspath(target)
        if not isinstance(text, str):
            raise UsageError(f"{target!r} is no place for checkpoints; what is possible: {_POSSIBLE}.")
        scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]+):", text) if isinstance(target, str) else None  # one letter is a drive of Windows
        if scheme is not None and scheme[1].lower() == "drive":
            return _drive(text[scheme.end() :])
        if scheme is not None:
            raise UsageError(f"{text!r}: {scheme[1]}: is no place that gradnb knows; what is possible: {_POSSIBLE}.")
        return _below_mount(text)
    missing = [name for name in _METHODS if not callable(getattr(target, name, None))]
    if missing or not isinstance(getattr(target, "name", None), str):
        lacks = f" (it has no {', '.join(missing or ['name'])})" if not isinstance(target, (int, float, type(None))) else ""
        raise UsageError(f"{target!r} is no place for checkpoints{lacks}; what is possible: {_POSSIBLE}.")
    return target


def _drive(folder: str) -> Remote:
    drive_path.parts(folder)  # a wrong place is said before anything of Google is looked for
    if MOUNTED_AT in os.environ:
        return DriveMount(folder, os.environ[MOUNTED_AT])
    if in_colab():
        return DriveMount(folder)
    from .drive_api import DriveAPI

    return DriveAPI(folder)


def _below_mount(text: str) -> Remote | None:
    """A path such as /content/drive/MyDrive/run1: written to directly it would be slow, and lost with the mount."""
    path = Path(text).expanduser()
    for mountpoint in filter(None, [os.environ.get(MOUNTED_AT), MOUNTPOINT]):
        if path.is_absolute() and path.is_relative_to(mountpoint):
            return DriveMount(path.relative_to(mountpoint).as_posix(), mountpoint)
    return None


def in_colab() -> bool:
    """Is this a Colab runtime: its module is there, and its folder?"""
    try:
        there = "google.colab" in sys.modules or importlib.util.find_spec("google.colab") is not None
    except (ImportError, ValueError):
        there = False
    return there and Path(MOUNTPOINT).parent.is_dir()


def _path(given: "str | os.PathLike[str] | Any", what: str) -> Path:
    if not isinstance(given, (str, os.PathLike)) or not str(given).strip():
        raise UsageError(f"{what}={given!r} is no folder; what is possible: {_POSSIBLE}.")
    return Path(given).expanduser()


def _cache(name: str) -> Path:
    """A folder for the local copies that its name tells; the hash tells places apart that read alike."""
    root = os.environ.get(CACHE)
    base = Path(root).expanduser() if root else Path.home() / ".cache" / "gradnb" / "checkpoints"
    readable = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")[-60:] or "place"
    return base / f"{readable}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
