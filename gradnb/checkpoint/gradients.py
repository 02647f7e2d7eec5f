"""Gradients that a save must keep: those of a batch that is not whole yet."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from .encode import Packer, Place, Unpacker

ROUNDS = 4
"""A loop is taken for one that throws old gradients away when it did so between that many steps, and never failed to; so a resume has to
have saved them where they are reset in every second or third round only."""


class _Course:
    """What is known of the gradients that one optimizer steps on."""

    def __init__(self, optimizer: torch.optim.Optimizer):
        self.optimizer = weakref.ref(optimizer)
        self.hooks: list[Any] = []
        self.begin([])

    def begin(self, ids: list[int]) -> None:
        """Nothing is known yet of these parameters."""
        self.ids = ids
        self.gradients: list[Callable[[], Any]] = []
        """Weak references to the gradients as the last step left them."""
        self.versions: list[int] = []
        self.rounds = 0
        self.keeps: set[int] = set()
        """Parameters whose gradient was once still the same tensor at the next step, or may be replaced although it is added to."""

    def end(self) -> None:
        for hook in self.hooks:
            hook.remove()

    def before(self, optimizer: torch.optim.Optimizer) -> None:
        parameters = _parameters(optimizer)
        if self.ids != [id(p) for p in parameters]:
            return self.begin([])
        same = [id(p) for p, old in zip(parameters, self.gradients) if (now := p.grad) is not None and old() is now]
        if same:
            self.keeps.update(same)
        if self.rounds < ROUNDS and any(old is not _none for old in self.gradients):
            self.rounds += 1
            # Backward adds in place to a dense gradient without a graph: there another tensor is a new one.
            self.keeps.update(
                id(p) for p in parameters if p.grad is not None and (p.grad.requires_grad or p.grad.layout is not torch.strided)
            )

    def after(self, optimizer: torch.optim.Optimizer) -> None:
        parameters = _parameters(optimizer)
        ids = [id(p) for p in parameters]
        if ids != self.ids:
            self.begin(ids)
        gradients = [p.grad for p in parameters]
        self.gradients = [_none if each is None else weakref.ref(each) for each in gradients]
        self.versions = [0 if each is None else each._version for each in gradients]

    def stale(self) -> dict[int, bool]:
        """Parameter -> whether its gradient has not changed since the step, and the next one will not see it."""
        optimizer = self.optimizer()
        if optimizer is None or self.ids != [id(p) for p in _parameters(optimizer)]:
            return {}
        found = {}
        for p, old, version in zip(_parameters(optimizer), self.gradients, self.versions):
            unchanged = p.grad is not None and old() is p.grad and p.grad._version == version
            found[id(p)] = unchanged and self.rounds >= ROUNDS and id(p) not in self.keeps
        return found


class Gradients:
    """Knows of each parameter whether its gradient will be read again.

    After a step a gradient is stale. It is left out of a save where it has not been written to since, and where the loop is known to throw
    it away: at each next step another tensor stood in its place. A loop that zeroes in place, or never, cannot be told from one that piles
    up: there gradients are always saved. The same holds for what no tracked optimizer moves, and for what two of them move.
    """

    def __init__(self) -> None:
        self._courses: dict[int, _Course] = {}

    def watch(self, optimizers: Sequence[torch.optim.Optimizer]) -> None:
        """Follow the steps of these and of no others; those that are followed already are left as they are."""
        for key in self._courses.keys() - {id(optimizer) for optimizer in optimizers}:
            self._courses.pop(key).end()
        for optimizer in optimizers:
            old = self._courses.get(id(optimizer))
            if old is None or old.optimizer() is not optimizer:
                course = self._courses[id(optimizer)] = _Course(optimizer)
                try:
                    course.hooks.append(optimizer.register_step_pre_hook(_weakly(course, _Course.before)))
                    course.hooks.append(optimizer.register_step_post_hook(_weakly(course, _Course.after)))
                    for hook in course.hooks:
                        weakref.finalize(course, hook.remove).atexit = False
                except AttributeError:  # a wrapper that is an Optimizer in name only: its gradients are always saved
                    course.end()

    def close(self) -> None:
        """Remove all hooks."""
        self.watch([])

    def _stale(self) -> set[int]:
        """Parameters whose gradient nothing will read again."""
        found: dict[int, bool] = {}
        for course in self._courses.values():
            for parameter, stale in course.stale().items():
                found[parameter] = stale and parameter not in found
        return {parameter for parameter, stale in found.items() if stale}

    def save(self, parameters: Mapping[str, Tensor], packer: Packer) -> list[Any]:
        """The record of the gradients that matter, each parameter by its name."""
        place = Place("gradients")
        stale = self._stale()
        return [
            [name, packer.value(parameter.grad, place.at(name))]
            for name, parameter in parameters.items()
            if id(parameter) not in stale and parameter.grad is not None
        ]

    def load(self, record: list[Any], parameters: Mapping[str, Tensor], unpacker: Unpacker) -> None:
        """Set the gradients of all these parameters: as saved, and None where none was saved."""
        saved = {}
        for name, tree in record:
            unpacker.like = parameters.get(name)
            saved[name] = unpacker.value(tree)
        unpacker.like = None
        with torch.no_grad():
            for name, parameter in parameters.items():
                _put(parameter, saved.get(name))
        for course in self._courses.values():
            course.gradients, course.versions = [_none] * len(course.ids), [0] * len(course.ids)


def _put(parameter: Tensor, gradient: Tensor | None) -> None:
    old = parameter.grad
    if gradient is None or old is None or old.layout is not torch.strided or (old.shape, old.dtype) != (gradient.shape, gradient.dtype):
        parameter.grad = None if gradient is None else gradient.detach().to(parameter.device)
    else:
        old.detach().copy_(gradient)  # a CUDA graph may hold its memory


def _parameters(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _none() -> None:
    """Stands where there was no gradient."""


def _weakly(course: _Course, method: Callable[[_Course, torch.optim.Optimizer], None]) -> Callable[..., None]:
    """A hook that does not keep what it serves alive, and that never stops a training."""
    reference = weakref.ref(course)

    def hook(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        alive = reference()
        if alive is not None:
            try:
                method(alive, optimizer)
            except Exception:
                alive.begin([])  # nothing is known: every gradient is saved

    return hook
