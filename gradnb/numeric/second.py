"""The gradient of a subject as a subject of its own, so that second derivatives are compared in the same way."""

from __future__ import annotations

from typing import Any

import torch

from .conditions import RandomState
from .measure import _cotangent
from .subject import Leaf, Output, Subject


def derivative(first: Subject, state: RandomState) -> Subject:
    """Takes the leaves of the first and a weight for each of its outputs; gives the gradient for each leaf."""
    outputs = [o for o in first.run([leaf.tensor.clone().requires_grad_() for leaf in first.leaves])]
    used = [i for i, o in enumerate(outputs) if o.tensor.requires_grad]
    own = torch.Generator().manual_seed(1)
    weights = [Leaf(f"grad_{outputs[i].name}", _cotangent(outputs[i].tensor, own).detach()) for i in used]
    leaves = [Leaf(leaf.name, leaf.tensor, leaf.argument) for leaf in first.leaves]

    def call(tensors: list[torch.Tensor]) -> Any:
        points = [p if p.requires_grad else p.requires_grad_() for p in tensors[: len(leaves)]]
        given = tensors[len(leaves) :]
        state.rewind()
        found = first.run(points)
        grads = torch.autograd.grad([found[i].tensor for i in used], points, given, create_graph=True, allow_unused=True)
        return [Output(f"grad({leaf.name})", g) for leaf, g in zip(leaves, grads) if g is not None]

    return Subject(first.name, [*leaves, *weights], call)
