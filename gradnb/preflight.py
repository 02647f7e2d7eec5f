"""``gradnb.preflight()``: one trial step before the training, which leaves everything as it was."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch.utils._pytree import tree_leaves

from .check import unrecorded
from .errors import UsageError
from .report.report import Report
from .trial.copies import NotCopyable, duplicate
from .trial.kept import Kept
from .trial.step import Touched, Trial

_CONTRACT = "preflight(model, lambda model, batch: criterion(model(batch[0]), batch[1]), batch)"


def preflight(
    model: torch.nn.Module,
    loss_fn: Callable[[Any, Any], Any],
    batch: Any,
    optimizer: torch.optim.Optimizer | None = None,
    *,
    steps: int = 1,
) -> Report:
    """Make a trial training step and say which parameters would get no gradient, at which line, why, and what repairs it.

    Nothing of yours moves: parameters, buffers, gradients, optimizer state, flags and random streams stand afterwards bit
    for bit where they stood. The trial runs on a deep copy; a model that cannot be copied is stepped and put back.

    Parameters
    ----------
    model
        The module to train.
    loss_fn
        ``loss_fn(model, batch)`` returns the loss, a scalar tensor (one element); it has to use the model that it is given.
    batch
        One batch, on the device of the model.
    optimizer
        The optimizer to step with. Without, the trial moves every trainable parameter by plain SGD.
    steps
        How many trial steps are made.

    Returns
    -------
    Report
        What ``loss_fn`` raises is not raised again: it stands in ``report.raised``, with its line.

    Raises
    ------
    UsageError
        Where an argument is none that could be used, or ``loss_fn`` returns no loss.
    """
    __tracebackhide__ = True
    _refuse(model, loss_fn, batch, optimizer, steps)
    notes = []
    with unrecorded():
        try:
            twin, own = duplicate(model, optimizer)
            report, error = _trial(twin, loss_fn, batch, own, model, steps).run()
        except NotCopyable as why:
            notes.append(f"{why}: the trial ran on the model itself, which was put back bit by bit")
            report, error = _in_place(model, loss_fn, batch, optimizer, steps)
        except Touched:
            notes.append(_CAPTURED)
            report, error = _in_place(model, loss_fn, batch, optimizer, steps)
    if error is not None and (places := _devices(model, batch)):
        notes.append(places)
    report.notes[:0] = notes
    return report


_CAPTURED = (
    "loss_fn (or a closure in the model) reaches your model by another way than the argument it is given, so the trial ran on "
    "the model itself, which was put back bit by bit; write loss_fn with the model that it is given"
)


def _trial(
    model: torch.nn.Module, loss_fn: Callable, batch: Any, optimizer: torch.optim.Optimizer | None, original: torch.nn.Module, steps: int
) -> Trial:
    mine = _own(batch)
    if optimizer is not None:
        return Trial(lambda: loss_fn(model, mine), model, optimizer, original, steps)
    return Trial(lambda: loss_fn(model, mine), model, plain(model), original, steps, "trial")


def plain(model: torch.nn.Module) -> torch.optim.Optimizer:
    """Something to step with: SGD over what is trainable."""
    return torch.optim.SGD([{"params": [p for p in model.parameters() if p.requires_grad]}], lr=1e-3)


def _in_place(
    model: torch.nn.Module, loss_fn: Callable, batch: Any, optimizer: torch.optim.Optimizer | None, steps: int
) -> tuple[Report, BaseException | None]:
    kept = Kept()
    try:
        kept.module(model)
        if optimizer is not None:
            kept.optimizer(optimizer)
        for parameter in model.parameters():
            parameter.grad = None
        return _trial(model, loss_fn, batch, optimizer, model, steps).run()
    finally:
        kept.restore()


def _own(batch: Any) -> Any:
    """A batch that loss_fn may change; what cannot be copied (a generator, tensors of a graph) is handed over as it is."""
    try:
        return copy.deepcopy(batch)
    except Exception:
        return batch


def _refuse(model: Any, loss_fn: Any, batch: Any, optimizer: Any, steps: Any) -> None:
    if not isinstance(model, torch.nn.Module):
        raise UsageError(f"model is {_a(model)}; an nn.Module is expected: {_CONTRACT}")
    if not callable(loss_fn):
        raise UsageError(f"loss_fn is {_a(loss_fn)}; a function of the model and the batch is expected: {_CONTRACT}")
    if isinstance(loss_fn, torch.nn.Module) or getattr(loss_fn, "__module__", None) in ("torch.nn.functional", "torch._C._nn"):
        name = type(loss_fn).__name__ if isinstance(loss_fn, torch.nn.Module) else getattr(loss_fn, "__name__", "")
        raise UsageError(f"loss_fn is the criterion {name}, which takes an output and a target; write {_CONTRACT}")
    try:
        inspect.signature(loss_fn).bind(model, batch)
    except TypeError as error:
        raise UsageError(f"loss_fn cannot be called with the model and the batch ({error}): {_CONTRACT}") from None
    except ValueError:  # a builtin without a signature
        pass
    if isinstance(batch, torch.utils.data.DataLoader):
        raise UsageError("batch is a DataLoader; give one batch of it: next(iter(loader))")
    if optimizer is not None and not isinstance(optimizer, torch.optim.Optimizer):
        raise UsageError(f"optimizer is {_a(optimizer)}; a torch.optim.Optimizer (or None) is expected")
    if not isinstance(steps, int) or isinstance(steps, bool) or steps < 1:
        raise UsageError(f"steps={steps!r} given; a whole number of trial steps, 1 or more, is expected")


def _a(value: Any) -> str:
    return f"the class {value.__name__}, not an object of it" if isinstance(value, type) else f"of type {type(value).__name__}"


def _devices(model: torch.nn.Module, batch: Any) -> str:
    """Where the batch lies elsewhere than the model: the likely reason of an error."""
    of_model = {str(p.device) for p in model.parameters()}
    of_batch = {str(leaf.device) for leaf in tree_leaves(batch) if isinstance(leaf, torch.Tensor)}
    if not of_model or of_batch <= of_model:
        return ""
    return f"the batch lies on {', '.join(sorted(of_batch - of_model))}, the model on {', '.join(sorted(of_model))}: move the batch there"
