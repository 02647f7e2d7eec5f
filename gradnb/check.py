"""``gradnb.check()``: record a block of code, diagnose it, and hand back the report."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager, suppress
from types import CodeType, TracebackType
from typing import TYPE_CHECKING, Any, Iterator, Literal

from .errors import UsageError
from .recorder.frames import Frames, user_frame, visible_names
from .recorder.recorder import Recorder
from .report.assemble import fill
from .report.report import Report

if TYPE_CHECKING:
    from .numeric.calls import Calls

_last: Report | None = None
_running: "Check | None" = None
_recording: "list[Check]" = []  # the running one, and those that are paused around it
_watches_forks = False


def last_report() -> Report | None:
    """The newest Report of this process.

    Returns
    -------
    Report or None
        None before the first check.
    """
    return _last


class Check:
    """Records the block inside ``with``; the Report it gives is filled in when the block ends.

    ``steps`` is the number of optimizer steps recorded in full; ``models`` and ``loss`` name variables of the namespace to
    which the report is limited; ``cells`` maps code file names to execution counts; ``numeric`` compares the backward of
    each custom Function with finite differences afterwards.
    """

    def __init__(
        self,
        *,
        steps: int = 5,
        models: list[str] | None = None,
        loss: str | None = None,
        graph: bool = True,
        namespace: dict[str, Any] | None = None,
        cells: dict[str, int] | None = None,
        runners: set[CodeType] | None = None,
        numeric: bool = False,
    ):
        if not isinstance(steps, int) or isinstance(steps, bool) or steps < 1:
            raise UsageError(f"steps={steps!r} given; a whole number of optimizer steps, 1 or more, is expected: check(steps=5)")
        self.steps, self.models, self.loss = steps, models, loss
        self.namespace, self.cells, self.runners = namespace, cells, runners
        self.numeric = numeric
        self.calls: Calls | None = None
        self.report = Report(show_graph=graph)
        self.problem: str | None = None
        self.recorder: Recorder | None = None
        self._outer: Check | None = None
        self._process = 0

    def __enter__(self) -> Report:
        global _running
        self._process = os.getpid()
        if _running is not None:
            self._outer = _running
            self.report.notes.append("this check runs inside another one; the outer report covers it")
            return self.report
        try:
            _watch_forks()
            namespace, cells = self.namespace, self.cells
            if namespace is None:
                namespace = _callers_names()
            if cells is None:
                cells = _cells()
            self.recorder = Recorder(steps=self.steps, namespace=namespace, cells=cells, runners=self.runners)
            if self.numeric:
                from .numeric.calls import Calls

                self.calls = self.recorder.observer = Calls(self.recorder.frames)
            _recording.append(self)
            self.recorder.start()
            _running = self
        except Exception as error:
            self._fault(error)
            self._abandon()
        return self.report

    def __exit__(self, kind: type | None, error: BaseException | None, traceback: TracebackType | None) -> Literal[False]:
        global _last, _running
        if self._outer is not None or self._process != os.getpid():
            return False  # the outer check reports; a forked child has nothing to report at all
        _running = None
        recorder, self.recorder = self.recorder, None
        with suppress(ValueError):
            _recording.remove(self)
        try:
            if recorder is not None:
                recorder.stop(error)
                fill(self.report, recorder, models=self.models, loss=self.loss)
                self._tell_unknown(recorder)
                if self.calls is not None and not isinstance(error, KeyboardInterrupt):
                    from .numeric.findings import add

                    add(self.report, self.calls, recorder.cells)
                self.problem = self.problem or recorder.problem
                recorder.error = None  # its traceback holds frames that hold the user's tensors
        except Exception as fault:
            self._fault(fault)
        if self.problem:
            self.report.notes.append(f"gradnb had an internal problem and may have missed something: {self.problem}")
        _last = self.report
        return False

    def cancel(self) -> None:
        """End it without a report: what ran is nobody's concern."""
        global _running
        _running = None
        with suppress(ValueError):
            _recording.remove(self)
        self._abandon()

    def _tell_unknown(self, recorder: Recorder) -> None:
        """A name given in ``models`` that no module has would empty the report without a word."""
        people, roots = recorder.census.people, sorted(recorder.census.roots)
        for name in self.models or ():
            if name not in roots and not any(name in (person.root, person.name.split(".")[0]) for person in people):
                have = f"modules here: {', '.join(roots[:12])}" if roots else "no module took part"
                self.report.notes.append(f"no module is called {name} ({have})")

    def _fault(self, error: Exception) -> None:
        where = error.__traceback__
        while where is not None and where.tb_next is not None:
            where = where.tb_next
        at = f" at {where.tb_frame.f_code.co_name}:{where.tb_lineno}" if where is not None else ""
        self.problem = f"{type(error).__name__}: {error}{at}"

    def _abandon(self) -> None:
        recorder, self.recorder = self.recorder, None
        if recorder is not None:
            with suppress(Exception):
                recorder.release()


def check(
    *,
    steps: int = 5,
    models: list[str] | None = None,
    loss: str | None = None,
    graph: bool = True,
    namespace: dict[str, Any] | None = None,
    numeric: bool = False,
) -> Check:
    """Check a block of training code: ``with gradnb.check() as report: …``.

    The block runs exactly as it would alone; the report is complete when it ends. An error in the block goes on after the report is
    filled.

    Parameters
    ----------
    steps
        How many optimizer steps are recorded in full; later ones are only counted.
    models
        Names of variables: limit the report to these modules.
    loss
        The name of a variable: limit the report to this loss.
    graph
        Show the picture of the graph in the report.
    namespace
        The variables by which modules and losses are named; those around the call without it.
    numeric
        Compare the backward of each custom ``torch.autograd.Function`` that the block calls with finite differences, by calling it again
        on float64 copies.

    Returns
    -------
    Check
        A context manager, which gives the Report.

    Raises
    ------
    UsageError
        For ``steps`` below 1.
    """
    return Check(steps=steps, models=models, loss=loss, graph=graph, namespace=namespace, numeric=numeric)


@contextmanager
def unrecorded() -> Iterator[None]:
    """What runs inside is no part of the check that runs around it, and may be checked by itself."""
    global _running
    outer = _running
    recorder = outer.recorder if outer is not None else None
    if recorder is None:
        yield
        return
    _running = None
    try:
        with recorder.paused():
            yield
    finally:
        _running = outer if recorder in [check.recorder for check in _recording] else None  # a forked child has none any more


def _watch_forks() -> None:
    """A forked child inherits the recording with the memory: there it ends at once, without a word."""
    global _watches_forks
    if not _watches_forks and hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_forked)
        _watches_forks = True


def _forked() -> None:
    global _running
    _running = None
    while _recording:
        _recording.pop()._abandon()


def _callers_names() -> dict[str, Any]:
    """The names that the code around the check can see: its locals over its globals."""
    frame = user_frame(Frames(), 3)
    if frame is None:
        return {}
    if frame.f_locals is frame.f_globals:
        return frame.f_globals
    return _Names(frame)


class _Names(dict):
    """A function's names, read when they are asked for, because most are set inside the block."""

    def __init__(self, frame: Any):
        super().__init__()
        self._code, self._globals = frame.f_code, frame.f_globals

    def items(self):  # type: ignore[no-untyped-def, override]
        frame: Any = sys._getframe(1)
        while frame is not None and frame.f_code is not self._code:
            frame = frame.f_back
        if frame is None:
            return self._globals.items()
        return visible_names(frame).items()


def _cells() -> dict[str, int]:
    """Execution counts by file name, where a notebook or IPython runs this."""
    if "IPython" not in sys.modules:
        return {}
    try:
        from IPython import get_ipython

        from .notebook.cells import cell_numbers

        shell = get_ipython()
        return cell_numbers(shell) if shell is not None else {}
    except Exception:
        return {}
