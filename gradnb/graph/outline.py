"""A model that never ran: its modules and parameters, and no edges."""

from __future__ import annotations

import torch

from ..errors import UsageError
from ..recorder.roots import unwrapped
from .model import Graph, Node
from .walk.autograd import dtype_of, shape_of
from .walk.leaves import gradients

_HOW = "graph(model, inputs=batch) records a forward pass; %%gradcheck on the cell that trains records the training"


def outline(model: torch.nn.Module, name: str) -> Graph:
    """The parameters in their modules, in the order of the model, with the state of their ``.grad``.

    Raises UsageError for a model without parameters: there is nothing to draw before it has run.
    """
    root = unwrapped(model)
    held: list[tuple[str, str, torch.nn.Parameter]] = []  # path of the module, name in it, parameter
    empty = []
    seen: set[int] = set()
    for path, part in root.named_modules():
        full = f"{name}.{path}" if path else name
        for key, parameter in part._parameters.items():
            if parameter is not None and id(parameter) not in seen:
                seen.add(id(parameter))
                held.append((full, f"{path}.{key}" if path else key, parameter))
        if next(part.parameters(), None) is None:
            empty.append(path)
    if not held:
        raise UsageError(f"{name} ({type(root).__name__}) has no parameters and did not run under gradnb: {_HOW}")
    with torch._C.DisableTorchFunction(), torch.no_grad():
        states = gradients([parameter for _, _, parameter in held])
    nodes = [
        Node(
            "parameter", path.rpartition(".")[2], path, module, shape_of(p), dtype_of(p), p.requires_grad, p.requires_grad, state=s, norm=n
        )
        for (module, path, p), (s, n) in zip(held, states)
    ]
    for at, node in enumerate(nodes):
        node.order = float(at)
    notes = [f"{name} did not run under gradnb, so only its parameters are known. {_HOW}."]
    if empty:
        notes.append(f"+ {len(empty)} module{'s' if len(empty) != 1 else ''} without parameters: {_some(empty)}")
    classes = {f"{name}.{path}" if path else name: type(part).__name__ for path, part in root.named_modules()}
    return Graph(nodes, title=name, classes=classes, notes=notes)


def _some(names: list[str]) -> str:
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
