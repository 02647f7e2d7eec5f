"""The sentences and numbers that every form of the report shares."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import PurePath

from ..recorder.recording import Location
from .finding import SEVERITIES, Finding, Related
from .parts import APART, TRAINED, WRITTEN
from .report import ParameterRow, Report

STATES = {"ok": "ok", "none": "no gradient", "zero": "only zeros", "nan": "NaN", "inf": "Inf"}
OF_PART = {APART: "not trained here", WRITTEN: "written, no gradient"}
CALM = ("ok", "frozen", *OF_PART.values())  # states that need no look


def clean(text: object, limit: int | None = None) -> str:
    """One printable line: control characters out (a name may hold a terminal escape), the middle elided where too long."""
    plain = str(text)
    if plain.isprintable():  # nearly always, and tens of thousands of times a page
        return elide_middle(plain, limit) if limit else plain
    kept = []
    for character in plain:
        if character in "\t\n\r\x0b\x0c":
            kept.append(" ")
        elif unicodedata.category(character) in ("Cc", "Cs", "Cf", "Zl", "Zp", "Cn"):
            kept.append("\ufffd")  # also bidirectional overrides, which would reorder the line that a reader sees
        else:
            kept.append(character)
    line = "".join(kept)
    return elide_middle(line, limit) if limit else line


def elide_middle(text: str, limit: int) -> str:
    """At most ``limit`` characters; the end of a parameter name says more than its middle."""
    if len(text) <= limit:
        return text
    tail = (limit - 1) * 3 // 5
    return text[: limit - 1 - tail] + "…" + text[len(text) - tail :]


def paragraphs(text: str) -> list[tuple[str, bool]]:
    """The blocks of a prose text, each with whether it is code: indented lines are code and keep their breaks."""
    blocks: list[tuple[list[str], bool]] = []
    fresh = True
    for raw in text.splitlines():
        if not raw.strip():
            fresh = True
            continue
        code = raw.startswith(("    ", "\t"))
        line = clean(raw.replace("\t", "    ")).rstrip()
        if blocks and blocks[-1][1] == code and not fresh:
            blocks[-1][0].append(line if code else line.strip())
        else:
            blocks.append(([line if code else line.strip()], code))
        fresh = False
    return [("\n".join(_dedent(lines)) if code else " ".join(lines), code) for lines, code in blocks]


def _dedent(lines: list[str]) -> list[str]:
    margin = min(len(line) - len(line.lstrip()) for line in lines)
    return [line[margin:] for line in lines]


def count(number: int, noun: str) -> str:
    return f"{number} {_form(number, noun)}"


def plural(number: int, noun: str) -> str:
    """As ``count``, for numbers that may be large: 1,332 tensors."""
    return f"{number:,} {_form(number, noun)}"


def _form(number: int, noun: str) -> str:
    return noun if number == 1 else noun + ("es" if noun.endswith(("s", "ch")) and noun != "epoch" else "s")


def norm(value: float | None) -> str:
    """A gradient norm with its exponent: a small one is never rounded to zero, a real zero says so in words."""
    if value is None:
        return ""
    if value == 0:
        return "exactly zero"
    if value != value:
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "Inf"
    return f"{value:.2e}"


def norm_range(values: Iterable[float | None]) -> str:
    known = [v for v in values if v is not None]
    finite = sorted(v for v in known if v == v and abs(v) != float("inf"))
    if not finite:
        return norm(known[0]) if known else ""
    low, high = norm(finite[0]), norm(finite[-1])
    return low if low == high else f"{low}..{high}"


def where(location: Location | None, function: bool = True, short: bool = False) -> str:
    """``cell [4], line 35, in forward``; ``short`` gives a file by its last name."""
    if location is None:
        return "no line of your code"
    place = clean(str(location))
    if short and location.cell is None:
        place = f"{clean(PurePath(location.file or '?').name, 40)}, line {location.line}"
    inside = location.function
    return f"{place}, in {clean(inside, 60)}" if function and inside and not inside.startswith("<module") else place


def state(row: ParameterRow) -> str:
    """The state of a parameter's gradient in one or two words."""
    if not row.trainable:
        return "frozen"
    if row.part in OF_PART:
        return OF_PART[row.part]
    if row.gradient == "none" and not row.reached:
        return "no gradient, unused"
    return STATES.get(row.gradient, clean(row.gradient, 20))


def touches(report: Report, finding: Finding) -> str:
    """``starves`` where the affected parameters go without a gradient, ``affects`` where they have one."""
    fed = {row.name for row in report.parameters if row.gradient in ("ok", "nan", "inf")}
    return "affects" if fed.intersection(finding.affected) else "starves"


def moved(row: ParameterRow) -> str:
    """Whether the optimizer moved it; silent where nobody would expect a move."""
    if row.moved is None or (row.moved is False and (row.optimizer is None or not row.trainable)):
        return ""
    return "moved" if row.moved else "did not move"


def distinct(related: Iterable[Related]) -> list[Related]:
    """Each related place once."""
    return list({(r.location, r.note): r for r in related}.values())


def ordered(findings: Iterable[Finding]) -> list[Finding]:
    """Errors before warnings before info; within one severity the root cause first."""
    return sorted(findings, key=lambda f: (SEVERITIES.index(f.severity) if f.severity in SEVERITIES else 3, -f.rank))


def focus(report: Report) -> Finding | None:
    """The finding whose gradient path is shown: the first that has one."""
    return next((f for f in ordered(report.findings) if f.path), None)


def starved(report: Report) -> set[str]:
    """The parameters that some error or warning names."""
    return {name for f in report.findings if f.severity != "info" for name in f.affected}


def verdict(report: Report) -> str:
    """The whole report in one sentence, without a full stop."""
    errors = [f for f in ordered(report.findings) if f.severity == "error"]
    warnings = [f for f in ordered(report.findings) if f.severity == "warning"]
    if not errors and not warnings:
        return _healthy(report)
    counted = [count(len(group), noun) for group, noun in ((errors, "error"), (warnings, "warning")) if group]
    return f"{' and '.join(counted)}: {_consequence(report, errors or warnings)}"


def _consequence(report: Report, findings: Sequence[Finding]) -> str:
    affected = {name for f in findings for name in f.affected}
    rows = [row for row in report.parameters if row.name in affected]
    total = sum(1 for row in report.parameters if _counts(row) or row.name in affected)
    parts: list[str] = []
    for states, words in ((("none",), "no gradient"), (("zero",), "only zeros"), (("nan", "inf"), "NaN or Inf")):
        number = sum(1 for row in rows if row.gradient in states)
        if not number:
            continue
        noun = "parameter" if total == 1 else "parameters"
        verb = "gets" if number == 1 else "get"
        parts.append(f"{number} {verb} {words}" if parts else f"{number} of {total} {noun} {verb} {words}")
    return ", ".join(parts) or clean(findings[0].title, 160).rstrip(".")


def _counts(row: ParameterRow) -> bool:
    return row.trainable and row.part == TRAINED


def _healthy(report: Report) -> str:
    trainable = [row for row in report.parameters if _counts(row)]
    steps = sum(1 for step in report.steps if step.kind == "step")
    recorded = f"{count(steps, 'step')} recorded" if steps else "no optimizer step recorded"
    remarks = len(report.findings)
    more = f"; {count(remarks, 'remark')} below" if remarks else ""
    if report.raised is not None:
        return f"stopped by {clean(report.raised.type, 60)}; no gradient fault found up to there{more}"
    if not trainable:
        return f"no trainable parameter took part ({recorded}){more}"
    fed = sum(1 for row in trainable if row.gradient == "ok")
    if fed == len(trainable):
        every = "trainable parameter" if len(trainable) == sum(row.trainable for row in report.parameters) else "parameter trained here"
        return f"every {every} gets a gradient ({count(fed, 'parameter')}, {recorded}){more}"
    verb = "gets" if fed == 1 else "get"
    return f"no fault found; {fed} of {count(len(trainable), 'trainable parameter')} {verb} a gradient ({recorded}){more}"


def raised(report: Report) -> str:
    """The exception in one line, empty where none was raised."""
    if report.raised is None:
        return ""
    message = clean(report.raised.message.strip().split("\n", 1)[0], 200)
    at = f" at {where(report.raised.location)}" if report.raised.location else ""
    return f"raised {clean(report.raised.type, 60)}{at}" + (f": {message}" if message else "")


def environment(report: Report) -> str:
    return ", ".join(f"{clean(key, 40)} {clean(value, 80)}" for key, value in report.environment.items() if value is not None)


def events(report: Report) -> list[tuple[str, int]]:
    """The training events, each distinct one once with how often it happened, in the order of their first time."""
    counts: dict[str, int] = {}
    for step in report.steps:
        line = f"{clean(step.kind, 20)} at {where(step.location)}" if step.location else clean(step.kind, 20)
        line += "" if step.ok else ", failed"
        counts[line] = counts.get(line, 0) + 1
    return list(counts.items())
