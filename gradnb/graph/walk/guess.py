"""Guesses to which module each operation of a walked graph belongs: autograd knows the parameters that it used, not the module."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import nn

# What only hands a parameter on in another form.
PASSES_ON = frozenset(
    "t transpose permute view reshape expand unsqueeze squeeze to to_copy slice select split split_with_sizes chunk unbind clone alias "
    "as_strided".split()
)
_SEVERAL = (nn.RNNBase, nn.RNNCellBase)  # library modules without children that run more than one operation


@dataclass(slots=True)
class Step:
    """An operation, in the order of the run. ``inputs`` are positions in that order, ``leaves`` the numbers of the leaves it uses."""

    label: str
    shape: tuple[int, ...] | None
    inputs: list[int] = field(default_factory=list)
    leaves: list[int] = field(default_factory=list)
    others: bool = False  # something that autograd does not follow went in too
    part: int = 0  # 0: of what was asked for, 1: of the gradients' own graph


@dataclass(slots=True)
class Holder:
    """A parameter: its shape, and the path of every module that holds it (several where it is tied)."""

    shape: tuple[int, ...] | None
    paths: list[str]


def modules_of(steps: Sequence[Step], holders: Mapping[int, Holder], modules: Mapping[str, nn.Module]) -> list[str]:
    """The path of a module for each operation, "" where it belongs to none."""
    if not holders:
        return [""] * len(steps)
    users: list[list[int]] = [[] for _ in steps]
    for i, step in enumerate(steps):
        for source in step.inputs:
            users[source].append(i)
    uses, passed = _uses(steps)
    paths = _paths(uses, passed, holders)
    found: list[str | None] = [None] * len(steps)
    for i in set(range(len(steps))) - passed - _penalties(steps, uses, users, passed, holders):
        known = [paths[leaf, i] for leaf in uses[i] if (leaf, i) in paths]
        if known and steps[i].shape != ():  # a single number made of a parameter is a penalty, no part of a layer
            found[i] = common(known)
    _take_views(steps, found, users, passed)
    _fill(steps, found, modules, passed)
    for i in sorted(passed, reverse=True):  # a parameter in another form belongs to what uses it
        found[i] = next((found[k] for k in users[i] if found[k] is not None), None)
    return [path or "" for path in found]


def common(paths: Sequence[str]) -> str:
    """The smallest module around all of these."""
    shared: list[str] = []
    for level in zip(*(path.split(".") for path in paths)):
        if len(set(level)) > 1:
            break
        shared.append(level[0])
    return ".".join(shared)


def _uses(steps: Sequence[Step]) -> tuple[list[list[int]], set[int]]:
    """The leaves that each operation takes, itself or in another form; and the operations that only give a leaf another form."""
    uses: list[list[int]] = []
    passed: set[int] = set()
    for i, step in enumerate(steps):
        own = [*step.leaves, *(leaf for source in step.inputs if source in passed for leaf in uses[source])]
        uses.append(list(dict.fromkeys(own)))
        if step.label in PASSES_ON and own and len(step.inputs) + len(step.leaves) == 1:
            passed.add(i)
    return uses, passed


def _paths(uses: Sequence[Sequence[int]], passed: set[int], holders: Mapping[int, Holder]) -> dict[tuple[int, int], str]:
    """(leaf, operation) -> the module that the leaf stands for there. The holders of a tied weight use it in turn."""
    by_leaf: dict[int, list[int]] = {}
    for i, leaves in enumerate(uses):
        for leaf in leaves if i not in passed else ():
            if leaf in holders and holders[leaf].paths:
                by_leaf.setdefault(leaf, []).append(i)
    found = {}
    for leaf, users in by_leaf.items():
        paths = holders[leaf].paths
        for k, i in enumerate(users):
            found[leaf, i] = paths[k % len(paths)] if len(users) % len(paths) == 0 else paths[min(k, len(paths) - 1)]
    return found


def _penalties(
    steps: Sequence[Step], uses: Sequence[Sequence[int]], users: Sequence[Sequence[int]], passed: set[int], holders: Mapping[int, Holder]
) -> set[int]:
    """Operations element by element on one parameter alone that only end in single numbers: a weight decay term."""
    found: set[int] = set()
    for i in reversed(range(len(steps))):
        step = steps[i]
        alone = not step.others and len(uses[i]) == 1 and not any(source not in passed for source in step.inputs)
        if alone and uses[i][0] in holders and step.shape == holders[uses[i][0]].shape and users[i]:
            if all(steps[k].shape == () or k in found for k in users[i]):
                found.add(i)
    return found


def _take_views(steps: Sequence[Step], found: list[str | None], users: Sequence[Sequence[int]], passed: set[int]) -> None:
    """A linear layer makes its input flat and its output deep again: these views are its own."""
    for i, path in enumerate(list(found)):
        if path is None or steps[i].label not in ("addmm", "mm"):
            continue
        before = [k for k in steps[i].inputs if k not in passed and users[k] == [i]]
        after = users[i] if len(users[i]) == 1 else []
        for k in [*before, *after]:
            if steps[k].label == "view" and found[k] is None:
                found[k] = path


def _fill(steps: Sequence[Step], found: list[str | None], modules: Mapping[str, nn.Module], passed: set[int]) -> None:
    """What runs between two known operations belongs to the smallest module around both; what runs before or after them to none."""
    tails: dict[str, list[str]] = {}  # list of modules -> what ran after the last known operation of a member
    last, before = -1, ""
    for i, path in enumerate(found):
        if path is None:
            continue
        between = [k for k in range(last + 1, i) if k not in passed]
        if last >= 0 and steps[last].part == steps[i].part:
            labels = [steps[k].label for k in between]
            around = common([before, path])
            member = _member(before, path, modules)
            if member:
                around = member
                tails[member.rpartition(".")[0]] = labels
            elif before == path and _closed(modules.get(path)):
                around = path.rpartition(".")[0]
            for k in between:
                found[k] = around
            for k, module in zip(between, _tail(before, path, labels, tails)):
                found[k] = module
        last, before = i, path


def _member(before: str, after: str, modules: Mapping[str, nn.Module]) -> str:
    """Between two members of a Sequential or a ModuleList, which run nothing themselves: the first of the two."""
    around = common([before, after])
    if around in (before, after) or not isinstance(modules.get(around), (nn.Sequential, nn.ModuleList)):
        return ""
    member = f"{around}.{before[len(around) + 1 :].split('.')[0]}"
    return "" if _closed(modules.get(member)) else member


def _tail(before: str, after: str, labels: list[str], tails: Mapping[str, list[str]]) -> list[str]:
    """The last member of a list ends as the ones before it did, where the same operations follow it."""
    for holder, labels_of_one in tails.items():
        if before.startswith(holder + ".") and not after.startswith(holder + ".") and labels[: len(labels_of_one)] == labels_of_one:
            member = f"{holder}.{before[len(holder) + 1 :].split('.')[0]}"
            return [member] * len(labels_of_one)
    return []


def _closed(module: nn.Module | None) -> bool:
    """Is it a module of the library that runs one operation: what runs between two calls of it is not in it."""
    if module is None or not type(module).__module__.startswith("torch.nn"):
        return False
    return next(module.children(), None) is None and not isinstance(module, _SEVERAL)
