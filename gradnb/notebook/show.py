"""Shows the report, writes it to files, and says in one line on stderr what went wrong inside gradnb."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..errors import UsageError
from ..report.files import write

if TYPE_CHECKING:
    from ..report.report import Report


def deliver(shell: Any, report: Report, args: Namespace) -> None:
    """Write the files that were asked for, then show the report, unless ``--quiet`` finds nothing worth a word."""
    if args.html:
        _write(args.html, "--html", report.to_html)
    if args.json:
        _write(args.json, "--json", lambda: json.dumps(report.to_dict(), indent=1))
    if not args.quiet or report.verdict != "ok":
        publish(shell, report)


def publish(shell: Any, report: Any) -> None:
    """Show it as text and html: never as a widget, which a saved notebook could not show again."""
    bundle = {"text/plain": repr(report)}
    try:
        bundle["text/html"] = report._repr_html_()
    except Exception as error:
        tell_fault(error)
    shell.display_pub.publish(data=bundle, metadata={})


def guarded(action: Callable[..., Any], *args: Any) -> None:
    """Do it; a fault of gradnb's own is told in one line and stops nothing."""
    try:
        action(*args)
    except Exception as error:
        tell_fault(error)


def tell(text: str) -> None:
    """One line on stderr."""
    sys.stdout.flush()
    print("gradnb: " + " ".join(text.split()), file=sys.stderr, flush=True)


def tell_fault(error: BaseException) -> None:
    """A bug of gradnb's: named so that it can be reported, with the cell untouched by it."""
    _tell_internal(f"{type(error).__name__}: {error}")


def tell_problem(check: Any) -> None:
    """What the check itself caught of its own faults."""
    problem = getattr(check, "problem", None)
    if problem:
        text = str(problem)
        tell(text.removeprefix("gradnb:")) if text.startswith("gradnb:") else _tell_internal(text)


def _tell_internal(what: str) -> None:
    """Say that the fault is gradnb's, and what a report of it needs."""
    version = getattr(sys.modules.get("gradnb"), "__version__", "of unknown version")
    tell(f"internal problem ({what[:300]}); your cell is untouched. Please report this line at the project's issues, gradnb {version}.")


def _write(name: str, option: str, render: Callable[[], str]) -> None:
    try:
        text = render()
    except Exception as error:
        tell_fault(error)
        return
    try:
        write(text, name)
    except UsageError as error:
        tell(f"{option} {error}")
