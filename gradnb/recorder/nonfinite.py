"""Finds where the first NaN or infinity was born, once one shows up.

The forward pass is never checked. What is looked at anyway gives the sign: the number of a loss when backward starts, the norms of
the gradients when an optimizer steps, a Python float that leaves torch, an exception. From a loss that is not finite, search.py
goes back through what autograd saved. A finite loss whose gradient is not: the first backward of a training line is hooked
(scan.py); before a later one, only the operations that have singular points are looked at, where a step ran any.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch

from .held import about_numbers, held
from .numeric import NonFinite, numbers, options
from .search import Search, saved_tensors, spans
from .singular import CALLS, NODES, Point, floats, kind, points, standing, state_of

if TYPE_CHECKING:
    from .events import RawEvent
    from .recorder import Recorder

SEARCHES = 4
READ = 1 << 20  # elements of a loss that is no scalar, above which it is not read
SUSPECTS = 8  # singular points that are kept for one backward
GRAPH = 20_000  # nodes beyond which a graph is not looked through for them
_TESTS = frozenset("any all logical_not bitwise_not __invert__ logical_or logical_and __or__ __and__ sum isnan isinf isfinite".split())


class NonFiniteWatch:
    """Holds the births found so far; plain data, no tensor."""

    def __init__(self, recorder: "Recorder"):
        self.recorder = recorder
        self.births: list[NonFinite] = []
        self.suspects: dict[int, list[NonFinite]] = {}  # event of a backward -> what would spoil its gradient
        self.escaped: list[NonFinite] = []  # the user's code saw the value itself: printed it, tested it
        self.late_sites: tuple = ()  # where the step was that a late birth belongs to
        self._few: dict[int, list[int]] = {}  # optimizer -> the parameters that are looked at after the recorded steps
        self._searches = 0
        self._looked = 0  # ops up to here have been looked through for singular calls

    # -- before a backward ---------------------------------------------------------------------------------------------

    def before_backward(self, event: int, losses: list[torch.Tensor]) -> None:
        """Search from a loss that is not finite; else remember the singular points that its gradient will pass."""
        called = {raw[0].name for raw in self.recorder.log.ops[self._looked :] if raw is not None}
        self._looked = len(self.recorder.log.ops)
        number = self.recorder.events[event].number
        if number is None:  # not one element, or one loss of very many
            bad = any(floats(t) and t.numel() <= READ and state_of(t) != "ok" for t in losses)
        else:
            bad = not math.isfinite(number)
        if bad:
            self._search(self.births, losses, event)
        elif called & CALLS:
            self._suspect(event, losses)

    def _suspect(self, event: int, losses: list[torch.Tensor]) -> None:
        found: list[tuple[Any, Point]] = []
        todo = [t.grad_fn for t in losses if t.grad_fn is not None]
        seen = set(todo)
        while todo:
            node = todo.pop()
            if kind(node) in NODES or node.name().startswith("ScaledDotProduct"):
                found.extend((node, point) for point in points(node))
            for below, _ in node.next_functions:
                if below is not None and below not in seen:
                    seen.add(below)
                    todo.append(below)
            if len(seen) > GRAPH:
                return
        if not found:
            return
        standing_at = _any([point.mask for _, point in found])
        chosen = [pair for pair, yes in zip(found, standing_at) if yes][:SUSPECTS]
        if chosen:
            chosen.sort(key=lambda pair: -pair[0]._sequence_nr())  # backward meets them in this order
            self.suspects[event] = [self._at_point(node, point, event, "nan") for node, point in chosen]

    # -- during a backward ---------------------------------------------------------------------------------------------

    def at_node(self, node: Any, event: int, state: str) -> None:
        """A finite gradient went into the node, and what came out of it is not finite."""
        if sum(birth.event == event for birth in self.births) >= SUSPECTS:
            return
        op = self._op(node)
        if any(birth.event == event and birth.op == op for birth in self.births):
            return
        point = standing(node)
        if point is None or point.operand == "result":
            for _, tensor in saved_tensors(node):
                if state_of(tensor) != "ok" and self._search(self.births, [tensor], event, hidden=True):
                    return
        if point is not None:
            self.births.append(self._at_point(node, point, event, state))
            return
        birth = NonFinite("backward", state, "overflow", event, op, node=node.name())
        if getattr(type(node), "_forward_cls", None) is not None:
            birth.key = "custom"
        birth.inputs = [numbers(t, operand=name) for name, t in saved_tensors(node) if floats(t)][:3]
        self.births.append(birth)

    def _at_point(self, node: Any, point: Point, event: int, state: str) -> NonFinite:
        birth = NonFinite("backward", state, point.key, event, self._op(node), node=node.name())
        birth.inputs = [numbers(point.tensor, self.recorder.log.known(point.tensor), point.operand)]
        birth.hidden = point.key not in ("sqrt-zero", "power-zero", "arc-edge", "spectrum")
        return birth

    # -- after a backward ----------------------------------------------------------------------------------------------

    def after_backward(self, event: "RawEvent", out: Any = None) -> None:
        """Which parameters the birth spoilt; one that spoilt none (its gradient was masked out) is forgotten."""
        index = len(self.recorder.events) - 1
        found = [b for b in self.births if b.event == index and (b.phase == "backward" or b.hidden)]
        suspects = self.suspects.pop(index, [])
        if not found and not suspects:
            return
        if out is not None:
            spoilt = [self.recorder.census.number(t) for t in out if isinstance(t, torch.nn.Parameter)]
            reached = any(isinstance(t, torch.Tensor) and floats(t) and state_of(t) != "ok" for t in out)
        else:
            grads = [(n, t.grad) for n, t in self.recorder.census.living() if t.grad is not None]
            spoilt = [n for n, g in grads if floats(g) and state_of(g) != "ok"]
            reached = bool(spoilt)
        if not reached:
            self.births = [b for b in self.births if b not in found]
            return
        if not found:
            self.births.extend(suspects)
        for birth in found or suspects:
            birth.parameters = birth.parameters or tuple(spoilt)

    def at_step(self, event: "RawEvent") -> None:
        """A step is about to use gradients that are not finite, and nobody saw where they were born."""
        if self.births:
            return
        index = next((i for i in reversed(range(len(self.recorder.events))) if self.recorder.events[i].kind == "backward"), -1)
        spoilt = tuple(n for n, (s, _) in event.states.items() if s in ("nan", "inf"))
        states = {s for s, _ in event.states.values()}
        self.births.append(NonFinite("backward", "nan" if "nan" in states else "inf", "unknown", index, parameters=spoilt))
        self.recorder.backward.wanted = 1

    # -- where there was no backward -----------------------------------------------------------------------------------

    def left_torch(self, tensor: torch.Tensor, value: int) -> None:
        """The user's code read a number that is not finite (``loss.item()``), or a test of one (``torch.isnan(loss).any()``)."""
        made = self.recorder.log.values[value][0]
        raw = self.recorder.log.ops[made] if made >= 0 else None
        if tensor.dtype is torch.bool and (raw is None or raw[0].name not in _TESTS) or len(self.escaped) > 1:
            return
        with self.recorder.guard():
            tested = tensor if floats(tensor) else self._tested(value)
            if tested is not None and tested.requires_grad and state_of(tested) != "ok":
                self._search(self.escaped, [tested], len(self.recorder.events) - 1)

    def _tested(self, value: int) -> torch.Tensor | None:
        log = self.recorder.log
        for _ in range(6):
            made = log.values[value][0] if value >= 0 else -1
            raw = log.ops[made] if made >= 0 else None
            if raw is None or raw[0].name not in _TESTS or not raw[1]:
                return None
            value = raw[1][0]
            if raw[0].name in ("isnan", "isinf", "isfinite"):
                break
        reference = next((entry[0] for entry in log._ids.values() if entry[1] == value), None)
        return reference() if reference is not None else None

    def at_raise(self, error: BaseException) -> None:
        """The exception may be about a value that is not finite: its frames still hold the tensors."""
        if about_numbers(error, self.recorder.frames):
            bad = [t for t in held(error) if floats(t) and state_of(t) != "ok"]
            if bad:
                self._search(self.births, sorted(bad, key=lambda t: state_of(t) != "nan"), -1)

    # -- afterwards ----------------------------------------------------------------------------------------------------

    def growing(self) -> bool:
        """Did the gradient of some optimizer grow tenfold over its steps so far."""
        sizes: dict[int | None, list[float]] = {}
        for event in self.recorder.events:
            if event.kind == "step" and event.states:
                sizes.setdefault(event.optimizer, []).append(math.hypot(*(norm or 0.0 for _, norm in event.states.values())))
        return not self.births and any(len(s) > 1 and 0.0 < 10 * s[0] < s[-1] and s[-2] < s[-1] for s in sizes.values())

    def late(self, index: int) -> None:
        """After the recorded steps only a few gradients are looked at: the step at which one of them is not finite is noted."""
        raw = self.recorder.training.optimizers[index]
        if self.births:
            return
        if index not in self._few:
            numbers_ = [n for group in raw.groups for n in group]
            tensors = [(n, self.recorder.census.tensor(n)) for n in {*numbers_[:1], *numbers_[-2:]}]
            self._few[index] = [n for n, t in tensors if t is not None and t.numel() <= 1 << 20]
        for number in self._few[index]:
            tensor = self.recorder.census.tensor(number)
            grad = tensor.grad if tensor is not None else None
            if grad is None or not floats(grad) or grad.device.type != "cpu" and raw.late_steps % 16:
                continue
            if not math.isfinite(float(grad.sum().abs())) and state_of(grad) != "ok":
                self.births.append(NonFinite("late", state_of(grad), "late", optimizer=index, parameters=(number,)))
                self.births[-1].options = {"step": raw.steps + raw.late_steps}
                self.late_sites = self.recorder.log.sites(1)[0]
                return

    def finish(self, error: BaseException | None) -> None:
        """At the end: what an exception is about, and what the last step made of the parameters."""
        if error is not None and not self.births:
            self.at_raise(error)
        self._last_step()

    def _last_step(self) -> None:
        """A parameter that is not finite although every gradient was."""
        if self.births or not self.recorder.events:
            return
        states = [s for e in self.recorder.events for s, _ in e.states.values()]
        if "nan" in states or "inf" in states:
            return
        steps = {i: e for i, e in enumerate(self.recorder.events) if e.kind == "step"}
        for number, tensor in self.recorder.census.living():
            step = next((i for i in reversed(steps) if number in steps[i].states), None)
            if step is not None and floats(tensor) and state_of(tensor) != "ok":
                birth = NonFinite("parameter", state_of(tensor), "parameter", step, parameters=(number,))
                birth.inputs = [numbers(tensor)]
                self._of_parameter(birth)
                self.births.append(birth)
                return

    def _search(self, into: list[NonFinite], roots: list[torch.Tensor], event: int, hidden: bool = False) -> bool:
        if self._searches >= SEARCHES or self.births and self._broken():
            return False
        self._searches += 1
        birth = Search(self.recorder).run(roots, masks=event >= 0)
        if birth is None:
            return False
        birth.event, birth.hidden = event, hidden
        self._of_parameter(birth)
        into.append(birth)
        return True

    def _broken(self) -> bool:
        """Is a parameter not finite any more: then all that follows is an echo."""
        return any(norm is not None and not math.isfinite(norm) for norm in self.recorder.gradients.sizes().values())

    def _of_parameter(self, birth: NonFinite) -> None:
        """How parameters grew since they were first seen, and for one that is not finite the step that made it so."""
        now = self.recorder.gradients.sizes()
        first = self.recorder.gradients.prints
        for number, norm in now.items():
            before = first.get(number)
            if before is not None and norm is not None and math.isfinite(before) and 10 * max(before, 1.0) < norm < math.inf:
                birth.growth[number] = (before, norm)
        if birth.phase != "parameter":
            return
        number = birth.parameters[0]
        before = first.get(number)
        if before is not None and not math.isfinite(before):
            return  # it was so from the start
        for index in range(len(self.recorder.events) - 1, -1, -1):
            event = self.recorder.events[index]
            if event.kind == "step" and event.optimizer is not None and number in event.states:
                birth.phase, birth.event = "step", index
                raw = self.recorder.training.optimizers[event.optimizer]
                birth.optimizer, optimizer = event.optimizer, raw.reference()
                group = next((g for g, numbers_ in enumerate(raw.groups) if number in numbers_), 0)
                if optimizer is not None and group < len(optimizer.param_groups):
                    birth.options = options(optimizer.param_groups[group])
                return

    def _op(self, node: Any) -> int:
        return spans(self.recorder).op(node._sequence_nr())


def _any(masks: list[torch.Tensor]) -> list[bool]:
    """Whether any element of each mask is set, with one transfer where all are on one device."""
    flags = [mask.any() for mask in masks]
    if len({flag.device for flag in flags}) == 1:
        return torch.stack(flags).tolist()
    return [bool(flag) for flag in flags]
