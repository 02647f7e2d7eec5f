"""A manifest as bytes: one line of JSON, then the SHA-256 of that line. One changed bit anywhere makes it unreadable.

A manifest that begins with a zero byte is not finished: so what a kill leaves is told apart from a file that was cut or damaged later.
"""

from __future__ import annotations

import hashlib
import json
import math
import platform
import re
from pathlib import Path
from typing import Any

import torch

from . import disk
from .errors import DamagedError, NewerFormatError
from .model import FORMAT, Damage, FileRecord, Manifest

_NAME = re.compile(r"(?!manifest$)(shared-[0-9a-f]{16}\.safetensors|[a-z0-9]+(\.[a-z0-9]+)*)")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_KIND = "checkpoint"
VOID = b"\0"
"""What stands in the place of a manifest while its checkpoint is written."""
UNFINISHED = "is of a save that was not finished"


def render(manifest: Manifest) -> bytes:
    """The bytes of a manifest; `parse` gives it back."""
    line = json.dumps(
        {
            "gradnb": _KIND,
            "format": manifest.format,
            "slot": manifest.slot,
            "serial": manifest.serial,
            "step": manifest.step,
            "epoch": manifest.epoch,
            "batch": manifest.batch,
            # JSON has no NaN and no infinity.
            "metrics": {name: value if math.isfinite(value) else str(value) for name, value in manifest.metrics.items()},
            "reason": manifest.reason,
            "time": manifest.time,
            "world": manifest.world,
            "files": [[record.name, record.size, record.sha256] for record in manifest.files],
            "versions": dict(manifest.versions),
        },
        separators=(",", ":"),
        allow_nan=False,
    ).encode("ascii")
    return line + b"\n" + hashlib.sha256(line).hexdigest().encode("ascii") + b"\n"


def parse(data: bytes, file: str = "the manifest") -> Manifest:
    """The manifest in `data`, the content of `file`. Raises DamagedError, or NewerFormatError for one that a newer gradnb wrote."""
    if not data:
        raise _damaged(file, "is empty")
    if data.startswith(VOID):
        raise _damaged(file, UNFINISHED)
    line, newline, checksum = data.partition(b"\n")
    if not newline:
        raise _damaged(file, "is cut off, or no manifest")
    if checksum != hashlib.sha256(line).hexdigest().encode("ascii") + b"\n":
        raise _damaged(file, "does not match its own checksum")
    try:
        content = json.loads(line)
        written = content["format"]
        if content["gradnb"] != _KIND or type(written) is not int:
            raise ValueError
    except (ValueError, KeyError, TypeError, RecursionError):
        raise _damaged(file, "is no manifest of gradnb") from None
    if written > FORMAT:
        why = f"was written by a newer gradnb (format {written}, this one reads up to {FORMAT}); pip install -U gradnb"
        raise NewerFormatError(f"{file} {why}", [Damage(file, file, why)])
    try:
        return _manifest(content)
    except (ValueError, KeyError, TypeError) as error:
        raise _damaged(file, f"has a checksum that fits and content that does not ({type(error).__name__}: {error})") from None


def _manifest(content: dict[str, Any]) -> Manifest:
    records = tuple(FileRecord(str(name), int(size), str(sha256)) for name, size, sha256 in content["files"])
    for record in records:
        # The names become paths: nothing that leads out of the folder.
        if not _NAME.fullmatch(record.name) or not _SHA256.fullmatch(record.sha256) or record.size < 0:
            raise ValueError(f"file {record.name!r}")
    return Manifest(
        slot=int(content["slot"]),
        serial=int(content["serial"]),
        step=int(content["step"]),
        epoch=None if content["epoch"] is None else int(content["epoch"]),
        batch=None if content["batch"] is None else int(content["batch"]),
        metrics={str(name): float(value) for name, value in content["metrics"].items()},
        reason=str(content["reason"]),
        time=float(content["time"]),
        files=records,
        versions={str(name): str(version) for name, version in content["versions"].items()},
        world=int(content["world"]),
        format=int(content["format"]),
    )


def write(path: Path, manifest: Manifest) -> None:
    """Commit: the last byte that is written is the first of the file."""
    data = render(manifest)
    disk.overwrite(path, [VOID + data[1:]])
    disk.first_byte(path, data[:1])


def versions() -> dict[str, str]:
    """What writes now."""
    from .. import __version__

    return {"gradnb": __version__, "torch": torch.__version__, "python": platform.python_version()}


def _damaged(file: str, why: str) -> DamagedError:
    return DamagedError(f"{file} {why}", [Damage(file, file, why)])
