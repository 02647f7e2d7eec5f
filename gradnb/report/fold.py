"""Folds many parameters, and many steps of a path, into few lines that a person can read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from .finding import Finding, Hop
from .report import ParameterRow
from .words import CALM, clean, count, state


@dataclass(slots=True)
class Group:
    """Parameters shown as one line: same module (or folded modules), same state."""

    label: str  # "encoder.0", "blocks.0..11.attn", "encoder.*", "" for parameters at the top
    leaves: list[str]  # distinct last names, in order
    names: list[str]
    total: int  # how many parameters live under the label in all
    exact: bool  # every name is label + "." + leaf
    rows: list[ParameterRow] = field(default_factory=list)
    state: str = "ok"
    starved: bool = False

    @property
    def fine(self) -> bool:
        return not self.starved and self.state in CALM

    @property
    def unwanted(self) -> bool:
        """It has no gradient, and nothing here waits for one."""
        return not self.starved and self.state != "ok" and (self.state in CALM or self.state.endswith("unused"))

    def brief(self, limit: int = 60) -> str:
        """``blocks.0.graph.theta (weight, bias)``, ``head.weight``, ``encoder.* (12 parameters)``."""
        if len(self.names) == 1:
            return clean(self.names[0], limit)
        if len(self.leaves) == 1 and not self.label.endswith("*"):
            return f"{clean(f'{self.label}.{self.leaves[0]}', limit)} ({self._counted()})"
        return f"{clean(self.label, limit)} ({self.inside(', ')})" if self.label else self.inside(", ")

    def _counted(self) -> str:
        number = len(self.names)
        return count(number, "parameter") if number == self.total else f"{number} of {self.total} parameters"

    def inside(self, separator: str = " ") -> str:
        """The last names, or a count where there are too many."""
        if self.exact and len(self.leaves) <= 4:
            return separator.join(clean(leaf, 40) for leaf in self.leaves)
        if len(self.leaves) <= 3:
            return f"{separator.join(clean(leaf, 40) for leaf in self.leaves)}: {self._counted()}"
        return self._counted()


def finite(group: Group) -> list[float]:
    """The norms of a group that a logarithmic axis can show, in order."""
    return sorted(v for row in group.rows if (v := row.grad_norm) is not None and 0 < v < float("inf"))


def names(affected: Sequence[str], everything: Sequence[str] = (), limit: int = 6) -> list[str]:
    """The affected parameters folded by module into at most ``limit`` pieces and a count of the rest."""
    unique = list(dict.fromkeys(affected))
    groups = _fold([(name, "") for name in unique], everything or unique, limit, 3)
    pieces = [group.brief() for group in groups[:limit]]
    rest = sum(len(group.names) for group in groups[limit:])
    return [*pieces, f"{count(rest, 'more parameter')}"] if rest else pieces


def table(rows: Sequence[ParameterRow], starved: set[str], limit: int = 24, single: bool = False) -> tuple[list[Group], int]:
    """The parameter table in at most ``limit`` lines, faults first to be spelled out, and how many rows were left out.

    ``single`` keeps every parameter on a line of its own.
    """
    everything = [row.name for row in rows]
    by_name = {row.name: row for row in rows}
    place = {name: i for i, name in enumerate(everything)}

    def signature(row: ParameterRow) -> str:
        return f"{state(row)}|{row.optimizer}|{row.moved}|{row.name in starved}|{row.name if single else ''}"

    bad = [row for row in rows if row.name in starved or state(row) not in CALM]
    bad_names = {row.name for row in bad}
    good = [row for row in rows if row.name not in bad_names]
    faulty = _fold([(row.name, signature(row)) for row in bad], everything, max(2, limit * 2 // 3 if good else limit))
    healthy = _fold([(row.name, signature(row)) for row in good], everything, max(2, limit - len(faulty)))
    shown = (faulty + healthy)[:limit]
    for group in shown:
        group.rows = [by_name[name] for name in group.names]
        group.state = state(group.rows[0])
        group.starved = group.names[0] in starved
    left_out = len(rows) - sum(len(group.names) for group in shown)
    return sorted(shown, key=lambda group: place[group.names[0]]), left_out


def _fold(items: Sequence[tuple[str, str]], everything: Sequence[str], limit: int, calm: int | None = None) -> list[Group]:
    """Groups by module; above ``calm`` lines over the numbered layers, above ``limit`` lines ever nearer to the root."""
    deepest = max((name.count(".") for name, _ in items), default=0)
    groups = _group(items, everything, None, False)
    levels: list[int | None] = [None, *range(min(deepest - 1, 12), 0, -1)]
    for depth in levels:
        if len(groups) <= (limit if depth is not None or calm is None else calm):
            break
        groups = _group(items, everything, depth, True)
    return groups


def _key(name: str, depth: int | None, numbers: bool) -> tuple[str, ...]:
    path = name.split(".")[:-1]
    if numbers:
        path = ["#" if part.isdigit() else part for part in path]
    return tuple(path if depth is None else path[:depth])


def _group(items: Sequence[tuple[str, str]], everything: Sequence[str], depth: int | None, numbers: bool) -> list[Group]:
    together: dict[tuple[tuple[str, ...], str], list[str]] = {}
    for name, signature in items:
        together.setdefault((_key(name, depth, numbers), signature), []).append(name)
    totals: dict[tuple[str, ...], int] = {}
    for name in everything:
        key = _key(name, depth, numbers)
        totals[key] = totals.get(key, 0) + 1
    groups = []
    for (key, _), members in together.items():
        leaves = list(dict.fromkeys(name.rsplit(".", 1)[-1] for name in members))
        deeper = any(name.count(".") > len(key) for name in members)
        parts = _numbered(key, members)
        if deeper and parts[-1:] != ["*"]:
            parts.append("*")
        exact = not deeper and "#" not in key
        groups.append(Group(".".join(parts), leaves, members, totals.get(key, len(members)), exact))
    return groups


def _numbered(key: tuple[str, ...], members: list[str]) -> list[str]:
    """Each folded number of the key as what it stands for: ``3``, ``0..11``, ``{0,2,5}`` or ``*``."""
    parts = []
    for i, part in enumerate(key):
        if part != "#":
            parts.append(part)
            continue
        seen = sorted({int(name.split(".")[i]) for name in members})
        if len(seen) == 1:
            parts.append(str(seen[0]))
        elif len(seen) > 2 and seen == list(range(seen[0], seen[-1] + 1)):
            parts.append(f"{seen[0]}..{seen[-1]}")
        else:
            parts.append("{" + ",".join(map(str, seen)) + "}" if len(seen) <= 3 else "*")
    return parts


def path(hops: Sequence[Hop], limit: int = 14) -> list[Hop | int]:
    """A gradient path with its start, what lies around each break, and its end; a number stands for the steps elided."""
    if len(hops) <= limit:
        return list(hops)
    breaks = [i for i, hop in enumerate(hops) if hop.state == "lost"][:2]
    keep = {0, 1, 2, len(hops) - 2, len(hops) - 1}
    for i in breaks or [len(hops) // 2]:
        keep.update(range(max(0, i - 2), min(len(hops), i + 3)))
    shown: list[Hop | int] = []
    skipped = 0
    for i, hop in enumerate(hops):
        if i in keep or (i - 1 in keep and i + 1 in keep):  # a gap of one step costs as much as the step itself
            if skipped:
                shown.append(skipped)
            skipped = 0
            shown.append(hop)
        else:
            skipped += 1
    return shown


def cut_word(finding: Finding, nth: int) -> str:
    """What stands at the nth break of the path (from 1): "lost here" is said once, where the finding points."""
    here = _pointed_at(finding)
    return "lost already" if nth < here else "lost here" if nth == here else "lost again"


def cut(finding: Finding) -> Hop | None:
    """The break of the path that the finding points at."""
    breaks = [hop for hop in finding.path if hop.state == "lost"]
    return breaks[_pointed_at(finding) - 1] if breaks else None


def _pointed_at(finding: Finding) -> int:
    """Which break of the path (from 1) stands on the finding's line; the first where that line is another, as a decorator's is."""
    where = finding.location
    breaks = [hop.location for hop in finding.path if hop.state == "lost"]
    same = (i for i, at in enumerate(breaks, 1) if at and where and (at.filename, at.line) == (where.filename, where.line))
    return next(same, 1)
