"""``gradnb.graph()``: a picture of whatever the user has: the last report, a report, tensors, or a model."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import Any

import torch

from ..errors import UsageError
from ..recorder.frames import Frames, user_frame, visible_names
from ..recorder.roots import unwrapped
from ..report.report import Report
from .forward import forward
from .model import Graph
from .outline import outline
from .picture import Picture
from .walk.autograd import shape_of
from .walk.leaves import Names
from .walk.walker import walk

_EXPECTED = "a tensor, a list of tensors, an nn.Module or a Report is expected, or nothing for the last report: graph(loss, model)"


def graph(
    what: Any = None,
    model: torch.nn.Module | None = None,
    *,
    inputs: Any = None,
    depth: int | None = None,
    focus: str | None = None,
    only: str | None = None,
    step: int | None = None,
    saved: bool = False,
    double_backward: bool = False,
) -> Picture:
    """The autograd graph as a Picture, which shows itself in a notebook and can be explored and exported.

    ``graph()`` draws the last report, ``graph(report)`` another one: with the places where a gradient was lost. ``graph(loss)`` or
    ``graph([loss_g, loss_d])`` walks along ``grad_fn`` from tensors that were not recorded, and shows what autograd kept.
    ``graph(model)`` shows the part of the last report that this module played, its parameters where it played none.

    Parameters
    ----------
    what
        A Report, a tensor (of any shape), a list of tensors, or a module; the last report without it.
    model
        With tensors: gives parameters their names, which come from the variables around the call without it.
    inputs
        With a module: record one forward pass of it on these (a tuple stands for several arguments, a dict for arguments by name), and
        leave everything as it was.
    depth
        Open so many levels of modules, functions and other folds, 0 for none.
    focus
        Show one module (``"encoder.3"``) or variable from near.
    only
        ``"lost"`` leaves only the ways on which a gradient is lost.
    step
        Which recorded step to draw, from 1; by default the first in which the worst finding has a place.
    saved
        With tensors: add those that are saved for the backward pass.
    double_backward
        With tensors: add the graph of gradients made with ``create_graph=True``.

    Returns
    -------
    Picture
        See ``Picture.fold``, ``explore`` and the exports.

    Raises
    ------
    UsageError
        For anything else, for names that are not there, and where there is nothing to draw.
    """
    options: dict[str, Any] = {"depth": depth, "focus": focus, "only": only, "step": step}
    return draw(what, model, inputs=inputs, saved=saved, double_backward=double_backward, names=callers_names(), **options)


def callers_names(depth: int = 2) -> Mapping[str, Any]:
    """What the code around the call can see: its locals over its globals."""
    frame = user_frame(Frames(), depth)
    return visible_names(frame) if frame is not None else {}


def draw(
    what: Any,
    model: Any = None,
    *,
    inputs: Any = None,
    depth: int | None = None,
    focus: str | None = None,
    only: str | None = None,
    step: int | None = None,
    saved: bool = False,
    double_backward: bool = False,
    names: Mapping[str, Any],
) -> Picture:
    """As ``graph``, with the user's namespace given."""
    if what is None and model is not None:
        what, model = model, None
    tensors = isinstance(what, torch.Tensor) or _holds_tensors(what)
    if model is not None and not tensors:
        given = f"{_a(what)} and {_a(model)} were given"
        raise UsageError(f"{given}; graph(loss, model) names the parameters behind a loss, graph(model, inputs=x) runs the model")
    if (saved or double_backward) and not tensors:
        option = "saved" if saved else "double_backward"
        raise UsageError(f"{option}=True reads the graph behind a living tensor: graph(loss, {option}=True)")
    if isinstance(what, torch.nn.Module):
        picture, about = _of_module(what, inputs, names)
        focus = focus if focus is not None else about
    elif inputs is not None:
        raise UsageError(f"inputs= goes with a model: graph(model, inputs=batch); {_a(what)} was given")
    elif tensors:
        found = walk(what, model, saved=saved, double_backward=double_backward, names=names)
        picture = Picture([found], alive=[weakref.ref(tensor) for tensor in _tensors(what)])
    else:
        picture = _of_report(what)
    if depth is None and focus is None and only is None and step is None:
        return picture
    return picture.fold(depth=depth, focus=focus, only=only, step=step)


def _of_report(what: Any) -> Picture:
    if what is None:
        from ..check import last_report

        what = last_report()
        if what is None:
            raise UsageError("there is no report yet: put %%gradcheck on the cell that trains, or draw a tensor: graph(loss)")
    if isinstance(what, Report):
        return what.graph
    if isinstance(what, Picture):
        return what
    raise UsageError(f"{_a(what)} was given; {_EXPECTED}")


def _of_module(module: torch.nn.Module, inputs: Any, names: Mapping[str, Any]) -> tuple[Picture, str | None]:
    """The picture, and the module that it is to show from near."""
    name, path = _called(module, names)
    if inputs is not None:
        return forward(module, inputs, name if path == name else path.rpartition(".")[2]), None
    from ..check import last_report

    report = last_report()
    if report is not None and report.recording is not None:
        picture = report.graph
        if any(_took_part(graph, path, module) for graph in picture.graphs):
            step = next(i for i, graph in enumerate(picture.graphs, 1) if _took_part(graph, path, module))
            return picture.fold(step=step) if step != picture.step else picture, (path if "." in path or _several(picture.graph) else None)
    return Picture([outline(module, path)]), None


def _called(module: torch.nn.Module, names: Mapping[str, Any]) -> tuple[str, str]:
    """The variable of the model that a module belongs to, and its path with that in front."""
    wanted = unwrapped(module)
    roots = Names(None, names).roots
    for name, root in sorted(roots, key=lambda item: 0 if item[1] is wanted else sum(1 for _ in item[1].modules()), reverse=True):
        for path, part in root.named_modules():
            if part is wanted:
                return name, f"{name}.{path}" if path else name
    name = type(wanted).__name__.lower()
    return name, name


def _took_part(graph: Graph, path: str, module: torch.nn.Module) -> bool:
    """Is it the module of that name, class and parameters; a recording holds no objects to compare."""
    if graph.classes.get(path) != type(unwrapped(module)).__name__:
        return False
    inside = [node for node in graph.nodes if node.module == path or node.module.startswith(path + ".")]
    shapes = {shape_of(p) for p in module.parameters()}
    return bool(inside) and all(node.shape in shapes for node in inside if node.kind == "parameter")


def _several(graph: Graph) -> bool:
    """Are there several models in the graph."""
    return len({node.module.split(".")[0] for node in graph.nodes if node.module}) > 1


def _holds_tensors(what: Any) -> bool:
    items = list(what.values()) if isinstance(what, Mapping) else what if isinstance(what, (list, tuple)) else []
    return any(isinstance(item, torch.Tensor) for item in items)


def _tensors(what: Any) -> list[torch.Tensor]:
    return [what] if isinstance(what, torch.Tensor) else list(what.values() if isinstance(what, Mapping) else what)


def _a(value: Any) -> str:
    if isinstance(value, type):
        return f"the class {value.__name__}, not an object of it,"
    if isinstance(value, (list, tuple, dict)):
        return f"{'an empty' if not value else 'a'} {type(value).__name__}{'' if not value else ' without a tensor'}"
    return f"an object of type {type(value).__name__}" if value is not None else "nothing"
