"""How a place on Google Drive is written: ``MyDrive/run1``, the same for the mount and for the API."""

from __future__ import annotations

from ..errors import UsageError

MY_DRIVE = "MyDrive"
_SPELLINGS = ("MyDrive", "My Drive")
_OTHER_ROOTS = ("Shareddrives", "Shared drives", "Othercomputers")
_EXAMPLE = 'write it like "drive:MyDrive/run1"'


def parts(text: str) -> tuple[str, ...]:
    """``"MyDrive/a/b"`` -> ``("MyDrive", "a", "b")``; a first part that is no root of Drive stands below MyDrive.

    Raises UsageError for an empty or absolute path, for ``..``, and for a root without a folder in it.
    """
    if not isinstance(text, str) or not text.strip():
        raise UsageError(f"A place on Google Drive needs a folder's name; {_EXAMPLE}, not {text!r}.")
    if text.startswith(("/", "\\", "~")) or "\\" in text or text[1:2] == ":":
        raise UsageError(f"{text!r} looks like a path of this machine; a place on Google Drive is relative to its root: {_EXAMPLE}.")
    found = [part.strip() for part in text.split("/") if part.strip() not in ("", ".")]
    if ".." in found:
        raise UsageError(f"{text!r} goes up by '..'; name the folder from the root of Drive: {_EXAMPLE}.")
    if found and found[0] in _SPELLINGS:
        found[0] = MY_DRIVE
    elif found and found[0] not in _OTHER_ROOTS:
        found.insert(0, MY_DRIVE)
    if len(found) < 2:
        raise UsageError(f"{text!r} names no folder: checkpoints need a folder of their own; {_EXAMPLE}.")
    return tuple(found)
