"""What autograd itself did: looks at each pass of its engine from below the recorder, by means of its own."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch


@dataclass
class Seen:
    """An autograd node in one pass: where its gradients go, whether one arrived, and L2 norms."""

    name: str
    sequence: int
    nexts: list[Any]
    leaf: int | None = None  # id of the tensor of an AccumulateGrad
    arrived: bool = False
    came: float | None = None
    went: list[float | None] | None = None


@dataclass
class Pass:
    """One backward, or one call of autograd.grad (``inputs`` are then ids of tensors); reentrant passes are part of the outer one."""

    kind: str
    inputs: list[int] | None
    asked: list[Any] = field(default_factory=list)
    nodes: dict[Any, Seen] = field(default_factory=dict)
    leaves: dict[int, torch.Tensor] = field(default_factory=dict)
    bare: set[int] = field(default_factory=set)  # leaves that were a loss themselves
    grads: dict[int, float | None] = field(default_factory=dict)  # norm of .grad after the pass

    def reached(self) -> set[Any]:
        """The nodes that a gradient came to; of a pass for some inputs, those on the way to them."""
        if self.inputs is None:
            return {node for node, seen in self.nodes.items() if seen.arrived}
        users: dict[Any, list[Any]] = {}
        for node, seen in self.nodes.items():
            for source, _ in seen.nexts:
                users.setdefault(source, []).append(node)
        todo = [n for n, s in self.nodes.items() if s.leaf in self.inputs] + [t.grad_fn for t in self.asked if t.grad_fn in self.nodes]
        found: set[Any] = set()
        while todo:
            node = todo.pop()
            if node not in found:
                found.add(node)
                todo.extend(users.get(node, ()))
        return found


class Engine:
    """``with Engine() as engine: …`` notes every pass in ``engine.passes``. It keeps the leaves alive, so that ids stay their own."""

    def __init__(self) -> None:
        self.passes: list[Pass] = []
        self._open: Pass | None = None

    def __enter__(self) -> "Engine":
        self._real = torch.autograd._engine_run_backward
        torch.autograd._engine_run_backward = self._run  # type: ignore[assignment]
        return self

    def __exit__(self, *_: Any) -> None:
        torch.autograd._engine_run_backward = self._real

    def _run(self, outputs: Any, gradients: Any, retain: bool, create: bool, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        def go() -> Any:
            return self._real(outputs, gradients, retain, create, inputs, *args, **kwargs)

        if torch._C._are_functorch_transforms_active():
            return go()
        outer = self._open
        if outer is None:
            kind = "backward" if kwargs.get("accumulate_grad") else "grad"
            asked = list(inputs) if inputs else []
            self._open = Pass(kind, [id(t) for t in asked] if asked else None, asked)
            self.passes.append(self._open)
        now = self._open
        assert now is not None
        handles: list[Any] = []
        with torch._C.DisableTorchFunction():
            _walk(now, outputs, handles)
        try:
            return go()
        finally:
            self._open = outer
            for handle in handles:
                handle.remove()
            if outer is None:
                with torch._C.DisableTorchFunction(), torch.no_grad():
                    now.grads = {number: norm([leaf.grad]) for number, leaf in now.leaves.items()}


def _walk(now: Pass, outputs: Any, handles: list[Any]) -> None:
    for tensor in outputs:
        if tensor.grad_fn is None and tensor.requires_grad:
            now.leaves[id(tensor)] = tensor
            now.bare.add(id(tensor))
    todo = [tensor.grad_fn for tensor in outputs if tensor.grad_fn is not None]
    while todo:
        node = todo.pop()
        if node in now.nodes:
            continue
        seen = now.nodes[node] = Seen(node.name(), node._sequence_nr(), list(node.next_functions))
        if hasattr(node, "variable") and not hasattr(node, "_forward_cls"):
            seen.leaf, seen.sequence = id(node.variable), -1
            now.leaves[seen.leaf] = node.variable
            handles.append(node.register_prehook(_before(seen)))
        else:
            handles += [node.register_prehook(_before(seen)), node.register_hook(_after(seen))]
        todo.extend(source for source, _ in seen.nexts if source is not None)


def _before(seen: Seen) -> Any:
    def hook(gradients: Any) -> None:
        with torch._C.DisableTorchFunction(), torch.no_grad():
            seen.came, seen.arrived = norm(gradients), seen.arrived or any(g is not None for g in gradients)

    return hook


def _after(seen: Seen) -> Any:
    def hook(sent: Any, _: Any) -> None:
        with torch._C.DisableTorchFunction(), torch.no_grad():
            seen.went = [norm([g]) for g in sent]

    return hook


def norm(gradients: Any) -> float | None:
    """L2 norm over all of them; None where there is none."""
    present = [g.detach() for g in gradients if g is not None]
    if not present:
        return None
    dense = [g if g.layout is torch.strided else g.to_dense() for g in present]
    return math.sqrt(sum(float(g.to(torch.complex128 if g.is_complex() else torch.float64).abs().pow(2).sum()) for g in dense if g.numel()))
