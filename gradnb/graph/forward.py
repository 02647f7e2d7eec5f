"""One recorded forward pass of a model, which leaves nothing behind."""

from __future__ import annotations

import copy
import inspect
from types import FrameType
from typing import Any

import torch

from ..check import _cells, unrecorded
from ..errors import UsageError
from ..recorder.build import build as build_recording
from ..recorder.frames import Frames, user_frame
from ..recorder.recorder import Recorder
from ..recorder.recording import Recording
from ..trial.kept import Kept, random_kept
from .build.steps import build
from .model import Graph
from .picture import Picture


def forward(model: torch.nn.Module, inputs: Any, name: str = "model") -> Picture:
    """The graph of ``model(*inputs)``. Parameters, buffers, gradients, modes and random streams stand afterwards as before.

    ``inputs`` is a tensor, a tuple of positional arguments or a dict of arguments by name. Raises UsageError where the model
    fails on them.
    """
    args, kwargs = _arguments(model, inputs)
    asked = user_frame(Frames(), 1)
    with unrecorded():
        kept = Kept()
        kept.module(model)
        try:
            with random_kept(), torch.inference_mode(False), torch.enable_grad():
                recording = _record(model, args, kwargs, name)
        finally:
            kept.restore()
    graphs = build(recording)
    for graph in graphs:
        graph.title = "one forward pass"
        if asked is not None:
            _forget(graph, asked)
        graph.notes += ["a forward pass alone: no loss, and no gradient was computed", *_without_way(graph)]
    return Picture(graphs, recording=recording)


def _forget(graph: Graph, asked: FrameType) -> None:
    """Take out the line that asks for the picture and what led to it: it made none of these tensors, and gives them no name."""
    code, line = asked.f_code, asked.f_lineno
    called: set[int] = set()
    for at, node in enumerate(graph.nodes):
        for depth, frame in enumerate(node.frames):
            inside = frame.line <= line <= (frame.end_line or frame.line)
            if inside and (frame.filename, frame.function) == (code.co_filename, code.co_name):
                node.frames = node.frames[:depth]
                node.location = node.frames[0] if node.frames else None
                if not depth:
                    node.name = ""
                    called.add(at)
                break
    for edge in graph.edges:
        source = graph.nodes[edge.source]
        if edge.target in called and source.kind == "input" and not source.module:
            source.label, source.name = "input", ""


def _without_way(graph: Graph) -> list[str]:
    """The trainable parameters that no gradient of the output could come back to."""
    names = [
        node.name for node in graph.nodes if node.kind == "parameter" and node.trainable and node.state in ("data", "starved", "unused")
    ]
    if not names:
        return []
    told = ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
    return [f"no gradient of the output can come back to {told}"]


def _record(model: torch.nn.Module, args: tuple, kwargs: dict[str, Any], name: str) -> Recording:
    recorder = Recorder(steps=1, namespace={name: model}, cells=_cells())
    recorder.start()
    try:
        model(*args, **kwargs)
    except Exception as error:
        recorder.release()
        said = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise UsageError(f"{name} fails on these inputs: {said}") from error
    except BaseException:  # an interrupt
        recorder.release()
        raise
    recorder.stop()
    return build_recording(recorder)


def _arguments(model: torch.nn.Module, inputs: Any) -> tuple[tuple, dict[str, Any]]:
    """Copies where they can be made: a model may change what it is given."""
    own = _own(inputs)
    if isinstance(own, tuple):
        return own, {}
    if isinstance(own, dict) and _takes(model, own):
        return (), own
    return (own,), {}


def _own(inputs: Any) -> Any:
    try:
        return copy.deepcopy(inputs)
    except Exception:  # tensors with a history cannot be copied
        return inputs


def _takes(model: torch.nn.Module, named: dict[Any, Any]) -> bool:
    """Are these the names of its arguments; else it takes the dict as one."""
    try:
        inspect.signature(model.forward).bind(**named)
    except TypeError:
        return False
    return True
