"""Parameters that no optimizer holds are given to the one that steps: those that the claimed line hides, drops or replaces."""

from __future__ import annotations

import ast
import gc
import linecache
import weakref
from collections.abc import Iterator
from typing import Any

import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook

from ..recorder.holders import hidden
from ..recorder.source import Source
from .claim import Claim, Kind
from .facts import known_as
from .repair import Repair


class Wiring:
    """Finds the tensors that a claim about wiring is about, and adds them where they belong."""

    def __init__(self, repair: Repair, claim: Claim, recorder: Any):
        self.repair, self.claim, self.recorder = repair, claim, recorder
        self.built: list[weakref.ref] = []  # optimizers built on a spot
        self.before: dict[int, weakref.ref] = {}  # parameters that were there when these were built
        self.given: list[torch.Tensor] = []  # what the claimed line assigns
        self.attributes = set(_assigned(claim)) if Kind.UNREGISTERED in repair.kinds else set()

    def install(self) -> None:
        """Hook the construction and the steps of optimizers. For a process that is thrown away."""
        register_optimizer_step_pre_hook(self._before_step)
        optimizer: Any = torch.optim.Optimizer
        build = optimizer.__init__
        repair = self.repair

        def __init__(this: Any, params: Any, defaults: Any, *args: Any, **kwargs: Any) -> None:
            if self.attributes:
                params = list(params)
                if not params:
                    params = self._meant()
            build(this, params, defaults, *args, **kwargs)
            # one that was handed an empty group is no more than where an iterator's end shows
            if repair.here(Kind.NOT_IN_OPTIMIZER) and all(group["params"] for group in this.param_groups):
                self.built.append(weakref.ref(this))
                self.before.update((id(t), weakref.ref(t)) for t in _all(torch.nn.Parameter))

        optimizer.__init__ = __init__

    def value(self, value: Any) -> Any:
        """What the claimed line assigns: an iterator becomes a list; a module is wanted if it comes too late for an optimizer."""
        if hasattr(value, "__next__"):
            self.repair.hit(Kind.NOT_IN_OPTIMIZER)
            return list(value)
        if not any(raw.reference() is not None for raw in self.recorder.training.optimizers):
            return value
        if isinstance(value, torch.nn.Parameter):
            self.given.append(value)
        elif isinstance(value, torch.nn.Module):
            self.given.extend(value.parameters())
        return value

    def _before_step(self, optimizer: Any, args: tuple, kwargs: dict) -> None:
        held = {id(p) for one in self._optimizers(optimizer) for group in one.param_groups for p in group["params"]}
        missing = [t for t in self._wanted(optimizer) if id(t) not in held and t.grad is not None and t.is_leaf]
        if missing:
            self.repair.hit(next(kind for kind in (Kind.UNREGISTERED, Kind.NOT_IN_OPTIMIZER) if kind in self.repair.kinds))
            self._note(missing)
            optimizer.add_param_group({"params": missing})

    def _wanted(self, optimizer: Any) -> list[torch.Tensor]:
        if self.attributes:
            return self._meant()
        if self.given:
            named = {id(t) for t in self._named()}
            return [t for t in self.given if id(t) in named]
        if not any(one() is optimizer for one in self.built) or not self._responsible(optimizer):
            return []
        return [t for t in self._named() if id(t) in self.before and self.before[id(t)]() is t]

    def _meant(self) -> list[torch.Tensor]:
        """What hides behind the attributes that the claimed line assigns, as far as the finding names it."""
        found: dict[int, torch.Tensor] = {}
        for module in _all(torch.nn.Module):
            owner = {cls.__name__ for cls in type(module).__mro__}
            if "_parameters" in vars(module) and any(name in owner or not name for name, _ in self.attributes):
                for attribute, kind, names, tensors in hidden(module):
                    if kind == "parameters" and any(attribute == known for _, known in self.attributes):
                        found.update((id(t), t) for name, t in zip(names, tensors) if self._affected(attribute + name))
        if found:
            self.repair.hit(Kind.UNREGISTERED)
            self._note(list(found.values()))
        return list(found.values())

    def _affected(self, name: str) -> bool:
        return not self.claim.affected or any(known == name or known.endswith(f".{name}") for known in self.claim.affected)

    def _named(self) -> list[torch.Tensor]:
        """The parameters that the finding names."""
        census = self.recorder.census
        with self.recorder.guard():
            census.take()
        people = {person.name: person for person in census.people if person.name}
        names = [known_as(name, people) for name in self.claim.affected]
        return [tensor for name in names if name is not None and (tensor := people[name].reference()) is not None]

    def _responsible(self, optimizer: Any) -> bool:
        """Of several optimizers, the one that holds more of the same modules than any other."""
        roots = {name.split(".")[0] for name in self.claim.affected}
        people = {id(p.reference()): p.name.split(".")[0] for p in self.recorder.census.people if p.reference() is not None}

        def share(one: Any) -> int:
            return sum(people.get(id(p)) in roots for group in one.param_groups for p in group["params"])

        return all(one is optimizer or share(one) < max(share(optimizer), 1) for one in self._optimizers(optimizer))

    def _optimizers(self, stepping: Any) -> list[Any]:
        known = [raw.reference() for raw in self.recorder.training.optimizers]
        return [one for one in known if one is not None and one is not stepping] + [stepping]

    def _note(self, tensors: list[torch.Tensor]) -> None:
        known = {id(t) for t in self.repair.witnesses}
        self.repair.witnesses.extend(t for t in tensors if id(t) not in known)


def _all(kind: type) -> Iterator[Any]:
    """Every living object of a class. Asked by type: an ``isinstance`` would wake proxies that pretend to be something."""
    return (one for one in gc.get_objects() if issubclass(type(one), kind))


def _assigned(claim: Claim) -> Iterator[tuple[str, str]]:
    """Class and attribute that the claimed line assigns or fills: ``self.layers = […]``, ``self.layers.append(…)``."""
    filename = claim.location.filename
    source = Source(filename, "".join(linecache.getlines(filename)))
    for node in ast.walk(source.tree) if source.tree is not None else ():
        if getattr(node, "lineno", None) != claim.location.line or not isinstance(node, ast.stmt):
            continue
        targets: list[ast.expr] = []
        if isinstance(node, ast.Assign):
            targets = [t for target in node.targets for t in (target.elts if isinstance(target, (ast.Tuple, ast.List)) else [target])]
        elif isinstance(node, (ast.AnnAssign, ast.AugAssign)):
            targets = [node.target]
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and isinstance(node.value.func, ast.Attribute):
            targets = [node.value.func.value]
        for target in targets:
            while isinstance(target, ast.Subscript):
                target = target.value
            if isinstance(target, ast.Attribute):
                yield _class_around(source, node), target.attr


def _class_around(source: Source, node: ast.AST) -> str:
    parent = source.parents.get(node)
    while parent is not None and not isinstance(parent, ast.ClassDef):
        parent = source.parents.get(parent)
    return parent.name if isinstance(parent, ast.ClassDef) else ""
