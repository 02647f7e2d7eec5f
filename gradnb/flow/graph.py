"""The data flow of a recording: which value came from which, and whether the gradient comes back along each edge."""

from __future__ import annotations

import ast
from bisect import bisect_left, bisect_right
from typing import NamedTuple

from ..recorder.provenance import Provenance
from ..recorder.recording import Op, Recording
from ..recorder.slices import Slicer

CHECKPOINT = "CheckpointFunction"
_INDEXED = set(
    "__getitem__ gather index_select take take_along_dim scatter scatter_ scatter_add scatter_add_ scatter_reduce where masked_select "
    "masked_fill masked_fill_ index_add index_add_ __setitem__ embedding index_put_".split()
)


class Edge(NamedTuple):
    """Data went from ``source`` to ``target`` through an op; ``carries`` says whether the gradient comes back."""

    source: int
    target: int
    op: int
    carries: bool
    chooses: bool = False  # the source only chose where to look (an index, a mask)


class Graph:
    """Edges on demand, with what went through Python filled in where a loss depends on it."""

    def __init__(self, recording: Recording):
        self.recording = recording
        self.slicer = Slicer(recording.sources)
        self.provenance = Provenance(recording, self.slicer)
        self._parents: dict[int, list[Edge]] = {}
        self._inner: dict[int, list[int]] = {}
        self._writes: dict[int, list[tuple[int, int]]] = {}
        for i, op in enumerate(recording.ops):
            if op.parent >= 0:
                self._inner.setdefault(op.parent, []).append(i)
            if op.kind == "inplace" and op.outputs and op.inputs:
                self._writes.setdefault(recording.values[op.outputs[0]].group, []).append((i, op.outputs[0]))
        self._cones: dict[tuple[int, ...], "Cone"] = {}
        self._of_models: set[int] | None = None  # groups of values that are parameters of a model
        self._last_uses: dict[tuple[int, int], int] = {}  # (value that no op made, line) -> the last op that reads it there
        self._at_line: dict[int, list[int]] = {}  # line -> ops that ran there, in order

    def parents(self, value: int) -> list[Edge]:
        known = self._parents.get(value)
        if known is None:
            known = self._parents[value] = self._edges(value)
        return known

    def cone(self, losses: tuple[int, ...]) -> "Cone":
        """Everything that the losses depend on."""
        known = self._cones.get(losses)
        if known is None:
            known = self._cones[losses] = Cone(self, losses)
        return known

    def text(self, op: int, limit: int = 70) -> str:
        """The user's expression that made the call."""
        stack = self.recording.ops[op].stack
        return self.slicer.text(self.recording.sites[stack[0]], limit) if stack else ""

    # -- edges -----------------------------------------------------------------------------------------------------------

    def _edges(self, value: int) -> list[Edge]:
        recording = self.recording
        made = recording.values[value].op
        if made < 0:
            return self._from_python(value)
        op = recording.ops[made]
        edges = [
            self._edge(source, value, made, op, position)
            for position, source in enumerate(op.inputs)
            if source != value and not _only_shape(op.name, position) and not _beside(op, position, value)
        ]
        if op.kind == "function":
            edges.extend(self._closure(value, made, op))
        edges.extend(self._aliases(value, made, op))
        if op.kind == "factory" or op.numbers:
            for escape in self.provenance.of_op(made, op):
                edges.extend(Edge(source, value, escape, False) for source in recording.ops[escape].inputs)
        return edges

    def _edge(self, source: int, target: int, index: int, op: Op, position: int) -> Edge:
        values = self.recording.values
        u, v = values[source], values[target]
        indexing = position > 0 and _is_index(u.dtype, op.name)
        if op.kind in ("cut", "leaf", "factory") or (op.kind == "inplace" and op.name == "data"):
            return Edge(source, target, index, False)
        carries = u.requires_grad and v.requires_grad and (op.grad_enabled or op.kind == "python")
        if op.kind == "inplace" and position > 0 and v.leaf:
            carries = False
        return Edge(source, target, index, carries, indexing)

    def _closure(self, value: int, made: int, op: Op) -> list[Edge]:
        """What the forward of a custom Function read without being given it."""
        inner = self._inner.get(made, [])
        own = {v for i in inner for v in self.recording.ops[i].outputs}
        given = set(op.inputs)
        outer = dict.fromkeys(v for i in inner for v in self.recording.ops[i].inputs if v not in own and v not in given)
        carries = CHECKPOINT in (op.function or "") and self.recording.values[value].requires_grad
        return [Edge(v, value, made, carries and self.recording.values[v].requires_grad) for v in outer]

    def _aliases(self, value: int, made: int, op: Op) -> list[Edge]:
        """An input whose memory was written through another view since it was made."""
        edges = []
        for source in op.inputs:
            group = self.recording.values[source].group
            writes = self._writes.get(group)
            if not writes:
                continue
            at = bisect_left(writes, (made, -1)) - 1
            if at < 0:
                continue
            when, written = writes[at]
            if written != source and when > self.recording.values[source].op and when != made:
                v, w = self.recording.values[value], self.recording.values[written]
                if self._behind_a_cut(written) or not self.recording.ops[when].grad_enabled:  # memory is shared, history is not
                    edges.append(Edge(written, value, when, False))
                    continue
                edges.append(
                    Edge(
                        written,
                        value,
                        when if not w.requires_grad else made,
                        w.requires_grad and v.requires_grad and op.kind not in ("cut", "leaf"),
                    )
                )
        return edges

    def _behind_a_cut(self, value: int) -> bool:
        """Was a value written through a view that ``.data`` or ``detach`` made."""
        for _ in range(16):
            made = self.recording.values[value].op
            if made < 0 or not self.recording.ops[made].inputs:
                return False
            if self.recording.ops[made].kind == "cut":
                return True
            value = self.recording.ops[made].inputs[0]
        return False

    def _from_python(self, value: int) -> list[Edge]:
        recording = self.recording
        met = recording.met.get(value)
        if met is None or recording.values[value].parameter >= 0 and recording.parameters[recording.values[value].parameter].registered:
            return []
        op, position = met
        if op >= len(recording.ops):
            return self._met_by_event(value, op)
        escapes, producers = self.provenance.of_fresh(op, position)
        return self._python_edges(value, escapes, [p for p in producers if not self._outlives(value, op, p)])

    def _outlives(self, value: int, met: int, producer: int) -> bool:
        """Was a tensor used here again after its supposed producer had run again: a constant that a library holds, no result of it."""
        ops = self.recording.ops
        if not self._at_line:
            for i, op in enumerate(ops):
                if op.stack:
                    self._at_line.setdefault(op.stack[0], []).append(i)
                    self._last_uses.update(((source, op.stack[0]), i) for source in op.inputs if self.recording.values[source].op < 0)
        if not ops[met].stack or not ops[producer].stack:
            return False
        last, again = self._last_uses.get((value, ops[met].stack[0]), met), self._at_line[ops[producer].stack[0]]
        following = bisect_right(again, met)
        return following < len(again) and again[following] < last

    def _met_by_event(self, value: int, time: int) -> list[Edge]:
        event = next((e for e in self.recording.events if value in e.losses and e.time == time), None)
        return self.of_receiver(value, event.stack, time) if event is not None else []

    def of_receiver(self, value: int, stack: tuple[int, ...], time: int) -> list[Edge]:
        """Edges into a loss that no recorded op made, from the expression that ``backward`` was called on."""
        found = self.slicer.at(self.recording.sites[stack[0]]) if stack else None
        if found is None:
            return []
        node = found[2]
        if isinstance(node, ast.Attribute):
            read = [node.value]
        elif isinstance(node, ast.Call):
            read = [node.func.value] if isinstance(node.func, ast.Attribute) and not node.args else list(node.args[:1])
        else:
            read = [node]
        escapes, producers = self.provenance.of_expression(stack, read, time)
        return self._python_edges(value, escapes, producers)

    def _python_edges(self, value: int, escapes: list[int], producers: list[int]) -> list[Edge]:
        ops, values = self.recording.ops, self.recording.values
        edges = [Edge(source, value, e, False) for e in escapes for source in ops[e].inputs]
        if not escapes:
            # only the last tensors made inside the expression: what fed them is their own history, a truth value was a library's check,
            # and a model's parameter is no result of the call of the model
            used = {u for p in producers for u in ops[p].inputs}
            made = [p for p in producers if not self._builds_a_model(p)]
            last = [(p, out) for p in made for out in ops[p].outputs if out not in used and out < value]
            edges.extend(Edge(out, value, p, False) for p, out in last if values[out].dtype != "bool" or values[value].dtype == "bool")
        return edges

    def _builds_a_model(self, op: int) -> bool:
        """Is what it makes a model's parameter by now: under a name of its own, if the model was frozen since."""
        values, people = self.recording.values, self.recording.parameters
        if self._of_models is None:
            self._of_models = {v.group for v in values if v.parameter >= 0 and people[v.parameter].registered}
        return any(values[v].group in self._of_models for v in self.recording.ops[op].outputs)


class Cone:
    """The values that some losses depend on, and which parameters reach each of them by data and by gradient.

    ``live[v]`` and ``data[v]`` are bit sets over sources: parameters (by index), then any extra leaves asked for.
    """

    def __init__(self, graph: Graph, losses: tuple[int, ...]):
        self.graph = graph
        self.losses = losses
        self.edges: dict[int, list[Edge]] = {}
        todo = list(losses)
        while todo:
            value = todo.pop()
            if value in self.edges:
                continue
            parents = self.edges[value] = graph.parents(value)
            todo.extend(e.source for e in parents if e.source not in self.edges)
        self.order = sorted(self.edges)
        self.children: dict[int, list[Edge]] = {}
        for value in self.order:
            for edge in self.edges[value]:
                self.children.setdefault(edge.source, []).append(edge)
        self.live: dict[int, int] = {}
        self.data: dict[int, int] = {}
        values = graph.recording.values
        for value in self.order:
            live = data = 0
            for edge in self.edges[value]:
                data |= self.data.get(edge.source, 0)
                if edge.carries:
                    live |= self.live.get(edge.source, 0)
            if values[value].parameter >= 0:
                bit = 1 << values[value].parameter
                data |= bit
                if values[value].requires_grad:
                    live |= bit
            self.live[value], self.data[value] = live, data

    def reached(self) -> int:
        """Bit set of the parameters that some loss depends on through data."""
        found = 0
        for loss in self.losses:
            found |= self.data.get(loss, 0)
        return found

    def fed(self) -> int:
        """Bit set of the parameters that the gradient of some loss can come back to."""
        found = 0
        for loss in self.losses:
            found |= self.live.get(loss, 0)
        return found

    def cuts(self) -> list[Edge]:
        """Edges on which a gradient that could have come back to a parameter is lost."""
        values = self.graph.recording.values
        return [
            e
            for value in self.order
            for e in self.edges[value]
            if not e.carries
            and self.live.get(e.source, 0)
            # a parameter that is frozen and unfrozen again, or written by its optimizer, stays itself
            and not (values[value].parameter >= 0 and values[value].parameter == values[e.source].parameter)
        ]

    def upstream(self, value: int, carrying: bool = True) -> set[int]:
        """The values on the gradient's side of a value (or all it depends on)."""
        found: set[int] = set()
        todo = [value]
        while todo:
            v = todo.pop()
            if v in found:
                continue
            found.add(v)
            todo.extend(e.source for e in self.edges.get(v, ()) if e.carries or not carrying)
        return found


def _only_shape(name: str, position: int) -> bool:
    """An argument that lends its shape or dtype, not its numbers."""
    if position == 0:
        return name in ("new_tensor", "new_full", "full_like")
    return name in ("expand_as", "view_as", "reshape_as", "type_as", "to", "sum_to_size", "new_zeros", "new_ones", "new_empty")


def _beside(op: Op, position: int, value: int) -> bool:
    """Of operations that treat their inputs one by one: an input that another output belongs to."""
    one_by_one = op.name in ("broadcast_tensors", "meshgrid") and len(op.inputs) == len(op.outputs) > 1
    return one_by_one and op.outputs[position] != value


def _is_index(dtype: str, name: str) -> bool:
    return dtype.startswith(("int", "uint", "bool")) and name in _INDEXED
