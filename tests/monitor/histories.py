"""Histories made by hand, step by step, and what one rule says of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from gradnb.monitor.flags import Engine, Flag, Sign, found_rules
from gradnb.monitor.history import History, Layer
from gradnb.monitor.view import View


class Story:
    """A training run told in numbers: ``step(norm=[1.0, 2.0], loss=0.5)``; the engine runs the one rule whenever it is due."""

    def __init__(self, rule: str, layers: Sequence[str] = ("fc1", "fc2"), parameters: int = 100, held: bool = True):
        self.history = History(
            layers=[Layer(name, name.split(".")[0] if "." in name else "", parameters, [(parameters,)], held=held) for name in layers]
        )
        self.rule = next(one for one in found_rules() if one.name == rule)
        self.engine = Engine(self.history, rules=[self.rule])
        self.at = 0

    def step(
        self, norm: Sequence[float | None] | float = 1.0, gate: dict[str, bool] | None = None, event: str = "", **numbers: Any
    ) -> "Story":
        """One optimizer step. ``weight``, ``update``, ``missing``, ``bad``: a value a layer, or one for all; the rest is logged."""
        self.at += 1
        columns = {name: numbers.pop(name) for name in ("weight", "update", "missing", "bad", "zeros") if name in numbers}
        rows = {name: self._row(value) for name, value in {"norm": norm, **columns}.items()}
        self.history.put(self.at, rows)
        for name, value in numbers.items():
            self.history.log(self.at, name.replace("__", ":"), value)
        for name, fired in (gate or {}).items():
            self.history.gate(self.at, name, float(fired))
        if event:
            self.history.event(self.at, event, "")
        if self.engine.due():
            self.engine.run()
        return self

    def steps(self, count: int, **numbers: Any) -> "Story":
        """The same step again and again; a function of the step number gives a number that changes."""
        for _ in range(count):
            self.step(**{name: value(self.at + 1) if callable(value) else value for name, value in numbers.items()})
        return self

    def _row(self, value: Any) -> list[float | None]:
        return list(value) if isinstance(value, (list, tuple)) else [value] * len(self.history.layers)

    @property
    def flags(self) -> list[Flag]:
        return self.engine.flags

    @property
    def active(self) -> list[Flag]:
        return [flag for flag in self.flags if flag.active]

    def signs(self) -> list[Sign]:
        """What the rule says now, whether or not it is due."""
        return list(self.rule.check(View(self.history)))


def cleared(story: Story) -> bool:
    """There were flags, and all of them are over."""
    return bool(story.flags) and not story.active and all(flag.cleared for flag in story.flags)


def noise(step: int, seed: int = 0) -> float:
    """Even noise between -1 and 1 that needs no random stream."""
    return 2 * math.modf(abs(math.sin(12.9898 * step + 78.233 * seed)) * 43758.5453)[0] - 1
