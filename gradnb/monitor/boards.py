"""Passing the numbers on to TensorBoard and Weights & Biases, in their own conventions, where they are installed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from ..errors import UsageError
from .history import History

Sink = Callable[[History, int], None]
"""Gets the history when the row of a step is complete."""

_GROUPS = {"norm": "gradients", "weight": "weights", "update": "updates", "zeros": "zeros"}


def tensorboard(writer: Any) -> tuple[Any, Sink]:
    """(writer, sink): scalars such as "gradients/encoder.fc1", by step."""
    if writer is None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise UsageError("to_tensorboard() needs tensorboard, which is not installed: pip install tensorboard.") from None
        writer = SummaryWriter()
    if not callable(getattr(writer, "add_scalar", None)):
        raise UsageError(f"to_tensorboard() takes a SummaryWriter, not something of type {type(writer).__name__}.")
    told: dict[str, int] = {}

    def sink(history: History, step: int) -> None:
        for name, at, value in _new(history, step, told):
            writer.add_scalar(name, value, at)

    return writer, sink


def wandb(run: Any) -> tuple[Any, Sink]:
    """(run, sink): one log() a step, on an axis of its own, so that the user's calls keep theirs."""
    if run is None:
        try:
            import wandb as library
        except ImportError:
            raise UsageError("to_wandb() needs wandb, which is not installed: pip install wandb.") from None
        run = library.run
        if run is None:
            raise UsageError("to_wandb() found no run: call wandb.init() first, or give the run.")
    if not callable(getattr(run, "log", None)):
        raise UsageError(f"to_wandb() takes a wandb run, not something of type {type(run).__name__}.")
    if callable(getattr(run, "define_metric", None)):
        run.define_metric("gradnb/step")
        run.define_metric("gradnb/*", step_metric="gradnb/step")
    told: dict[str, int] = {}

    def sink(history: History, step: int) -> None:
        by_step: dict[int, dict[str, float]] = {}
        for name, at, value in _new(history, step, told):
            by_step.setdefault(at, {})[f"gradnb/{name}"] = value
        for at, values in sorted(by_step.items()):
            run.log({"gradnb/step": at, **values})

    return run, sink


def so_far(history: History, sink: Sink) -> None:
    """What is kept already, step by step."""
    for step in history.steps:
        sink(history, step)


def _new(history: History, step: int, told: dict[str, int]) -> Iterator[tuple[str, int, float]]:
    """(name, step, value) of one row, and of the series what was not told yet up to it."""
    for column, group in _GROUPS.items() if step <= history.step else ():
        for layer, value in zip(history.layers, history.at(step, column)):
            if value is not None:
                yield f"{group}/{layer.name}", step, value
    for name in history.names:
        for at, value in history.since(name, told.get(name, 0)):
            if at <= step:
                yield name, at, value
                told[name] = at
