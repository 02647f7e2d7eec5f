"""The causes that gradnb knows: one file each, found by itself, and nothing else to touch when one is added."""

from __future__ import annotations

import difflib
import functools
import importlib
import inspect
import pkgutil
from types import ModuleType

from ..errors import UsageError
from ..recorder.recording import Recording
from ..report.finding import SEVERITIES, Finding
from ._program import program


@functools.cache
def _modules() -> dict[str, ModuleType]:
    names = sorted(info.name for info in pkgutil.iter_modules(__path__) if not info.name.startswith("_"))
    return {name.replace("_", "-"): importlib.import_module(f"{__name__}.{name}") for name in names}


def slugs() -> list[str]:
    """The stable names of all causes, in alphabetical order."""
    return list(_modules())


def diagnose(recording: Recording) -> list[Finding]:
    """What every diagnosis says about the recording, the root cause first."""
    findings: list[Finding] = []
    for slug, module in _modules().items():
        try:
            for finding in module.find(recording):
                findings.append(finding)
        except Exception as error:
            # One faulty diagnosis must not take the others' findings with it; what it said before it fell still counts.
            said = " ".join(f"{type(error).__name__}: {error}".split())
            recording.notes.append(f"the diagnosis {slug} failed and was skipped: {said}")
    findings.sort(key=lambda finding: (SEVERITIES.index(finding.severity), -finding.rank))
    return _merged(findings)


def _merged(findings: list[Finding]) -> list[Finding]:
    """One finding for each cause at a place: the first one stays, and takes over what the later ones add."""
    kept: dict[tuple, Finding] = {}
    for number, finding in enumerate(findings):
        where = finding.location
        # Two findings without a place are two findings.
        place: tuple = (where.cell, where.filename or where.file, where.line) if where else ("nowhere", number)
        first = kept.setdefault((finding.cause, *place), finding)
        if first is not finding:
            first.affected.extend(name for name in finding.affected if name not in first.affected)
            first.related.extend(related for related in finding.related if related not in first.related)
    return list(kept.values())


def summary(slug: str) -> str:
    """The one sentence that says the cause."""
    return _text(_find(slug)).splitlines()[0]


def explain(slug: str | None = None) -> str:
    """What a cause means and how to repair it, with a program that has it and the repaired one; all causes without a name.

    Parameters
    ----------
    slug
        The cause's name, as in ``finding.cause``: ``"detach"``.

    Returns
    -------
    str
        The text. In the broken program the line at fault is marked.

    Raises
    ------
    UsageError
        For a name that no cause has; near ones are named.
    """
    if slug is None:
        width = max(len(name) for name in slugs())
        lines = [f"{name:<{width}}  {summary(name)}" for name in slugs()]
        return "\n".join(['The causes that gradnb names; explain("<cause>") tells more.', "", *lines])
    module = _find(slug)
    title, _, rest = _text(module).partition("\n")
    parts = [slug, "=" * len(slug), "", title, rest.rstrip()]
    for heading, name in (("Wrong", "bad"), ("Right", "good")):
        source, _ = program(module, name)
        parts += ["", heading, *(f"    {line}".rstrip() for line in source.splitlines())]
    return "\n".join(parts)


def _text(module: ModuleType) -> str:
    return inspect.cleandoc(module.__doc__ or module.__name__)


def _find(slug: str) -> ModuleType:
    if slug in _modules():
        return _modules()[slug]
    near = difflib.get_close_matches(str(slug).lower().replace("_", "-"), slugs(), n=3)
    hint = f" Did you mean {' or '.join(repr(name) for name in near)}?" if near else ""
    raise UsageError(f"no cause is called {slug!r}.{hint} Known causes: {', '.join(slugs())}.")
