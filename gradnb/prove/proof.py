"""``%%gradcheck --prove``: a finding is proven when the cell, run again with only its line repaired, feeds what starved."""

from __future__ import annotations

import time
from typing import Any

from ..recorder.recorder import Recorder
from ..report.finding import Finding
from ..report.report import Report
from .claim import REPAIRS, claims_of
from .rerun import Cell
from .spare import Spare, why_not

LONGEST = 60.0  # seconds of one run of the cell
ALL = 180.0  # seconds of all runs together
MOST = 3  # findings that are tried


class Prover:
    """Made before the cell runs, called with the filled report afterwards: writes ``proof`` into its first findings."""

    def __init__(self, cell: Cell, shell: Any = None):
        self.begun = time.monotonic()
        self.reason = why_not()
        self.spare: Spare | None = None
        try:
            self.spare = Spare(cell, shell) if not self.reason else None
        except OSError as error:  # no memory, or too many processes or open files
            self.reason = f"a proof needs fork, which failed: {error.strerror}"

    def __call__(self, report: Report) -> None:
        took = time.monotonic() - self.begun
        claims = claims_of(report, MOST)
        try:
            if self.spare is not None:
                self._ask(report, claims, min(3 * took + 10.0, LONGEST))
        except KeyboardInterrupt:
            self.reason = "the proof was interrupted"
        finally:
            self.dismiss()
        for finding in report.findings[:MOST]:
            if finding.proof is None and finding.severity != "info":
                finding.proof = {"proven": None, "text": f"not proven: {self.reason or _silent(finding)}"}

    def _ask(self, report: Report, claims: dict[int, Any], limit: float) -> None:
        assert self.spare is not None
        numbers = list(claims)
        if numbers:
            raised = report.raised.type if report.raised is not None else None
            for number, proof in self.spare.prove(list(claims.values()), raised, limit, min(ALL, limit * (2 * len(claims) + 1))):
                report.findings[numbers[number]].proof = proof.to_dict()

    def dismiss(self) -> None:
        """End the spare process. Nothing is proven after that."""
        if self.spare is not None:
            self.spare.dismiss()

    def __del__(self) -> None:
        self.dismiss()


def _silent(finding: Finding) -> str:
    if finding.location is None:
        return "no line is named that could be repaired"
    return "no answer in time" if finding.cause in REPAIRS else f"there is no repair to try for {finding.cause}"


def prove(shell: Any, program: Any, *, steps: int) -> Prover:
    """The prover of a cell that is about to run: ``program`` is what ``notebook.cell.prepare`` gave for it."""
    from ..notebook.cell import RUNNER_CODE
    from ..notebook.cells import cell_numbers

    place = program.place

    def recorder() -> Recorder:
        numbers = cell_numbers(shell, running=(place.filename, place.number))
        return Recorder(steps=steps, namespace=shell.user_ns, cells=numbers, runners=RUNNER_CODE)

    def run() -> BaseException | None:
        return program.run().error

    return Prover(Cell(run, recorder, {place.filename: [node for node, _ in program.nodes]}), shell)
