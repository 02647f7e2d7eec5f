"""Gradient facts at each optimizer step: none, zero, not finite or fine; and which parameters moved."""

from __future__ import annotations

import math
import weakref
from typing import TYPE_CHECKING, Any

import torch

from . import packed
from .readable import parts, readable

if TYPE_CHECKING:
    from .events import RawEvent, RawOptimizer
    from .recorder import Recorder


_FLAT_LIMIT = 1 << 16  # elements: a flat copy of half a megabyte
_PLAIN = (torch.Tensor, torch.nn.Parameter)


@torch.no_grad()
def norms(tensors: list[torch.Tensor], repeatable: bool = False) -> list[float | None]:
    """L2 norms, with one transfer per device where torch can fuse them; None where there is no number to read.

    ``repeatable``: the same bits for the same tensor, whatever stands beside it.
    """
    plain = [i for i, t in enumerate(tensors) if type(t) in _PLAIN and t.layout is torch.strided and t.numel() and readable(t)]
    found: list[float | None] = [None] * len(tensors)
    if plain:
        chosen = tensors if len(plain) == len(tensors) else [tensors[i] for i in plain]
        try:
            for k, norm in enumerate((None if repeatable else _small(chosen)) or _read(torch._foreach_norm(chosen))):
                # a sum of squares underflows or overflows long before the numbers do
                found[plain[k]] = norm if 0.0 < norm < math.inf or math.isnan(norm) else _norm(tensors[plain[k]])
        except (RuntimeError, NotImplementedError, TypeError):
            plain = []
    for i in set(range(len(tensors))) - set(plain):
        found[i] = _norm(tensors[i])
    return found


def _small(tensors: list[torch.Tensor]) -> list[float] | None:
    """Norms where all tensors are small; None where they are large."""
    sizes = [t.numel() for t in tensors]
    first = tensors[0]
    if len(tensors) < 32 or sum(sizes) > _FLAT_LIMIT or 0 in sizes or first.device.type != "cpu" or first.dtype != torch.float32:
        return None
    if any(t.dtype is not torch.float32 or t.device.type != "cpu" for t in tensors):
        return None
    return packed.norms(packed.flat(tensors), tensors).tolist()


def _read(scalars: Any) -> list[float]:
    try:
        return torch.stack(scalars).to(torch.float64).tolist()
    except RuntimeError:  # on several devices
        return [float(t) for t in scalars]


def _norm(tensor: torch.Tensor) -> float | None:
    try:
        squares = [_plain_norm(part) ** 2 for part in parts(tensor) if part.numel()]
        return math.sqrt(sum(squares)) if squares else None
    except Exception:  # a kind of tensor that nobody foresaw
        return None


def _plain_norm(tensor: torch.Tensor) -> float:
    tensor = tensor.detach()
    if tensor.layout != torch.strided:
        tensor = tensor.coalesce().values() if tensor.layout == torch.sparse_coo else tensor.to_dense()
    return float(torch.linalg.vector_norm(tensor.to(torch.complex128 if tensor.is_complex() else torch.float64)))


def state(norm: float | None) -> str:
    """What a gradient of this norm is; one that cannot be read is taken to be fine."""
    if norm is None:
        return "ok"
    return "nan" if math.isnan(norm) else "inf" if math.isinf(norm) else "zero" if norm == 0.0 else "ok"


def _out_of_proportion(sizes: list[float]) -> bool:
    """Is it worth a look into a graph that was too large to look into at once."""
    return len(sizes) > 1 and (max(sizes) > 1e3 or min(sizes) < 1e-5 * max(sizes))


class Gradients:
    def __init__(self, recorder: "Recorder"):
        self.recorder = recorder
        self.pending = False  # a backward ran that no step has looked at yet
        self.prints: dict[int, float | None] = {}  # parameter number -> L2 norm when it was first seen
        self.moved: dict[int, bool] = {}
        self._printed = 0
        self._calls = 0
        self._after: dict[int, list[tuple[int, weakref.ref]]] = {}  # optimizer -> gradients as its last step left them
        self._losses: list[tuple["RawEvent", weakref.ref]] = []
        self._hungry: set[int] | None = None
        self.fed_late: set[int] = set()

    def sizes(self) -> dict[int, float | None]:
        """The L2 norm of each living parameter now."""
        living = self.recorder.census.living()
        return {number: norm for (number, _), norm in zip(living, norms([t for _, t in living]))}

    def fingerprint(self) -> None:
        """Remember each parameter's norm when it is first met; memory for a number each, not for a copy."""
        if self._printed == len(self.recorder.census.people):
            return
        self._printed = len(self.recorder.census.people)
        new = [(n, t) for n, t in self.recorder.census.living() if n not in self.prints]
        if new:
            for (number, _), norm in zip(new, norms([t for _, t in new], repeatable=True)):
                self.prints[number] = norm

    def keep_loss(self, event: "RawEvent", loss: torch.Tensor) -> None:
        if len(self._losses) < 200:
            self._losses.append((event, weakref.ref(loss)))
            if len(self._losses) <= 20 and readable(loss) and loss.numel() == 1:
                event.number = float(loss.detach().real) if loss.is_complex() else float(loss.detach())

    def living_losses(self) -> "list[weakref.ref]":
        """Weak references to the last losses that backward was called on."""
        return [reference for _, reference in self._losses[-8:] if reference() is not None]

    def of_call(self, event: "RawEvent", targets: list[torch.Tensor], out: Any) -> None:
        """What ``autograd.grad`` gave for each parameter that it was asked for; only the first calls, loops make many."""
        self._calls += 1
        if self._calls > 20:
            return
        pairs = [(t, g) for t, g in zip(targets, out) if isinstance(g, torch.Tensor) and isinstance(t, torch.nn.Parameter)]
        for (tensor, _), norm in zip(pairs, norms([g for _, g in pairs])):
            event.states[self.recorder.census.number(tensor)] = (state(norm), norm)

    def note_none(self, event: "RawEvent") -> None:
        """Which trainable parameters have no gradient at all after the last backward."""
        for number, tensor in self.recorder.census.living():
            if tensor.requires_grad and tensor.is_leaf and tensor.grad is None:
                event.states[number] = ("none", None)

    def before_step(self, event: "RawEvent", optimizer: "RawOptimizer") -> None:
        self.fingerprint()
        census = self.recorder.census
        numbers, grads, frozen = [], [], []
        people = census.people
        for number in [n for group in optimizer.groups for n in group]:
            tensor = people[number].reference()
            if tensor is None:
                continue
            if not tensor.requires_grad:
                frozen.append(number)
            grad = tensor.grad
            if grad is None:
                event.states[number] = ("none", None)
            else:
                numbers.append(number)
                grads.append(grad)
        odd = bool(event.states)
        for number, norm in zip(numbers, norms(grads)):
            if norm is not None and 0.0 < norm < math.inf:
                event.states[number] = ("ok", norm)
            else:
                event.states[number], odd = (state(norm), norm), True
        event.frozen = tuple(frozen)
        event.uncleared = self._uncleared(optimizer)
        self.pending = False
        backward = self.recorder.backward
        if odd and any(s in ("nan", "inf") for s, _ in event.states.values()):
            self.recorder.nonfinite.at_step(event)
        if odd and any(s in ("none", "zero") and n not in frozen for n, (s, _) in event.states.items()):
            backward.wanted = min(backward.wanted + 1, 1) if len(backward.scans) < 4 else 0
        elif not backward.scans and _out_of_proportion([norm for _, norm in event.states.values() if norm]):
            backward.wanted = 1

    def _uncleared(self, optimizer: "RawOptimizer") -> tuple[int, ...]:
        held = []
        for number, reference in self._after.get(optimizer.key, ()):
            tensor = self.recorder.census.tensor(number)
            if tensor is not None and tensor.grad is not None and reference() is tensor.grad:
                held.append(number)
        return tuple(held)

    def after_step(self, optimizer: "RawOptimizer") -> None:
        kept = []
        for number in [n for group in optimizer.groups for n in group][:16]:
            tensor = self.recorder.census.tensor(number)
            if tensor is not None and tensor.grad is not None:
                kept.append((number, weakref.ref(tensor.grad)))
        self._after[optimizer.key] = kept

    def cleared(self, owner: Any) -> None:
        """``zero_grad`` was called on an optimizer or a module."""
        if isinstance(owner, torch.optim.Optimizer):
            self._after.pop(id(owner), None)
            mine = {id(p) for g in owner.param_groups for p in g["params"]}
        else:
            mine = {id(p) for p in owner.parameters()}
        census = self.recorder.census
        for key, kept in list(self._after.items()):
            self._after[key] = [(n, r) for n, r in kept if id(census.tensor(n)) not in mine]

    def late(self, optimizer: Any, count: int) -> None:
        """In the counting phase: does a parameter that starved so far get its gradient after all, when its own optimizer steps."""
        if self._hungry is None:
            self._hungry = self._starving()
        if not self._hungry or (count > 64 and count % 17):  # a prime: of optimizers that take turns each has its turn
            return
        mine = {id(p) for group in optimizer.param_groups for p in group["params"]}
        for number in list(self._hungry):
            tensor = self.recorder.census.tensor(number)
            if (
                tensor is not None
                and id(tensor) in mine
                and tensor.grad is not None
                and tensor.requires_grad
                and any(bool(t.any()) for t in parts(tensor.grad))
            ):
                self._hungry.discard(number)
                self.fed_late.add(number)

    def forget_late(self) -> None:
        """Who starves is asked anew when the counting phase begins again."""
        self._hungry = None

    def _starving(self) -> set[int]:
        seen: set[int] = set()
        fed: set[int] = set()
        for event in self.recorder.events:
            if event.kind == "step":
                seen.update(event.states)
                fed.update(n for n, s in event.states.items() if s[0] == "ok")
        return seen - fed

    def finish(self) -> None:
        """At the end: did parameters move, and the gradients of a backward that no step followed."""
        living = self.recorder.census.living()
        for (number, _), norm in zip(living, norms([t for _, t in living], repeatable=True)):
            first = self.prints.get(number)
            if first is not None and norm is not None:
                self.moved[number] = not (norm == first or (math.isnan(norm) and math.isnan(first)))
        if self.pending:
            event = next((e for e in reversed(self.recorder.events) if e.kind == "backward"), None)
            with_grad = [(n, t.grad) for n, t in living if t.grad is not None]
            if event is not None:
                self.note_none(event)
                for (number, _), norm in zip(with_grad, norms([g for _, g in with_grad])):  # type: ignore[misc]
                    event.states[number] = (state(norm), norm)
