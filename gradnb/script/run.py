"""Runs the script under a check, shows the report, and ends the process as the script alone would have ended it."""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from types import CodeType, TracebackType
from typing import NoReturn

from ..check import Check
from ..errors import UsageError
from ..recorder.frames import USER, Frames
from ..report.report import Report
from ..tracebacks import below, tidy_chain, users_own
from .merge import merge
from .options import parse, refuse
from .program import RUNNERS, Program, load
from .ranks import WAIT, Ranks, join
from .show import Output, as_json
from .signals import Termination

HURRY = 5.0  # seconds for the reports of other ranks when this one has been told to end


def main(argv: list[str] | None = None) -> NoReturn:
    """``python -m gradnb``: never returns; ends with the script's own status, or 1 where a finding is an error."""
    args = parse(sys.argv[1:] if argv is None else argv)
    try:
        program = load(args.script, args.args, module=args.module)
    except UsageError as error:
        refuse(str(error))
    except BaseException as error:
        _end(error, users_own(error.__traceback__), 0)
    session = Session(args, program)
    raised = session.run()
    _end(raised, below(raised.__traceback__, RUNNERS) if raised is not None else None, session.status)


class Session:
    """One script, one check, one report."""

    def __init__(self, args: Namespace, program: Program):
        self.args, self.program = args, program
        self.output = Output()
        self.status = 0
        self.ranks: Ranks | None = self.output.guarded(join, dict(os.environ))
        self.check = Check(steps=args.steps, models=args.model, loss=args.loss, namespace=program.namespace, cells={}, runners=RUNNERS)
        self.termination = Termination(self._terminated)
        self._finishing = False

    def run(self) -> BaseException | None:
        """Run the script to its end and report. What it raised comes back, to be raised again when all is shown."""
        process = os.getpid()
        error: BaseException | None = None
        with self.termination:
            try:
                self.check.__enter__()
                self._adopt()
                self.program.run()
            except BaseException as raised:
                error = raised
            if os.getpid() != process:
                return error  # a child that the script forked: it ends without a word from us
            try:
                self._finish(error)
            except KeyboardInterrupt as second:  # no report then
                error = error or second
            if self.termination.received:
                self.termination.die()
        return error

    def _adopt(self) -> None:
        """The script is the user's wherever it lies: a module that is installed has to be told from a library."""
        recorder = self.check.recorder
        if recorder is not None and recorder.frames.learn(self.program.code) != USER:
            _mark(recorder.frames, self.program.code)

    def _finish(self, error: BaseException | None) -> None:
        self._finishing = True
        self.check.__exit__(type(error) if error else None, error, error.__traceback__ if error else None)
        if self.check.problem:
            self.output.fault(self.check.problem)
        self.output.guarded(self._deliver, self.check.report)

    def _terminated(self) -> bool:
        """SIGTERM came. False where the report is on its way already."""
        if self._finishing:
            return False
        self.check.report.notes.append("the script was ended by SIGTERM: this is what was seen up to there")
        self._finish(None)
        return True

    def _deliver(self, report: Report) -> None:
        seen: dict[int, Report] | None = None
        running: list[int] = []
        if self.ranks is not None:
            self.ranks.hand_in(report)
            if not self.ranks.prints(self._patience):
                return
            found = self.ranks.gather(self._patience)
            seen, running = found.reports, found.running
            report = merge(seen, found.silent)
        output = self.output
        output.guarded(lambda: output.show(report, quiet=self.args.quiet))
        output.guarded(output.file, "--json", self.args.json, lambda: as_json(report, seen))
        output.guarded(output.file, "--html", self.args.html, report.to_html)
        if report.verdict == "error":
            self.status = 1
        if self.status and running:  # the launcher would end them all when one ends with an error
            self.status = 0
            output.tell(f"the exit status says nothing about the findings, so that rank {running[0]}, which still runs, is not stopped")

    def _patience(self) -> float:
        """Seconds to wait for other ranks."""
        return HURRY if self.termination.received else WAIT


def _mark(frames: Frames, code: CodeType) -> None:
    frames.mark(code, USER)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            _mark(frames, constant)


def _end(error: BaseException | None, frames: TracebackType | None, status: int) -> NoReturn:
    """Leave the process the way Python leaves a script that ended so, with the traceback cut to the user's frames."""
    if error is None or isinstance(error, SystemExit) and error.code in (None, 0) and status:
        sys.exit(status)
    show = sys.excepthook  # the script's own, where it has set one

    def users_frames_only(kind: type[BaseException], value: BaseException, traceback: TracebackType | None) -> None:
        if value is error:
            tidy_chain(value)
            traceback = frames
            value.__traceback__ = frames
        show(kind, value, traceback)

    sys.excepthook = users_frames_only
    raise error
