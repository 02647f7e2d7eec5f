"""The picture of the autograd graph: build it, fold it, lay it out, draw it, explore it, export it.

    gradnb.graph()                       the last report, with the places where a gradient was lost
    gradnb.graph(loss, model)            what autograd kept behind a tensor (or a list of tensors) that was not recorded
    gradnb.graph(model, inputs=batch)    one recorded forward pass of a model

It gives a Picture: a notebook shows it; .explore(), .fold(depth=, focus=, only=), .to_svg(), .to_html(), .to_dot(), .to_torchviz(),
.to_json() and .to_networkx() go on from there. ``help(gradnb.graph.door.graph)`` tells about every argument.
"""

from __future__ import annotations

import sys
import types
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from .picture import Picture


class _Door(types.ModuleType):
    """The package can be called, because importing anything from it puts it in the place of a function ``gradnb.graph``."""

    def __call__(
        self,
        what: Any = None,
        model: "torch.nn.Module | None" = None,
        *,
        inputs: Any = None,
        depth: int | None = None,
        focus: str | None = None,
        only: str | None = None,
        step: int | None = None,
        saved: bool = False,
        double_backward: bool = False,
    ) -> "Picture":
        """The autograd graph of the last report, a report, tensors or a model; see ``gradnb.graph.door.graph``."""
        from .door import graph

        return graph(
            what, model, inputs=inputs, depth=depth, focus=focus, only=only, step=step, saved=saved, double_backward=double_backward
        )


sys.modules[__name__].__class__ = _Door
