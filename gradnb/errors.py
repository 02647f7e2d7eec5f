"""Errors that gradnb raises on purpose."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .report.report import Report


class GradientError(Exception):
    """Raised by ``%%gradcheck --fail`` when a finding has severity error.

    Parameters
    ----------
    message
        The first error, and how many more there are.
    report
        The whole Report.
    """

    def __init__(self, message: str, report: "Report | None" = None):
        super().__init__(message)
        self.report = report


class GradientFlowError(AssertionError):
    """Raised by ``gradnb.assert_gradients_flow``. It is an AssertionError, so that a test fails by it.

    Parameters
    ----------
    message
        The parameters, the line, the cause and the repair.
    report
        The Report where the loss was recorded, else None.
    """

    def __init__(self, message: str, report: "Report | None" = None):
        super().__init__(message)
        self.report = report


class UsageError(ValueError):
    """gradnb was asked for something it cannot do; the message says what was given, expected, and what to do."""

    def _render_traceback_(self) -> list[str]:
        return in_notebook(self)


def in_notebook(error: BaseException) -> list[str]:
    """How IPython shows it: without the frames of gradnb, which are no news to the user."""
    from .notebook.errors import users_frames

    return users_frames(error)
