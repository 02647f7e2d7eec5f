"""``--numeric``: the backward of each custom Function that the cell used, compared with finite differences, as findings of the report."""

from __future__ import annotations

import io
import time
import warnings
from contextlib import redirect_stderr, redirect_stdout

import torch

from ..errors import UsageError
from ..recorder.frames import Places
from ..report.finding import Finding
from ..report.report import Report
from ..report.words import clean
from .calls import Calls, Kept, given_back
from .compare import Settings
from .place import lines, locate
from .result import Discrepancy, NumericResult
from .run import run
from .show import evidence, meant

SECONDS = 20.0  # for all Functions of a cell
MOST = 3  # findings of one Function
SMALL = 1e-2  # a difference below this part of the gradient is an approximation
LOST = ("missing", "ignored-output", "no-history")
NEAR = 0.98  # so is one that points the same way


def add(report: Report, calls: Calls, cells: dict[str, int]) -> None:
    """Compare each Function that was kept, and put what was found into the report, in place."""
    places = Places(cells)
    told: list[str] = []
    agreed: list[str] = []
    begun = time.monotonic()
    for cls, ways in calls.kept.items():
        name = f"`{clean(cls.__qualname__.split('.<locals>.')[-1], 60)}`"
        results, reasons = [], []
        for kept in ways.values():
            why = kept.skipped or _hindrance() or ("the time for it is used up" if time.monotonic() - begun > SECONDS else "")
            result = why or _check(kept)
            if isinstance(result, NumericResult) and result.status != "unchecked":
                results.append(result)
            else:
                reasons.append(result if isinstance(result, str) else result.reason)
        if any(result.status == "differs" for result in results):
            told += _tell(report, cls, results, name, places)
        elif results:
            notes = [note for result in results for note in result.notes][:1]
            agreed.append(name + (f" ({notes[0]})" if notes else ""))
        elif reasons:
            told.append(f"numeric: {name} was not checked: {reasons[0]}")
    if agreed:
        agree = "agrees" if len(agreed) == 1 else "agree"
        told.insert(0, f"numeric: the backward of {', '.join(agreed)} {agree} with finite differences")
    if not calls.kept:
        told.append("numeric: this code called no custom autograd.Function of its own with an input that requires grad")
    report.notes = told + report.notes
    report.sources.update({name: text for name, text in places.sources.items() if name not in report.sources})


def _hindrance() -> str:
    distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
    if distributed and torch.distributed.get_world_size() > 1:
        return "several processes train together, and a Function that talks to the others would wait for them"
    return ""


def _check(kept: Kept) -> NumericResult | str:
    settings = Settings(elements=32, seconds=3.0)
    try:
        # What the Function prints or warns of was said when the cell ran.
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return run(kept.cls, [given_back(value) for value in kept.args], None, None, settings, only_marked=True)
    except UsageError as refused:
        return str(refused)
    except Exception as error:
        return " ".join(f"{type(error).__name__}: {error}".split())[:200]


def _tell(report: Report, cls: type, results: list[NumericResult], name: str, places: Places) -> list[str]:
    """Findings for what is wrong; a note for what is too small to matter, and where a diagnosis has already said it."""
    notes = []
    every = {(d.kind, d.input, d.output): (d, result) for result in results for d in result.discrepancies}
    grave = [d for d, result in every.values() if not _approximate(d, result)]
    known = _known(report, cls)
    if known is not None and any(d.kind in LOST for d in grave):
        known.explanation += f" Finite differences agree: {next(d.text for d in grave if d.kind in LOST)}."
        grave = [d for d in grave if d.kind not in LOST]
    if any(d.kind == "surrogate" for d in grave):
        grave = [d for d in grave if d.kind == "surrogate"][:1]  # a gradient made up for one input is made up for the others too
    for found in grave[:MOST]:
        report.findings.append(_finding(cls, found, name, places))
    if len(grave) > MOST:
        notes.append(f"numeric: {len(grave) - MOST} more gradients of {name} differ: gradnb.numeric_check gives them all")
    if not grave and known is None:
        first = next(iter(every.values()))[0]
        notes.append(f"numeric: the backward of {name} is an approximation: {first.text}, by less than {SMALL:.0%}")
    return notes


def _approximate(found: Discrepancy, result: NumericResult) -> bool:
    """Off by so little that it is rounding, a solver's tolerance or a choice."""
    worst = [row.worst for row in result.gradients if (row.input, row.output) == (found.input, found.output)]
    return found.kind in ("different", "elements", "gradcheck") and (not worst or max(worst) < SMALL)


def severity(found: Discrepancy) -> str:
    """``error`` only where nobody means it: made-up gradients, reversal, clipping and approximations are written on purpose too."""
    if found.identity or found.kind in ("surrogate", "not-linear", "non-deterministic", "gradcheck", "no-history", "raises"):
        return "info"
    # A gradient that is left out starves nobody here, else a diagnosis had named it.
    if found.kind in ("saturated", "sign", *LOST) or (found.kind == "different" and (found.similar or 0.0) > NEAR):
        return "warning"
    return "error"


def _finding(cls: type, found: Discrepancy, name: str, places: Places) -> Finding:
    grade = severity(found)
    allowed = meant(found) or ("Fine if it is meant." if grade != "error" else "")
    said = [f"{found.text[:1].upper()}{found.text[1:]}", *(line for line in evidence(found) if line != allowed)]
    repair = "correct the value that `backward` returns for it" if found.argument else "correct `backward`"
    backward = f"{name[:-1]}.backward`"
    if grade == "error":
        title = f"{backward}: {found.text}"
        fix = f"{repair[0].upper()}{repair[1:]}; `gradnb.numeric_check({name[1:-1]}, inputs)` repeats the comparison."
    else:
        title = f"{backward} differs from the numeric gradient: {found.text}"
        fix = f"{allowed} Else {repair}."
    return Finding(
        cause="custom-function",
        severity=grade,
        title=title,
        explanation=" ".join(_sentence(line) for line in said) + " Compared on float64 copies of what the cell passed to it first.",
        fix=fix,
        location=locate(cls, found.argument, places),
    )


def _sentence(line: str) -> str:
    return line if line.endswith((".", "?")) else line + "."


def _known(report: Report, cls: type) -> Finding | None:
    """A finding of the diagnosis about the same Function."""
    filename, where = lines(cls)
    for finding in report.findings:
        place = finding.location
        here = place is not None and place.filename == filename and place.line in where
        if finding.cause == "custom-function" and (here or f"`{cls.__qualname__}" in finding.title):
            return finding
    return None
