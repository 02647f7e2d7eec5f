"""What the activations do, with ``activations=True``: how many units of a ReLU are dead, how much of a tanh or sigmoid is saturated.

A look goes over the calls of a module until it has seen 256 inputs; then the module rests ten times as long. Only the first two looks
follow each other at once. Counting happens on the activations' own device; a look ends with one transfer of one number.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from .layers import unwrapped

INPUTS = 256  # a unit that none of so many inputs opens is dead, one that is shut for a batch of 8 need not be
AT_ONCE, REST = 2, 10
ACTIVE = 0.01  # SageMaker Debugger: active for less than 1 % of the inputs
# Where the slope is 1 % of the largest: 1 - y^2 of a tanh, 4 y (1 - y) of a sigmoid.
TANH, SIGMOID = 0.99**0.5, 0.5 + 0.5 * 0.99**0.5

_OPENING = (nn.ReLU, nn.ReLU6, nn.Threshold)
_FLAT = (nn.Tanh, nn.Sigmoid)


class Activations:
    """Forward hooks on the ReLU-like, tanh and sigmoid modules of the watched models.

    ``log(series, share)`` gets "dead:<module>" or "saturated:<module>" and a share of 0 to 1 after each look;
    ``failed(error)`` hears of an error inside, after which all hooks are gone. Modules are looked at only where gradients are recorded;
    ``F.relu``, ``torch.tanh`` and the inside of an LSTM have no module and are not seen.
    """

    def __init__(self, models: Mapping[str, nn.Module], log: Callable[[str, float], None], failed: Callable[[BaseException], None]):
        self._log, self._failed = log, failed
        self._handles: list[Any] = []
        seen: set[int] = set()
        for label, model in models.items():
            for name, module in _hidden(unwrapped(model)):
                if id(module) not in seen:
                    seen.add(id(module))
                    full = ".".join(part for part in (label, name) if part) or type(module).__name__
                    self._handles.append(module.register_forward_hook(self._hook(_Look(module, full))))

    def remove(self) -> None:
        """Take every hook away."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def _hook(self, look: "_Look") -> Callable[..., None]:
        def after(module: nn.Module, args: Any, output: Any) -> None:
            # Inside torch.compile this is a constant, so that nothing of the hook gets into the graph.
            if torch.compiler.is_compiling():
                return
            try:
                plain = type(output) in (Tensor, nn.Parameter) and not output.is_meta and output.dim() > 1 and output.numel()
                if plain and torch.is_grad_enabled() and look.awake():
                    with torch.no_grad():
                        share = look.at(output.detach())
                    if share is not None:
                        self._log(look.series, float(share))
            except Exception as error:
                self.remove()
                self._failed(error)

        return after


def _hidden(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """ReLUs everywhere; of tanh and sigmoid those that parameters follow, as an output that is sure of itself is meant to be flat."""
    found: list[tuple[str, nn.Module]] = []
    pending: list[tuple[str, nn.Module]] = []
    for name, module in model.named_modules():
        if any(True for _ in module.parameters(recurse=False)):
            found += pending
            pending = []
        if isinstance(module, _FLAT):
            pending.append((name, module))
        elif isinstance(module, _OPENING):
            found.append((name, module))
    return found


class _Look:
    """One module: what the look that is under way has counted so far, by the shape of a single input's units."""

    def __init__(self, module: nn.Module, name: str):
        self._flat = TANH if isinstance(module, nn.Tanh) else SIGMOID if isinstance(module, nn.Sigmoid) else 0.0
        self.series = f"{'saturated' if self._flat else 'dead'}:{name}"
        self._counts: dict[tuple[int, ...], tuple[Tensor, int]] = {}
        self._inputs = self._calls = self._rest = self._done = 0

    def awake(self) -> bool:
        """Whether to look at this call."""
        self._rest -= 1
        return self._rest < 0

    def at(self, output: Tensor) -> Tensor | None:
        """Count this call; the share when the look is complete."""
        self._inputs += len(output)
        self._calls += 1
        if self._flat:
            low = -self._flat if self._flat == TANH else 1 - self._flat
            self._add((), ((output > self._flat) | (output < low)).sum(), output.numel())
        else:
            active = output > 0
            # Units lie along the second dimension behind a convolution, along the last one behind a linear layer;
            # with three it may be either.
            for dim in (1, 2) if output.dim() == 3 else (1,):
                opened = active.sum([d for d in range(output.dim()) if d != dim])
                self._add((dim, output.dim(), len(opened)), opened, output.numel() // len(opened))
        if self._inputs < INPUTS:
            return None
        share = self._share()
        self._done += 1
        self._rest = REST * self._calls if self._done >= AT_ONCE else 0
        self._counts, self._inputs, self._calls = {}, 0, 0
        return share

    def _add(self, key: tuple[int, ...], count: Tensor, of: int) -> None:
        if key in self._counts:
            before, whole = self._counts[key]
            count, of = count + before, of + whole
        self._counts[key] = count, of

    def _share(self) -> Tensor:
        """The smallest share of all ways to look at it: a layer is called dead only if it is so in each."""
        ways = [count / whole if self._flat else (count < ACTIVE * whole).float().mean() for count, whole in self._counts.values()]
        return torch.stack(ways).min()
