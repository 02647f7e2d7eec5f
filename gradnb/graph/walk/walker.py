"""The graph behind bare tensors, without a recording: a walk along ``grad_fn``. It shows what autograd kept, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from ...errors import UsageError
from ...recorder.gradients import norms
from ...recorder.readable import readable
from ..model import Edge, Graph, Node
from . import autograd, guess
from .collect import Behind, named
from .leaves import Names, gradients, state
from .saved import Saved, describe, key, size

_RECORD = "%%gradcheck (or gradnb.check()) on the code that computes it records what autograd forgets"


def walk(
    tensors: Any,
    model: torch.nn.Module | None = None,
    *,
    double_backward: bool = False,
    saved: bool = False,
    names: Mapping[str, Any] | None = None,
) -> Graph:
    """The autograd graph of a tensor, or of a list, tuple or dict of tensors, as torch has it now.

    Parameters have their names from ``model``, or from the modules and variables in ``names`` (a namespace). Which module an
    operation belongs to is a guess by the parameters that it uses. States and norms (L2) of leaves are read from ``.grad``.
    ``saved`` adds the tensors that were saved for the backward pass; ``double_backward`` adds the graph that gradients in
    ``.grad`` carry after ``backward(create_graph=True)``. Nothing is changed, no hook is set, and no tensor is kept.

    Raises UsageError for anything that is no tensor.
    """
    roots = named(tensors)
    if model is not None and not isinstance(model, torch.nn.Module):
        raise UsageError(f"model is of type {type(model).__name__}; an nn.Module is expected: graph(loss, model)")
    with torch._C.DisableTorchFunction(), torch.no_grad():
        return _Walk(roots, Names(model, names)).graph(double_backward=double_backward, saved=saved)


class _Walk:
    def __init__(self, roots: list[tuple[str, torch.Tensor]], names: Names):
        self.roots, self.names, self.behind = roots, names, Behind()
        self.nodes: list[Node] = []
        self.edges: dict[tuple[int, int], Edge] = {}
        self.of_leaf: dict[int, int] = {}  # leaf -> position in nodes
        self.of_node: dict[Any, int] = {}
        self.notes: list[str] = []
        self.first: set[Any] = set()  # autograd nodes of what was asked for, without those of the gradients' own graph

    def graph(self, *, double_backward: bool, saved: bool) -> Graph:
        for _, tensor in self.roots:
            self.behind.add(tensor)
        self.first = set(self.behind.inputs)
        grads = self._second(double_backward)
        order = self.behind.order()
        self.names.learn(self.behind.leaves)
        self._leaves()
        self._operations(order)
        if saved:
            self._saved(order)
        self._ends()
        self._gradients_of(grads)
        self._rest()
        return self._sorted()

    # -- the walk ------------------------------------------------------------------------------------------------------

    def _second(self, wanted: bool) -> list[tuple[int, torch.Tensor]]:
        """Leaves whose gradient has a graph of its own; it is walked where that is wanted."""
        found = [(n, leaf.grad) for n, leaf in enumerate(self.behind.leaves) if leaf.grad is not None and leaf.grad.grad_fn is not None]
        if not wanted and any(grad.grad_fn not in self.behind.inputs for _, grad in found):
            self.notes.append("the gradients in .grad carry a graph of their own (create_graph=True): double_backward=True draws it too")
        if not wanted:
            return []
        if not found:
            self.notes.append("double_backward: no gradient in .grad carries a graph; it does after loss.backward(create_graph=True)")
        for _, grad in found:
            self.behind.add(grad)
        return found

    # -- nodes ---------------------------------------------------------------------------------------------------------

    def _add(self, node: Node) -> int:
        self.nodes.append(node)
        return len(self.nodes) - 1

    def _leaves(self) -> None:
        for number, (leaf, (word, norm)) in enumerate(zip(self.behind.leaves, gradients(self.behind.leaves))):
            self.of_leaf[number] = self._add(self._leaf_node(leaf, word, norm))
        if self.behind.leaves and not any(leaf.grad is not None for leaf in self.behind.leaves):
            self.notes.append("no .grad is set yet: blue means that backward() would bring a gradient here")

    def _leaf_node(self, leaf: torch.Tensor, word: str, norm: float | None) -> Node:
        held = self.names.parameter(leaf)
        variable = self.names.variable(leaf)
        name, module = held[0] if held else (variable, "")
        parameter = bool(held) or isinstance(leaf, torch.nn.Parameter)
        label = (name.rpartition(".")[2] if held else name) or ("parameter" if parameter else "input")
        node = Node("parameter" if parameter else "input", label, name, module, autograd.shape_of(leaf), autograd.dtype_of(leaf))
        node.requires_grad = leaf.requires_grad
        node.trainable = leaf.requires_grad if parameter else None
        node.state, node.norm = word if parameter or word != "frozen" else "data", norm
        return node

    def _operations(self, order: list[Any]) -> None:
        variables = self.names.operations()
        place = {node: at for at, node in enumerate(order)}
        steps = []
        for at, made in enumerate(order):
            label, function = autograd.operation(made)
            shape, dtype = autograd.output(made)
            node = Node("operation", label, "", "", shape, dtype, True, None, autograd.full_name(made), "flows", function=function)
            node.order = float(at)
            if made in variables:
                node.name, result = variables[made]
                self._retained(node, result)
            self.of_node[made] = self._add(node)
            sources = self.behind.inputs[made]
            step = guess.Step(label, shape, others=made in self.behind.open, part=int(made not in self.first))
            step.inputs = [place[source] for source in sources if source in place]
            step.leaves = [self.behind.leaf_of[source] for source in sources if source in self.behind.leaf_of]
            steps.append(step)
            for source in sources:
                self._link(self._position(source), self.of_node[made])
        holders = {
            number: guess.Holder(autograd.shape_of(leaf), [path for _, path in self.names.parameter(leaf)])
            for number, leaf in enumerate(self.behind.leaves)
            if self.names.parameter(leaf)
        }
        for made, path in zip(order, guess.modules_of(steps, holders, self.names.modules)):
            self.nodes[self.of_node[made]].module = path

    def _position(self, source: Any) -> int:
        return self.of_leaf[self.behind.leaf_of[source]] if source in self.behind.leaf_of else self.of_node[source]

    def _retained(self, node: Node, result: torch.Tensor) -> None:
        """The gradient of an intermediate result that the user kept with retain_grad()."""
        if result.retains_grad and result.grad is not None:
            node.norm = norms([result.grad.detach()])[0]
            node.state = state(node.norm)

    def _link(self, source: int, target: int, kind: str = "") -> None:
        from_leaf = self.nodes[source].kind in ("parameter", "input")
        word = kind or ("starved" if from_leaf and self.nodes[source].state == "starved" else "flows")
        if source != target:
            self.edges.setdefault((source, target), Edge(source, target, word))

    def _saved(self, order: list[Any]) -> None:
        reader = Saved()
        known: dict[Any, int] = {}
        held: list[torch.Tensor] = []  # ids stay their own while these live
        memory = {key(tensor): name for name, tensor in ((self.names.variable(t), t) for t in self.names.tensors)}
        own = {key(leaf): number for number, leaf in enumerate(self.behind.leaves)}
        for made in order:
            target = self.of_node[made]
            for kept in reader.of(made):
                where = key(kept.tensor) if kept.tensor is not None else object()
                if where in own or kept.tensor is not None and kept.tensor._base is not None and key(kept.tensor._base) in own:
                    continue  # a parameter, which is there already
                if where not in known:
                    label, shape, dtype = describe(kept)
                    name = memory.get(where, "")
                    node = Node("input", label, name, self.nodes[target].module, shape, dtype, order=self.nodes[target].order - 0.25)
                    if kept.tensor is not None:
                        held.append(kept.tensor)
                        reader.bytes += size(kept.tensor)
                        node.requires_grad = kept.tensor.requires_grad
                    known[where] = self._add(node)
                self._link(known[where], target, "data")
        self.notes += reader.notes()

    # -- what it ends in -----------------------------------------------------------------------------------------------

    def _ends(self) -> None:
        end = float(len(self.of_node))
        for name, tensor in self.roots:
            called = name or self.names.variable(tensor)
            single = tensor.numel() == 1 if not tensor.is_nested else False
            if tensor.grad_fn is None and tensor.requires_grad:
                self.notes.append(f"{called or 'the tensor'} is a leaf: no operation made it")
                continue
            node = Node(
                "loss", called or ("loss" if single else "output"), called, "", autograd.shape_of(tensor), autograd.dtype_of(tensor)
            )
            node.requires_grad, node.grad_fn = tensor.requires_grad, type(tensor.grad_fn).__name__ if tensor.grad_fn is not None else ""
            node.order, node.state = end + 0.25, "flows" if tensor.requires_grad else "data"
            if single and readable(tensor) and not tensor.is_complex():
                node.value = float(tensor.detach())
            at = self._add(node)
            if tensor.grad_fn is not None:
                self._link(self.of_node[tensor.grad_fn], at)
            else:
                why = "autograd kept no history of it, or there was none"
                self.notes.append(f"{called or 'the tensor'} has no grad_fn and requires no gradient: {why}. {_RECORD}.")

    def _gradients_of(self, grads: list[tuple[int, torch.Tensor]]) -> None:
        for number, grad in grads:
            leaf, source = self.nodes[self.of_leaf[number]], self.of_node[grad.grad_fn]
            node = Node("operation", f"{leaf.label}.grad", f"{leaf.name or leaf.label}.grad", self.nodes[source].module)
            node.shape, node.dtype, node.requires_grad, node.norm = leaf.shape, leaf.dtype, True, leaf.norm
            node.grad_fn, node.state, node.order = type(grad.grad_fn).__name__, "flows", self.nodes[source].order + 0.5
            self._link(source, self._add(node))

    def _rest(self) -> None:
        """Parameters of the model that the walk did not meet."""
        model = self.names.model
        if model is None:
            return
        missing = [p for p in model.parameters() if id(p) not in self.behind.number]
        trainable = sum(p.requires_grad for p in missing)
        for parameter in missing:
            word = "starved" if parameter.requires_grad else "frozen"
            self._add(self._leaf_node(parameter, word, None))
        if trainable:
            of = f"{trainable} of the model's {sum(p.requires_grad for p in model.parameters())} trainable parameters"
            are, them = ("is", "it") if trainable == 1 else ("are", "them")
            self.notes.append(
                f"{of} {are} not in this graph: no gradient can reach {them} from here. {_RECORD}, and shows where it is lost."
            )
        if len(missing) > trainable:
            count = len(missing) - trainable
            self.notes.append(f"{count} frozen parameter{'s' if count != 1 else ''} without edges: autograd does not follow frozen ones")

    def _sorted(self) -> Graph:
        first: dict[int, float] = {}
        for source, target in self.edges:
            first[source] = min(first.get(source, self.nodes[target].order), self.nodes[target].order)
        for at in [*self.of_leaf.values()]:
            self.nodes[at].order = first.get(at, 0.0) - 0.5
        for node in self.nodes:
            if node.kind == "parameter" and node.order == 0.0:
                node.order = -1.0
        order = sorted(range(len(self.nodes)), key=lambda n: (self.nodes[n].order, n))
        place = {old: new for new, old in enumerate(order)}
        edges = [Edge(place[e.source], place[e.target], e.kind, e.cut, e.norm) for e in self.edges.values()]
        edges.sort(key=lambda e: (e.target, e.source))
        title = ", ".join(node.label for node in self.nodes if node.kind == "loss")
        return Graph([self.nodes[n] for n in order], edges, title, self.names.classes(), notes=self.notes)
