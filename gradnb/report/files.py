"""Text into a file that the user named."""

from __future__ import annotations

import os

from ..errors import UsageError


def write(text: str, file: str | os.PathLike[str], newline: str | None = None) -> None:
    """``~`` is the home folder. UsageError where the file cannot be written."""
    refused = ""
    try:
        with open(os.path.expanduser(file), "w", encoding="utf-8", newline=newline) as handle:
            handle.write(text)
    except OSError as error:
        refused = (
            f"{os.fspath(file)} was not written: {error.strerror or error}. Name a file in a folder that exists and can be written to."
        )
    if refused:
        raise UsageError(refused)
