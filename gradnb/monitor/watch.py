"""``gradnb.watch``: the one line before the training loop."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn
from torch.amp.grad_scaler import GradScaler
from torch.optim.optimizer import Optimizer

from ..errors import UsageError
from .layers import model_label
from .monitor import Monitor
from .panel import panel_for


def watch(
    model: nn.Module | Mapping[str, nn.Module] | Sequence[nn.Module],
    optimizer: Optimizer | Sequence[Optimizer] | None = None,
    scaler: Any = None,
    every: int = 1,
    depth: int | None = None,
    include: str | Sequence[str] | None = None,
    exclude: str | Sequence[str] | None = None,
    activations: bool = False,
    updates: int | bool = 10,
    show: bool | None = None,
) -> Monitor:
    """Watch the gradients of a model while it trains; your loop stays as it is.

    Backward passes and optimizer steps are found by themselves. Results are those of the training without it, bit for bit.

    Parameters
    ----------
    model
        A module; or several, as in ``{"agent": agent, "qwen": qwen}`` (a list names them by their classes).
    optimizer
        One or several. Without, any torch optimizer that holds a watched parameter counts; and without one at all, a gradient that was
        used and cleared.
    scaler
        The GradScaler. Without, it is looked for among the global variables, and found when it calls a step: then only what it left out
        before its first step is not seen.
    every
        Record every n-th optimizer step only (the first, the n+1-th, ...).
    depth
        How many levels of modules form a layer's name; deeper ones count together. 1 gives one layer for each child.
    include, exclude
        Patterns such as "encoder.*" for names of layers or parameters.
    activations
        Look at the outputs of ReLU, tanh and sigmoid modules too, with a forward hook on each.
    updates
        Weight norms and update ratios ``|dW| / |W|`` cost more than the gradients' norms. They are measured on the first three recorded
        steps, on every n-th (default 10) up to the 100th, then on every 5 n-th; True means every one, False none. Shares of exact zeros
        are counted on the first three and on every 50th. It takes memory for a copy of the weights, on a GPU only while one is measured.
        Where two steps in a row are measured on the CPU, what is written to the weights through ``.data`` in between counts as a part of
        the later one's update; other writes do not.
    show
        None shows a panel in a notebook and a line in a terminal, False nothing, True a line at least.

    Returns
    -------
    Monitor
        ``monitor.log(loss=...)``, ``monitor.epoch()``, ``monitor.flags``, ``monitor.history``, ``monitor.stop()``; also a context manager.

    Raises
    ------
    UsageError
        Where an argument is not what is expected, or nothing trains.

    Examples
    --------
    ::

        monitor = gradnb.watch({"agent": agent, "qwen": qwen})
        for batch in loader:
            ...                                  # forward, backward, step, as before
            monitor.log(loss=loss, reward=reward)
        print(monitor)
    """
    models = _models(model)
    if not isinstance(every, int) or isinstance(every, bool) or every < 1:
        raise UsageError(f"every={every!r} records nothing: give a whole number of 1 or more.")
    if depth is not None and (not isinstance(depth, int) or isinstance(depth, bool) or depth < 0):
        raise UsageError(f"depth={depth!r}: give a whole number of 0 or more, or None for all levels.")
    if not isinstance(updates, int) or updates < 0:
        raise UsageError(f"updates={updates!r}: give True, False, or a whole number: every how many recorded steps.")
    if scaler is not None and not isinstance(scaler, GradScaler):
        raise UsageError(f"scaler is of type {type(scaler).__name__}; a torch.amp.GradScaler is expected.")
    panel = panel_for(show)
    monitor = Monitor(
        models,
        _optimizers(optimizer),
        scaler,
        every=every,
        updates=int(updates),
        depth=depth,
        include=_patterns("include", include),
        exclude=_patterns("exclude", exclude),
        activations=activations,
        near=sys._getframe(1),
    )
    monitor.attach(panel)
    return monitor


def _models(model: Any) -> dict[str, nn.Module]:
    if isinstance(model, nn.Module) and not isinstance(model, (nn.ModuleDict, nn.ModuleList)):
        return {"": model}
    if isinstance(model, (Mapping, nn.ModuleDict)):
        named = {str(label): one for label, one in model.items()}
    elif isinstance(model, (Sequence, nn.ModuleList)) and not isinstance(model, str):
        named = {}
        for one in model:
            label = model_label(one) if isinstance(one, nn.Module) else type(one).__name__
            same = sum(name.partition("#")[0] == label for name in named)
            named[f"{label}#{same + 1}" if same else label] = one
    else:
        raise UsageError(
            f"watch() takes a module, or several by name ({{'agent': agent, 'critic': critic}}), "
            f"not something of type {type(model).__name__}."
        )
    if not named:
        raise UsageError("watch() was given no model: the collection is empty.")
    for label, one in named.items():
        if not isinstance(one, nn.Module):
            raise UsageError(f"{label!r} is of type {type(one).__name__}; an nn.Module is expected.")
    return named


def _optimizers(optimizer: Any) -> list[Optimizer]:
    several = [optimizer] if not isinstance(optimizer, (list, tuple, Mapping)) else list(optimizer)
    several = list(optimizer.values()) if isinstance(optimizer, Mapping) else several
    found = []
    for one in several:
        if one is None:
            continue
        inner = one if isinstance(one, Optimizer) else getattr(one, "optimizer", None)  # what wraps one, as accelerate's does
        if not isinstance(inner, Optimizer):
            raise UsageError(f"optimizer is of type {type(one).__name__}; a torch optimizer, or a list of them, is expected.")
        found.append(inner)
    return found


def _patterns(name: str, given: Any) -> list[str]:
    patterns = [given] if isinstance(given, str) else list(given or ())
    for pattern in patterns:
        if not isinstance(pattern, str):
            raise UsageError(f"{name} takes patterns such as 'encoder.*', not something of type {type(pattern).__name__}.")
    return patterns
