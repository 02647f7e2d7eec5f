"""Runs trial steps under a check of their own, and keeps everything around the model that they would touch.

Whoever calls it does so under ``check.unrecorded()``: a check that runs around it is not to see the trial.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.modules.module import register_module_forward_pre_hook

from ..check import Check
from ..errors import UsageError
from ..report.report import Report
from .kept import Kept, random_kept


class Touched(Exception):
    """The trial on a copy reached the original: it has to run there."""


@dataclass(slots=True)
class Trial:
    """What to run: ``call()`` gives the loss of ``model``, which ``optimizer`` moves."""

    call: Callable[[], Any]
    model: torch.nn.Module
    optimizer: torch.optim.Optimizer
    original: torch.nn.Module  # the model itself where there is no copy
    steps: int = 1
    label: str = "optimizer"

    def run(self) -> tuple[Report, BaseException | None]:
        """The report and what the user's code raised. Raises Touched where the original was reached through a copy.

        Whatever happens, all that is not ``model`` or ``optimizer`` stands afterwards as before.
        """
        around = _Around(self)
        error: BaseException | None = None
        with random_kept(), torch.inference_mode(False), torch.enable_grad():
            check = Check(steps=self.steps, namespace={"model": self.model, self.label: self.optimizer})
            try:
                check.__enter__()
                try:
                    with around.watching():
                        for _ in range(self.steps):
                            self._step(around)
                except BaseException as raised:
                    error = raised
                if around.touched or isinstance(error, UsageError) or (error is not None and not isinstance(error, Exception)):
                    check.cancel()
                    raise Touched if around.touched else error  # type: ignore[misc]
                check.__exit__(type(error) if error else None, error, error.__traceback__ if error else None)
            finally:
                around.kept.restore()
        return check.report, error

    def _step(self, around: "_Around") -> None:
        closure = inspect.signature(type(self.optimizer).step).parameters.get("closure")
        if closure is not None and closure.default is inspect.Parameter.empty:  # LBFGS asks for the loss itself

            def again() -> Any:
                # unseen: both calls stand on the one line of the user's that asked for the trial, which tells nobody anything
                with torch._C.DisableTorchFunction():
                    for group in self.optimizer.param_groups:
                        for parameter in group["params"]:
                            parameter.grad = None
                return self._backward(around)

            self.optimizer.step(again)
        else:
            self.optimizer.zero_grad()
            self._backward(around)
            self.optimizer.step()

    def _backward(self, around: "_Around") -> Any:
        loss = self.call()
        around.before_backward(loss)
        loss.backward()
        return loss


class _Around:
    """Modules and tensors that are not the trial's own, but take part: a teacher, a criterion, a learned temperature."""

    def __init__(self, trial: Trial):
        self.kept = Kept()
        self.touched = False
        self._copied = trial.model is not trial.original
        self._own = {id(module) for module in trial.model.modules()}
        self._own_tensors = {id(p) for p in trial.model.parameters()}
        self._original = {id(module) for module in trial.original.modules()} if self._copied else set()
        self._original_tensors = {id(p) for p in trial.original.parameters()} if self._copied else set()

    @contextmanager
    def watching(self) -> Iterator[None]:
        handle = register_module_forward_pre_hook(self._called)
        try:
            yield
        finally:
            handle.remove()

    def _called(self, module: torch.nn.Module, args: Any) -> None:
        if id(module) in self._own:
            return
        self.touched = self.touched or id(module) in self._original
        with torch._C.DisableTorchFunction():
            self.kept.module(module)

    def before_backward(self, loss: Any) -> None:
        """Keep the gradients that are not the model's. Raises UsageError for a loss that is none, Touched for the original's."""
        if not isinstance(loss, (torch.Tensor, int, float)) and not hasattr(loss, "__float__"):
            kind = type(loss).__name__
            hint = (
                "does it lack its return statement?"
                if loss is None
                else "return one scalar tensor, the one that training calls backward() on"
            )
            raise UsageError(f"the loss function returned {'None' if loss is None else f'a {kind}'}; a scalar tensor is expected: {hint}")
        if not isinstance(loss, torch.Tensor):
            return  # a number: what backward() raises on it says where the history went
        with torch._C.DisableTorchFunction():
            for leaf in _leaves(loss):
                if id(leaf) in self._original_tensors:
                    self.touched = True
                if id(leaf) not in self._own_tensors:
                    self.kept.gradient(leaf)
        if self.touched:
            raise Touched


def _leaves(loss: torch.Tensor) -> Iterator[torch.Tensor]:
    """The tensors that a backward pass from here gives a gradient to."""
    if loss.grad_fn is None:
        if loss.requires_grad:
            yield loss
        return
    waiting: list[Any] = [loss.grad_fn]
    seen = {loss.grad_fn}
    while waiting:
        node = waiting.pop()
        variable = getattr(node, "variable", None)
        if isinstance(variable, torch.Tensor):
            yield variable
        for following, _ in node.next_functions:
            if following is not None and following not in seen:
                seen.add(following)
                waiting.append(following)
