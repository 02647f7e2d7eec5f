"""Prints the report on stderr and writes the files that were asked for."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TextIO

from .. import __version__
from ..report.report import Report


class Output:
    """The stderr of the start: a script may point ``sys.stderr`` elsewhere, or close it."""

    def __init__(self) -> None:
        self.stream: TextIO | None = sys.stderr

    def write(self, text: str) -> None:
        """Whole lines, behind what the script has printed. A reader that went away stops nothing."""
        with suppress(OSError, ValueError, AttributeError):
            sys.stdout.flush()
        with suppress(OSError, ValueError):
            if self.stream is not None:
                self.stream.write(text + "\n")
                self.stream.flush()

    def tell(self, text: str) -> None:
        self.write("gradnb: " + " ".join(text.split()))

    def fault(self, what: str) -> None:
        """A bug of gradnb's own: named so that it can be reported."""
        self.tell(f"internal problem ({what[:300]}); the script is untouched. Please report this line, gradnb {__version__}.")

    def guarded(self, action: Callable[..., Any], *args: Any) -> Any:
        """Do it; a fault of gradnb's own is told in one line and stops nothing."""
        try:
            return action(*args)
        except Exception as error:
            self.fault(f"{type(error).__name__}: {error}")
            return None

    def show(self, report: Report, *, quiet: bool) -> None:
        if not quiet or report.verdict != "ok":
            self.write(repr(report))

    def file(self, option: str, path: str | None, render: Callable[[], str]) -> None:
        """Write a file whole or not at all."""
        if path is None:
            return
        text = render()
        half = f"{path}.{os.getpid()}.part"
        try:
            if os.path.exists(path) and not os.path.isfile(path):  # a device or a pipe takes it directly
                half = path
            with open(half, "w", encoding="utf-8") as file:
                file.write(text)
            if half != path:
                os.replace(half, path)
        except OSError as error:
            self.tell(f"{option} {path} was not written: {error.strerror or error}")


def as_json(report: Report, ranks: dict[int, Report] | None) -> str:
    """``to_dict()``; under torchrun with what each rank saw under ``"ranks"``."""
    data = report.to_dict()
    if ranks is not None:
        data["ranks"] = [{"rank": rank, **ranks[rank].to_dict()} for rank in sorted(ranks)]
    return json.dumps(data, indent=1)
