"""Collects the autograd nodes behind tensors, as far as ``grad_fn`` leads: iteratively, because graphs are deep."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Mapping
from typing import Any

import torch

from ...errors import UsageError
from .autograd import operation, sequence, variable
from .guess import PASSES_ON


def named(tensors: Any) -> list[tuple[str, torch.Tensor]]:
    """(name or "", tensor) of what the user gave. Raises UsageError for anything that is no tensor."""
    if isinstance(tensors, torch.Tensor):
        return [("", tensors)]
    items: list[tuple[str, Any]] = []
    if isinstance(tensors, Mapping):
        items = [(str(name), item) for name, item in tensors.items()]
    elif isinstance(tensors, (list, tuple)):
        items = [("", item) for item in tensors]
    wrong = [item for _, item in items if not isinstance(item, torch.Tensor)]
    if wrong or not items:
        empty = "an empty " if isinstance(tensors, (Mapping, list, tuple)) else "a " if tensors is not None else ""
        given = f"a {type(wrong[0]).__name__} in a {type(tensors).__name__}" if wrong else f"{empty}{type(tensors).__name__}"
        raise UsageError(f"{given} was given; a tensor, or a list or dict of tensors is expected: graph(loss)")
    return items


class Behind:
    """What lies behind some tensors. It holds the Python objects of the nodes: their ids would be used again."""

    def __init__(self) -> None:
        self.inputs: dict[Any, list[Any]] = {}  # node -> those whose results it took
        self.open: set[Any] = set()  # nodes that took something that autograd does not follow
        self.leaves: list[torch.Tensor] = []
        self.leaf_of: dict[Any, int] = {}  # AccumulateGrad -> position in leaves
        self.number: dict[int, int] = {}  # id of a leaf -> position in leaves

    def add(self, tensor: torch.Tensor) -> None:
        if tensor.grad_fn is None:
            if tensor.requires_grad:
                self._leaf(tensor)
            return
        todo = [tensor.grad_fn]
        while todo:
            node: Any = todo.pop()
            if node in self.inputs:
                continue
            self.inputs[node] = []
            leaf = variable(node)
            if leaf is not None:
                self.leaf_of[node] = self._leaf(leaf)
                continue
            following = [source for source, _ in node.next_functions]
            if None in following or not following:
                self.open.add(node)
            self.inputs[node] = list(dict.fromkeys(source for source in following if source is not None))
            todo.extend(reversed(self.inputs[node]))

    def _leaf(self, tensor: torch.Tensor) -> int:
        number = self.number.get(id(tensor))
        if number is None:
            number = self.number[id(tensor)] = len(self.leaves)
            self.leaves.append(tensor)
        return number

    def order(self) -> list[Any]:
        """Operations from earlier to later: by their inputs, and by their numbers where those leave a choice."""
        users: dict[Any, list[Any]] = {}
        waiting: dict[Any, int] = {}
        ready: list[tuple[int, int, Any]] = []
        count = itertools.count()  # nodes of one number are taken as they come
        for node in reversed([node for node in self.inputs if node not in self.leaf_of]):
            sources = [source for source in self.inputs[node] if source not in self.leaf_of]
            waiting[node] = len(sources)
            for source in sources:
                users.setdefault(source, []).append(node)
            if not sources:
                heapq.heappush(ready, (sequence(node), next(count), node))
        order: list[Any] = []
        while ready:
            _, _, node = heapq.heappop(ready)
            order.append(node)
            for user in users.get(node, ()):
                waiting[user] -= 1
                if not waiting[user]:
                    heapq.heappush(ready, (sequence(user), next(count), user))
        return self._parameters_late(order)

    def _parameters_late(self, order: list[Any]) -> list[Any]:
        """What only gives a parameter another form moves to its first use: a linear layer transposes its weight before its input."""
        forms: set[Any] = set()
        for node in order:
            sources = self.inputs[node]
            if len(sources) == 1 and (sources[0] in self.leaf_of or sources[0] in forms) and operation(node)[0] in PASSES_ON:
                forms.add(node)
        settled: dict[Any, None] = {}
        for node in order:
            if node not in forms:
                for source in self.inputs[node]:
                    chain = []
                    while source in forms and source not in settled:
                        chain.append(source)
                        source = self.inputs[source][0]
                    settled.update(dict.fromkeys(reversed(chain)))
                settled[node] = None
        settled.update(dict.fromkeys(order))  # forms that nothing uses
        return list(settled)
