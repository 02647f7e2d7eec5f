"""Compares the graphs of a report with what the engine did, and lists every difference in words."""

from __future__ import annotations

import math
import re
from collections import Counter
from typing import Any

import torch
from engine import Engine, Pass

from gradnb.graph.build.rounds import Round, rounds
from gradnb.graph.model import Graph
from gradnb.recorder.recording import Recording
from gradnb.report.report import Report

ARRIVED = ("flows", "zero", "nan", "inf")


def differences(report: Report, namespace: dict[str, Any], engine: Engine, counted: Counter[str]) -> list[str]:
    """What the picture says and autograd did not do, or the other way round. ``counted`` tells how much was compared."""
    recording = report.recording
    assert recording is not None
    found: list[str] = []
    passes = _passes(recording, engine)
    identities = _identities(recording, namespace)
    for step, graph in zip(rounds(recording), report.graph.graphs, strict=True):
        step_of = Step(recording, step, graph, [passes[i] for i in step.events if i in passes], identities, counted)
        found += [f"{graph.title}: {line}" for line in step_of.compare()]
    return found


def _passes(recording: Recording, engine: Engine) -> dict[int, Pass]:
    """Event -> the pass of the engine; a call that failed before it reached the engine has none."""
    waiting = list(engine.passes)
    found = {}
    for number, event in enumerate(recording.events):
        if event.kind in ("backward", "grad") and waiting and waiting[0].kind == event.kind:
            found[number] = waiting.pop(0)
    return found


def _identities(recording: Recording, namespace: dict[str, Any]) -> dict[str, int]:
    """Name of a parameter -> id of the tensor; names that stand for several tensors one after another are left out."""
    found: dict[str, int] = {}

    def module(prefix: str, root: torch.nn.Module) -> None:
        for name, parameter in root.named_parameters(remove_duplicate=False):
            found.setdefault(f"{prefix}.{name}", id(parameter))
            found.setdefault(name, id(parameter))

    for name, value in namespace.items():
        items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, (list, tuple)) else ()
        for key, item in [(name, value), *((f"{name}[{k!r}]", item) for k, item in items)]:
            if isinstance(item, torch.nn.Module):
                module(key, item)
            elif isinstance(item, torch.nn.Parameter):
                found.setdefault(key, id(item))
    times = Counter(p.name for p in recording.parameters)
    return {name: number for name, number in found.items() if times[name] < 2}


class Step:
    """One graph and the passes of its step."""

    def __init__(self, recording: Recording, step: Round, graph: Graph, passes: list[Pass], ids: dict[str, int], counted: Counter[str]):
        self.recording, self.step, self.graph, self.passes, self.ids, self.counted = recording, step, graph, passes, ids, counted
        self.nodes = graph.nodes
        self.of_op = {node.op: number for number, node in enumerate(self.nodes) if node.op >= 0}
        self.of_leaf = {ids[n.name]: i for i, n in enumerate(self.nodes) if n.kind in ("parameter", "input") and n.name in ids}
        self.spans = sorted((recording.ops[op].first_node, recording.ops[op].last_node, number) for op, number in self.of_op.items())
        self.reached = [(p, p.reached()) for p in passes]
        self.hit: dict[int, list[Any]] = {}
        for one, nodes in self.reached:
            for node in nodes:
                at = self._drawn(one.nodes[node])
                if at >= 0 and one.nodes[node].leaf is None:
                    self.hit.setdefault(at, []).append(one.nodes[node])

    def _drawn(self, seen: Any) -> int:
        """The drawn node that an autograd node belongs to, the innermost call."""
        if seen.leaf is not None:
            return self.of_leaf.get(seen.leaf, -1)
        around = [(last - first, number) for first, last, number in self.spans if first <= seen.sequence < last]
        return min(around)[1] if around else -1

    def compare(self) -> list[str]:
        found = [
            f"edge against time into {self.nodes[e.target].label}"
            for e in self.graph.edges
            if self.nodes[e.source].order >= self.nodes[e.target].order or e.source >= e.target
        ]
        found += self._counts()
        if self.step.events and all(self.recording.events[e].ok for e in self.step.events):
            found += self._states() + self._ways() + self._norms()
        return found

    def _counts(self) -> list[str]:
        ops = self.recording.ops
        top = [i for i in range(self.step.start, min(self.step.end, len(ops))) if ops[i].parent < 0 and ops[i].name != "requires_grad_"]
        told = sum(int(m[1]) for note in self.graph.notes if (m := re.match(r"\+ (\d+) operations? (?!inside)", note)))
        drawn = sum(i in self.of_op for i in top)
        self.counted["recorded operations counted"] += len(top)
        if drawn + told != len(top) and self.recording.raised is None:
            return [f"{drawn} operations are drawn and {told} told of, {len(top)} were recorded"]
        return []

    def _states(self) -> list[str]:
        found = []
        leaves: set[int | None] = set()
        for one, nodes in self.reached:
            leaves |= {one.nodes[n].leaf for n in nodes} | one.bare
        inner = self._behind_second_derivatives()
        for number, node in enumerate(self.nodes):
            arrived = node.state in ARRIVED
            if node.kind == "operation" and number not in inner and not self._passes_through(number):
                self.counted["operations"] += 1
                if arrived != (number in self.hit):
                    found.append(f"{node.label} ({node.name}) is {node.state}, autograd {'did not come' if arrived else 'came'} there")
            elif node.kind == "parameter" and node.name in self.ids:
                self.counted["parameters"] += 1
                if arrived != (self.ids[node.name] in leaves):
                    found.append(f"{node.name} is {node.state}, its gradient {'did not come' if arrived else 'came'}")
        drawn = {node.name for node in self.nodes}
        for name, number in self.ids.items():
            same = {other for other, n in self.ids.items() if n == number}
            if number in leaves and not same & drawn and not any(node.label == "nn.Parameter" for node in self.nodes):
                found.append(f"{name} got a gradient and is not drawn")
        return found

    def _passes_through(self, number: int) -> bool:
        """Made no autograd node of its own that is still in use: a leaf, an identity, a view whose base was written since."""
        op = self.recording.ops[self.nodes[number].op]
        if op.kind in ("leaf", "factory") or op.last_node <= op.first_node and op.kind not in ("cut", "escape"):
            return True
        groups = [self.recording.values[v].group for v in (*op.inputs[:1], *op.outputs[:1])]
        return number not in self.hit and op.kind != "inplace" and len(groups) == 2 and groups[0] == groups[1]

    def _behind_second_derivatives(self) -> set[int]:
        """What the losses reach only through an autograd.grad, which is drawn as one operation on the graph that it was called on."""
        grads = {i for i, n in enumerate(self.nodes) if n.op >= 0 and self.recording.ops[n.op].kind == "grad"}
        if not grads:
            return set()
        into: dict[int, list[int]] = {}
        for edge in self.graph.edges:
            if edge.kind == "flows":
                into.setdefault(edge.target, []).append(edge.source)
        todo, clear = [i for i, n in enumerate(self.nodes) if n.kind == "loss"], set[int]()
        while todo:
            number = todo.pop()
            if number not in clear:
                clear.add(number)
                todo.extend(into.get(number, ()) if number not in grads else ())
        return set(range(len(self.nodes))) - clear | grads

    def _ways(self) -> list[str]:
        """Each edge of autograd between two drawn things is drawn as flowing, and each flowing edge is one of autograd's."""
        inner = self._behind_second_derivatives()
        drawn = {(e.source, e.target) for e in self.graph.edges if e.kind == "flows"}
        for number in sorted(i for i in self.of_op.values() if self._passes_through(i)):
            if self.recording.ops[self.nodes[number].op].kind in ("leaf", "factory"):
                continue
            before, after = [k for k in drawn if k[1] == number], [k for k in drawn if k[0] == number]
            drawn = drawn - {*before, *after} | {(a, b) for a, _ in before for _, b in after}
        real = {key for key in self._real() if not inner & set(key)}
        self.counted["edges"] += len(real)
        found = [f"autograd has {self._edge(key)}, which does not flow here" for key in sorted(real - drawn)]
        for source, target in sorted(drawn - real):
            node, end = self.nodes[source], self.nodes[target]
            leaf = node.op < 0 and source not in self.of_leaf.values() or node.op >= 0 and self._passes_through(source)
            if end.kind != "loss" and not inner & {source, target} and not leaf and "Checkpoint" not in end.function:
                found.append(f"{self._edge((source, target))} flows here, autograd has no such way")
        return found

    def _edge(self, key: tuple[int, int]) -> str:
        a, b = self.nodes[key[0]], self.nodes[key[1]]
        return f"{a.name or a.label} -> {b.label}{f' at line {b.location.line}' if b.location else ''}"

    def _real(self) -> set[tuple[int, int]]:
        found: set[tuple[int, int]] = set()
        for one, nodes in self.reached:
            for node in nodes:
                seen = one.nodes[node]
                target = self._drawn(seen) if seen.leaf is None else -1
                if target < 0:
                    continue
                sent = [True] * len(seen.nexts) if seen.went is None or one.inputs is not None else [w is not None for w in seen.went]
                todo, known = [n for (n, _), went in zip(seen.nexts, sent) if n is not None and went], set()
                while todo:  # through nodes of calls that are not drawn
                    source = todo.pop()
                    if source in known or source not in nodes:
                        continue
                    known.add(source)
                    at = self._drawn(one.nodes[source])
                    if at >= 0 and at != target:
                        found.add((at, target))
                    elif at < 0 and one.nodes[source].leaf is None:
                        todo.extend(n for n, _ in one.nodes[source].nexts if n is not None)
        return found

    def _norms(self) -> list[str]:
        if len(self.passes) != 1:
            return []
        found, one = [], self.passes[0]
        after = {e.kind for e in self.recording.events[self.step.events[-1] + 1 : self.step.step]}
        stepped = {self.recording.parameters[n].name for n in self.recording.events[self.step.step].states}
        sums: dict[tuple[int, int], float] = {}
        for node in self.reached[0][1]:
            seen = one.nodes[node]
            target = self._drawn(seen) if seen.leaf is None else -1
            for (source, _), went in zip(seen.nexts, seen.went or ()):
                at = self._drawn(one.nodes[source]) if source is not None and went is not None else -1
                if at >= 0 <= target != at:
                    sums[at, target] = math.hypot(sums.get((at, target), 0.0), went or 0.0)
        for number, node in enumerate(self.nodes):
            if node.norm is None:
                continue
            if number in self.hit:
                found += self._same(node.label, node.norm, max(self.hit[number], key=lambda seen: seen.sequence).came)
            elif node.kind == "parameter" and self.ids.get(node.name) in one.grads and self.step.step >= 0:
                if not after & {"clip", "unscale", "zero_grad"}:
                    own = [seen.came for seen in one.nodes.values() if seen.leaf == self.ids[node.name]]
                    read = node.name in stepped or not own  # of what another optimizer holds: what came, not what it adds up to
                    found += self._same(node.name, node.norm, one.grads[self.ids[node.name]] if read else own[0])
        for edge in self.graph.edges:
            if edge.norm is not None and (edge.source, edge.target) in sums:
                found += self._same(self._edge((edge.source, edge.target)), edge.norm, sums[edge.source, edge.target])
        return found

    def _same(self, what: str, told: float, true: float | None) -> list[str]:
        self.counted["norms"] += 1
        same = true is not None and (told == true or math.isnan(told) and math.isnan(true) or math.isclose(told, true, rel_tol=5e-3))
        return [] if same else [f"norm at {what} is {told}, autograd has {true}"]
