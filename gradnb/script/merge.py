"""One report out of those of several ranks: what all of them found stands once, the rest names its rank."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..report import words
from ..report.finding import Finding
from ..report.report import ParameterRow, Report

_WORST = ("nan", "inf", "none", "zero", "ok")


def merge(reports: dict[int, Report], silent: dict[int, str]) -> Report:
    """``reports`` by rank, at least one; ``silent`` says of each rank without a report why it has none."""
    ranks = sorted(reports)
    first = reports[ranks[0]]
    merged = replace(
        first,
        findings=_findings(reports),
        parameters=_parameters(reports),
        raised=next((reports[rank].raised for rank in ranks if reports[rank].raised is not None), None),
        sources={name: text for rank in reversed(ranks) for name, text in reports[rank].sources.items()},
        notes=_notes(reports),
    )
    merged.notes[:0] = [f"rank {rank} gave no report: {reason}" for rank, reason in sorted(silent.items())]
    return merged


def _findings(reports: dict[int, Report]) -> list[Finding]:
    together: dict[tuple, dict[int, Finding]] = {}
    for rank in sorted(reports):
        for finding in reports[rank].findings:
            here = finding.location
            place = (here.filename, here.line, here.function) if here else None
            together.setdefault((finding.cause, finding.severity, place, frozenset(finding.affected)), {}).setdefault(rank, finding)
    found = [
        replace(by_rank[min(by_rank)], title=f"{by_rank[min(by_rank)].title.rstrip('.')} ({_on(list(by_rank), len(reports))})")
        for by_rank in together.values()
    ]
    return words.ordered(found)


def _on(ranks: Sequence[int], total: int) -> str:
    if len(ranks) == 1:
        return f"on rank {ranks[0]}" + (" only" if total > 1 else "")
    return f"on all {total} ranks" if len(ranks) == total else f"on ranks {', '.join(map(str, ranks[:-1]))} and {ranks[-1]}"


def _parameters(reports: dict[int, Report]) -> list[ParameterRow]:
    """Each parameter once, in the state of the rank where it fares worst, of those that trained at all."""
    worst: dict[str, ParameterRow] = {}
    for rank in sorted(rank for rank in reports if reports[rank].steps) or sorted(reports):
        for row in reports[rank].parameters:
            known = worst.get(row.name)
            if known is None or row.trainable and _WORST.index(row.gradient) < _WORST.index(known.gradient):
                worst[row.name] = row
    return list(worst.values())


def _notes(reports: dict[int, Report]) -> list[str]:
    by_note: dict[str, list[int]] = {}
    for rank in sorted(reports):
        for note in reports[rank].notes:
            by_note.setdefault(note, []).append(rank)
    raised = {rank: words.raised(reports[rank]) for rank in sorted(reports)}
    if len(set(raised.values())) > 1:  # where all raised the same, the report says it anyway
        for rank, text in raised.items():
            if text:
                by_note.setdefault(text, []).append(rank)
    return [note if len(ranks) == len(reports) else f"{_on(ranks, len(reports))}: {note}" for note, ranks in by_note.items()]
