"""Hooks: where a backward pass ends, and where an optimizer steps. What to make of it is the Recorder's."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any, Protocol

import torch
from torch import Tensor
from torch._compile import _disable_dynamo
from torch.optim.optimizer import Optimizer, register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from .layers import Watched

_LEARNING = 3  # steps in which every parameter carries a hook, until those are known that every backward pass reaches
_AGAIN = 100  # every so many steps the ways of the backward passes are learned anew


class Listener(Protocol):
    def backward(self, fired: set[int]) -> None: ...

    def before_step(self, optimizer: Optimizer, closure: bool) -> None: ...

    def after_step(self, optimizer: Optimizer) -> None: ...


class Probe:
    """Tells a listener of backward passes and steps. After the first steps only few parameters carry a hook: one on each way that
    a backward pass took, because a hook on each parameter would cost more than all the measuring."""

    def __init__(self, watched: Watched, optimizers: Sequence[Optimizer], listener: Listener, failed: Callable[[BaseException], None]):
        self._watched, self._listener, self._failed = watched, listener, failed
        self._engine = torch.autograd.Variable._execution_engine
        self._task = -1
        self._fired: set[int] = set()
        self._ways: set[frozenset[int]] = set()
        self._handles: dict[int, Any] = {}
        self._steps: list[Any] = []
        self._learning = True
        for optimizer in optimizers:
            self._steps += [optimizer.register_step_pre_hook(self._pre), optimizer.register_step_post_hook(self._post)]
        if not optimizers:  # whichever steps: those that hold nothing of ours are told apart by the listener
            self._steps += [register_optimizer_step_pre_hook(self._pre), register_optimizer_step_post_hook(self._post)]
        self.hook_all()

    def hook_all(self) -> None:
        """Let every watched parameter tell when a backward pass reaches it."""
        self._hook(range(len(self._watched.parameters)))
        self._learning = True

    def remove(self) -> None:
        """Take every hook away."""
        for handle in [*self._handles.values(), *self._steps]:
            handle.remove()
        self._handles.clear()
        self._steps.clear()

    def stepped(self, step: int) -> None:
        """A step is over: enough is known of the ways, or it is time to learn them anew."""
        if self._learning and step % _AGAIN >= _LEARNING:
            keep = self._cover()
            for at in [at for at in self._handles if at not in keep]:
                self._handles.pop(at).remove()
            self._learning = False
        elif not self._learning and step % _AGAIN == 0:
            self.hook_all()

    def _cover(self) -> set[int]:
        """Few parameters, so that each way holds one of them: the one on the most ways first."""
        left, chosen = set(self._ways), set()
        while left:
            counts: dict[int, int] = {}
            for way in left:
                for at in way:
                    counts[at] = counts.get(at, 0) + 1
            best = max(sorted(counts), key=lambda at: counts[at])
            chosen.add(best)
            left = {way for way in left if best not in way}
        return chosen

    def _hook(self, positions: Iterable[int]) -> None:
        for at in positions:
            parameter = self._watched.parameters[at]()
            if at not in self._handles and parameter is not None and parameter.is_leaf and parameter.requires_grad:
                self._handles[at] = parameter.register_post_accumulate_grad_hook(self._teller(at))

    def _teller(self, at: int) -> Callable[[Tensor], None]:
        def reached(parameter: Tensor) -> None:
            self._fired.add(at)
            task = torch._C._current_graph_task_id()
            if task != self._task:
                self._task = task
                self._engine.queue_callback(self._ended)

        return reached

    def _ended(self) -> None:
        # Others may have queued theirs behind this one: DistributedDataParallel brings the reduced gradients in its own.
        with suppress(RuntimeError):
            return self._engine.queue_callback(self._backward)
        self._backward()

    def _backward(self) -> None:
        fired, self._fired = self._fired, set()
        if self._learning and fired and len(self._ways) < 64:
            self._ways.add(frozenset(fired))
        self._try(self._listener.backward, fired)

    # In a compiled optimizer.step these stand between its graphs, and not inside one.
    @_disable_dynamo
    def _pre(self, optimizer: Optimizer, args: tuple, kwargs: dict) -> None:
        self._try(self._listener.before_step, optimizer, callable(args[-1] if args else kwargs.get("closure")))

    @_disable_dynamo
    def _post(self, optimizer: Optimizer, args: tuple, kwargs: dict) -> None:
        self._try(self._listener.after_step, optimizer)

    def _try(self, action: Callable[..., None], *args: Any) -> None:
        if torch.cuda.is_initialized() and torch.cuda.is_current_stream_capturing():
            return  # what is captured is not computed now, and a foreign operation would spoil the user's graph
        try:
            action(*args)
        except Exception as error:
            self._failed(error)
