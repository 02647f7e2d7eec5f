"""Flags: what the rules say about the history. A flag is raised once, goes on while its sign goes on, and is cleared when it ends."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from types import ModuleType
from typing import Any

from . import rules as _rules
from .history import History
from .view import View

__all__ = ["Engine", "Flag", "Rule", "Sign", "View", "found_rules", "own_rule", "section"]

SEVERITIES = ("error", "warning", "info")
QUIET = 3  # so many checks without its sign clear a flag
_SOON = 500  # steps within which a flag that ended may come back as the same one
MOST = 200  # a run with more flags than this has been read long before
_FIRST = (1, 2, 3, 5, 10)


@dataclass
class Sign:
    """What a rule sees at one check. ``key`` tells one flag from another, as in "vanishing:agent"."""

    key: str
    layers: list[str]
    """The names of the layers that it is about."""
    numbers: dict[str, Any]
    """The evidence by name, to compute with."""
    text: str
    """One sentence for the user, with the evidence in it: which layer, which number."""
    since: int | None = None
    """The step at which it began, where that is earlier than this check."""
    severity: str | None = None
    """In place of the rule's own, where one rule knows several."""
    threshold: str | None = None
    """In place of the rule's own."""
    advice: str | None = None
    """In place of the rule's own."""


@dataclass
class Flag:
    """A red flag: what is wrong since when, by which number, and what to try."""

    rule: str
    """The rule's name; ``gradnb.monitor.rules.explain`` tells about it."""
    key: str
    """What tells it from another flag of its rule, as in "vanishing:agent"."""
    severity: str
    """"error", "warning" or "info"."""
    layers: list[str]
    """The names of the layers that it is about."""
    first: int
    """The step at which it began."""
    last: int
    """The last step at which it was seen."""
    numbers: dict[str, Any]
    """The evidence by name, to compute with."""
    threshold: str
    """The condition in words."""
    source: str
    """Where the threshold comes from."""
    text: str
    """One sentence with the evidence in it."""
    reason: str
    """Why it matters."""
    advice: str
    """What to try."""
    active: bool = True
    """Does it still go on."""
    cleared: int | None = None
    """The step at which it had ended, None while it goes on."""
    times: int = 1
    """How often it was there: one that comes back soon is the same flag."""

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return dict(vars(self))

    def __str__(self) -> str:
        ended = f", ended by step {self.cleared}" if self.cleared is not None else ""
        again = f", there {self.times} times" if self.times > 1 else ""
        return f"{self.severity}[{self.rule}] since step {self.first}{ended}{again}: {self.text}"


@dataclass
class Rule:
    """A rule as the engine runs it: ``check(view)`` yields a Sign for each thing that is wrong now."""

    name: str
    check: Callable[[View], Iterable[Sign]]
    severity: str = "warning"
    threshold: str = ""
    source: str = ""
    reason: str = ""
    advice: str = ""


def section(text: str, heading: str) -> str:
    """The prose below a heading of a rule's docstring, as one paragraph."""
    found = re.search(
        rf"^{re.escape(heading)}[ \t]*\n(?:-+\n)?(.*?)(?=\n\S[^\n]*\n-+\n|\n\n[A-Z][^\n.]*\n(?=[ \t])|\Z)", text, re.DOTALL | re.MULTILINE
    )
    return " ".join(found.group(1).split()) if found else ""


def found_rules() -> list[Rule]:
    """The rules in ``rules/``, one a file, in alphabetical order. A module's SEVERITY, THRESHOLD and SOURCE are its constants."""
    names = sorted(info.name for info in pkgutil.iter_modules(_rules.__path__) if not info.name.startswith("_"))
    return [_rule(name.replace("_", "-"), importlib.import_module(f"{_rules.__name__}.{name}")) for name in names]


def _rule(name: str, module: ModuleType) -> Rule:
    text = inspect.cleandoc(module.__doc__ or "")
    return Rule(
        name,
        module.check,
        severity=getattr(module, "SEVERITY", "warning"),
        threshold=str(getattr(module, "THRESHOLD", "")),
        source=str(getattr(module, "SOURCE", "")) or section(text, "References"),
        reason=section(text, "Why it matters") or section(text, "What happens"),
        advice=section(text, "Try"),
    )


def own_rule(check: Callable[[View], Any], text: str, name: str, severity: str, advice: str) -> Rule:
    """A rule of the user's: ``check(view)`` gives True, a sentence, a Sign or several of them when something is wrong."""

    def signs(view: View) -> Iterable[Sign]:
        said = check(view)
        if isinstance(said, Sign):
            yield said
        elif isinstance(said, str):
            yield Sign(name, [], {}, said)
        elif isinstance(said, Iterable):
            yield from said
        elif said:
            yield Sign(name, [], {}, text)

    return Rule(name, signs, severity, threshold="the user's own", source="monitor.rule()", reason=text, advice=advice)


def read_flags(state: Mapping[str, Any]) -> tuple[list[Flag], dict[tuple[str, str], int]]:
    """What ``Engine.state()`` gave, for ``Engine.restore``; KeyError, TypeError or ValueError where it is something else."""
    names = [one.name for one in fields(Flag)]
    flags = [Flag(**{name: saved[name] for name in names}) for saved in state["flags"]]
    return flags, {(str(rule), str(key)): int(count) for rule, key, count in state["quiet"]}


@dataclass
class Engine:
    """Runs the rules over a history. An error inside a rule becomes one note and switches that rule off."""

    history: History
    rules: list[Rule] = field(default_factory=found_rules)
    flags: list[Flag] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._view = View(self.history)
        self._open: dict[tuple[str, str], Flag] = {}
        self._quiet: dict[tuple[str, str], int] = {}
        self._ended: dict[tuple[str, str], Flag] = {}
        self._checked = 0

    def due(self) -> bool:
        """At the recorded steps 1, 2, 3, 5, 10 and then at every 10th."""
        count = self.history.count
        return count != self._checked and (count in _FIRST or count % 10 == 0)

    def run(self) -> list[Flag]:
        """Ask every rule once; the flags that are new."""
        self._checked, step = self.history.count, self.history.step
        self._view.forget()
        raised, seen = [], set()
        for rule in list(self.rules):
            try:
                signs = list(rule.check(self._view))
            except Exception as error:
                self.rules.remove(rule)
                said = " ".join(f"{type(error).__name__}: {error}".split())[:200]
                self.history.event(step, "note", f"the rule {rule.name} failed and is switched off: {said}")
                self._close(rule.name, step)
                continue
            for sign in signs:
                key = (rule.name, sign.key)
                seen.add(key)
                self._reopen(key, step)
                if key in self._open:
                    flag = self._open[key]
                    flag.last, flag.numbers, flag.text, flag.layers = step, sign.numbers, sign.text, sign.layers
                    flag.severity = sign.severity or flag.severity
                else:
                    raised.append(self._raise(rule, sign, step))
        for key in [key for key in self._open if key not in seen]:
            self._quiet[key] = self._quiet.get(key, 0) + 1
            if self._quiet[key] >= QUIET:
                self._clear(key, step)
        for key in seen:
            self._quiet.pop(key, None)
        self._view.forget()  # the rows it holds are large
        return raised

    def state(self) -> dict[str, Any]:
        """The flags, and for how many checks those that go on were not seen."""
        quiet = [[*key, count] for key, count in self._quiet.items()]
        return {"flags": [flag.to_dict() for flag in self.flags], "quiet": quiet}

    def restore(self, flags: list[Flag], quiet: dict[tuple[str, str], int]) -> None:
        """Go on with these in place of its own: what is seen again is the same flag."""
        self.flags[:] = flags
        self._open = {(flag.rule, flag.key): flag for flag in flags if flag.active}
        self._ended = {(flag.rule, flag.key): flag for flag in flags if not flag.active}
        self._quiet = quiet
        self._checked = self.history.count
        self._view.forget()

    def _reopen(self, key: tuple[str, str], step: int) -> None:
        """What ended a short while ago and is back was there all the time: no new flag for each swing of a noisy loss."""
        flag = self._ended.get(key)
        if key in self._open or flag is None or flag.cleared is None or flag not in self.flags:
            return
        if step - flag.cleared <= max(_SOON, flag.cleared - flag.first):
            flag.active, flag.cleared, flag.times = True, None, flag.times + 1
            self._open[key] = self._ended.pop(key)

    def _raise(self, rule: Rule, sign: Sign, step: int) -> Flag:
        flag = Flag(
            rule=rule.name,
            key=sign.key,
            severity=sign.severity or rule.severity,
            layers=sign.layers,
            first=step if sign.since is None else sign.since,
            last=step,
            numbers=sign.numbers,
            threshold=sign.threshold or rule.threshold,
            source=rule.source,
            text=sign.text,
            reason=rule.reason,
            advice=sign.advice or rule.advice,
        )
        self._open[rule.name, sign.key] = flag
        self.flags.append(flag)
        if len(self.flags) > MOST:
            ended = next((old for old in self.flags if not old.active), self.flags[0])
            self.flags.remove(ended)
        return flag

    def _clear(self, key: tuple[str, str], step: int) -> None:
        flag = self._open.pop(key)
        self._quiet.pop(key, None)
        flag.active, flag.cleared = False, step
        self._ended[key] = flag

    def _close(self, name: str, step: int) -> None:
        for key in [key for key in self._open if key[0] == name]:
            self._clear(key, step)
