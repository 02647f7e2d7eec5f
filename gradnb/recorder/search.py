"""From a value that is not finite back to the operation that made the first such value.

Nothing is checked while the user's code runs. When a loss turns out not to be finite its graph still holds what every
operation saved for backward, and weak references lead to the tensors that live; together they say which values were finite
and which were not. Where an operation saved nothing, the way is followed through it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Iterable

import torch

from .kinds import kind_of, likely
from .log import RawOp
from .numeric import NonFinite, numbers
from .singular import standing, state_of
from .spans import Spans

if TYPE_CHECKING:
    from .recorder import Recorder

NODES = 50_000
_FILLERS = frozenset(
    "masked_fill masked_fill_ fill_ __setitem__ where index_fill index_fill_ pad new_full full full_like scatter scatter_".split()
)
_PASSERS = frozenset(
    "add __add__ __radd__ sub __sub__ mul __mul__ __rmul__ view reshape expand expand_as to float half double type __getitem__ triu "
    "tril repeat cat stack where unsqueeze squeeze transpose permute contiguous clone detach masked_fill masked_fill_ flip neg "
    "__neg__ data T mT log_softmax logsumexp broadcast_to repeat_interleave index_select gather minimum maximum min max".split()
)


def saved_tensors(node: Any) -> Iterable[tuple[str, torch.Tensor]]:
    """What a node holds for backward, with the tensor's own history; nothing where it was freed or changed in place."""
    for name in dir(type(node)):
        if not name.startswith("_saved_"):
            continue
        try:
            value = getattr(node, name)
        except RuntimeError:
            continue
        for tensor in value if isinstance(value, (tuple, list)) else (value,):
            if isinstance(tensor, torch.Tensor):
                yield name[7:], tensor


class Search:
    """One search; build it where something is wrong, throw it away after ``run``: it holds the user's tensors meanwhile."""

    def __init__(self, recorder: "Recorder"):
        self.recorder = recorder
        self.log = recorder.log
        self.spans = spans(recorder)
        self.tensors: dict[int, torch.Tensor] = {}  # value -> its tensor
        self.nodes: dict[int, list[Any]] = {}  # op -> its autograd nodes, the first made first
        self._results: dict[int, list[tuple[str, torch.Tensor]]] = {}  # op -> results inside it
        self._states: dict[int, str] = {}
        self.wanted = "nan"  # what the root is

    def run(self, roots: list[torch.Tensor], *, masks: bool = True) -> NonFinite | None:
        """The birth of the first value that is not finite behind the first of the roots that is not; ``masks`` may be roots."""
        self._gather(roots)
        for root in roots:
            self.wanted = state_of(root)
            if self.wanted == "ok":
                continue
            start = self.value(root)
            if start >= 0:
                self.tensors.setdefault(start, root)
                if not masks and self.wanted == "inf" and self._filled(start)[0]:
                    continue
                return self._trace(start)
            if root.grad_fn is not None:  # a value inside an operation made of several
                made = self.spans.op(root.grad_fn._sequence_nr())
                if made >= 0 and self._op(made) is not None:
                    return self._trace(-1, made)
        return None

    # -- what is known -------------------------------------------------------------------------------------------------

    def value(self, tensor: torch.Tensor) -> int:
        """The recorded value that a tensor stands for, by its identity or by the node that made it."""
        known = self.log.known(tensor)
        if known >= 0 or tensor.grad_fn is None:
            return known
        sequence = tensor.grad_fn._sequence_nr()
        op = self.spans.op(sequence)
        raw = self.log.ops[op] if op >= 0 else None
        if raw is None or not raw[2] or not self.spans.last(op, sequence):
            return -1
        return raw[2][tensor.output_nr if tensor.output_nr < len(raw[2]) else 0]

    def _gather(self, roots: list[torch.Tensor]) -> None:
        for tensor, value in [(entry[0](), entry[1]) for entry in list(self.log._ids.values())]:
            if tensor is not None:
                self.tensors[value] = tensor
        todo = [t.grad_fn for t in roots if t.grad_fn is not None]
        seen = set(todo)
        while todo and len(seen) < NODES:
            node = todo.pop()
            op = self.spans.op(node._sequence_nr())
            self.nodes.setdefault(op, []).append(node)
            if hasattr(node, "variable"):
                self._note(node.variable, op)
            for _, tensor in saved_tensors(node):
                self._note(tensor, op)
            for below, _ in node.next_functions:
                if below is not None and below not in seen:
                    seen.add(below)
                    todo.append(below)
        for made in self.nodes.values():
            made.sort(key=lambda n: n._sequence_nr())

    def _note(self, tensor: torch.Tensor, op: int) -> None:
        value = self.value(tensor)
        if value >= 0:
            self.tensors.setdefault(value, tensor)
        elif tensor.grad_fn is not None:
            inside = self.spans.op(tensor.grad_fn._sequence_nr())
            self._results.setdefault(inside, []).append((tensor.grad_fn.name(), tensor))

    def state(self, value: int) -> str:
        """ "ok", "inf", "nan" or "?"."""
        found = self._states.get(value)
        if found is None:
            dtype = self.log.values[value][2]
            if not (dtype.is_floating_point or dtype.is_complex):
                found = "ok"
            else:
                tensor = self.tensors.get(value)
                found = "?" if tensor is None else state_of(tensor)
            self._states[value] = found
        return found

    # -- the way back --------------------------------------------------------------------------------------------------

    def _trace(self, value: int, made: int = -1) -> NonFinite:
        """From a bad value (or an op with one inside) back along bad arguments."""
        seen: set[int] = set()
        while value not in seen:
            seen.add(value)
            made = self.log.values[value][0] if value >= 0 else made
            op = self._op(made) if made >= 0 else None
            if made < 0 or op is not None and op.operation.kind in ("empty", "leaf") and self._leaf(value):
                return self._source(value)
            if op is None:
                break
            states = {u: self.state(u) for u in op.inputs if not self._written(op, u)}
            further = [u for u, s in states.items() if s == "nan"] or [
                u for u, s in states.items() if s == "inf" and not self._filled(u)[0]
            ]
            if further:
                value = min(further)
                continue
            behind, candidates = self._through([u for u, s in states.items() if s == "?"])
            if behind is None:
                return self._birth(value, self._choose({made, *candidates}) if candidates else made)
            value = behind
        return NonFinite("forward", self.state(value), "unknown", op=made, value=value)

    def _through(self, unknown: list[int]) -> tuple[int | None, set[int]]:
        """Beyond values that nobody kept: the first one known to be bad, else the operations that may have made it so."""
        bad: list[int] = []
        candidates: set[int] = set()
        todo, seen = list(unknown), set(unknown)
        while todo and len(seen) < 5000:
            value = todo.pop()
            state = self.state(value)
            if state == "nan" or state == "inf" and not self._filled(value)[0]:
                bad.append(value)
            if state != "?":
                continue
            made = self.log.values[value][0]
            op = self._op(made) if made >= 0 else None
            if op is None:
                continue
            candidates.add(made)
            fresh = [u for u in op.inputs if u not in seen]
            seen.update(fresh)
            todo.extend(fresh)
        return (min(bad) if bad else None), candidates

    def _filled(self, value: int) -> tuple[bool, int]:
        """Were the infinities of a value written on purpose (a mask before a softmax), and by which op."""
        todo, seen, by = [value], {value}, -1
        while todo:
            at = todo.pop()
            made = self.log.values[at][0]
            if made < 0:
                tensor = self.tensors.get(at)
                if tensor is not None and tensor.requires_grad:
                    return False, -1
                continue
            op = self._op(made)
            if op is None:
                return False, -1
            infinite = [u for u in op.inputs if self.state(u) in ("inf", "nan")]
            unknown = [u for u in op.inputs if self.state(u) == "?" and u != at]
            name = op.operation.name
            if not infinite:
                if op.operation.kind == "factory" and name not in ("full", "full_like", "new_full") and self._large(at):
                    return False, -1  # data that came in
                if op.operation.kind in ("factory", "empty") or name in _FILLERS or name == "log" and not self.log.values[at][1]:
                    by = made
                    continue
                if not unknown:
                    return False, -1
            if name not in _PASSERS and not op.operation.view:
                return False, -1
            further = [u for u in (infinite or unknown) if u not in seen]
            seen.update(further)
            todo.extend(further)
        return True, by

    def _large(self, value: int) -> bool:
        tensor = self.tensors.get(value)
        return tensor is not None and tensor.numel() > 1 and bool(torch.isfinite(tensor).any())

    def _choose(self, candidates: set[int]) -> int:
        """Of operations that may all have made the first bad value, the one with the best evidence; of equals the earliest."""
        return max(sorted(candidates), key=lambda made: (self._evidence(made), -made))

    def _evidence(self, made: int) -> int:
        op = self._op(made)
        if op is None:
            return 0
        if any(standing(n) is not None for n in self.nodes.get(made, ())) or kind_of(self, op)[0] != "unknown":
            return 4
        return likely(op.operation.name)

    # -- what it was ---------------------------------------------------------------------------------------------------

    def _birth(self, value: int, made: int) -> NonFinite:
        op = self._op(made)
        assert op is not None
        state = self.state(op.outputs[0]) if op.outputs else "?"
        if state not in ("nan", "inf"):
            state = self.state(value) if value >= 0 else "nan"
        birth = NonFinite("forward", state, "unknown", op=made, value=op.outputs[0] if op.outputs else value)
        if op.operation.kind == "factory" and not op.inputs:
            birth.phase = birth.key = "input"
        for node in self.nodes.get(made, ()):
            point = standing(node)
            if point is not None:
                birth.key, birth.node = point.key, node.name()
                shown = self.value(point.tensor)
                birth.inputs = [numbers(point.tensor, shown, point.operand)] if point.operand not in ("result", "output") else []
                break
        key, blamed = kind_of(self, op)
        if birth.key == "unknown":
            birth.key = key
        for u in dict.fromkeys((*([blamed] if blamed >= 0 else []), *op.inputs)):
            if u in self.tensors and len(birth.inputs) < 4 and all(n.value != u for n in birth.inputs):
                birth.inputs.append(numbers(self.tensors[u], u))
            if self.state(u) == "inf":
                filled = self._filled(u)
                birth.filled = filled[1] if filled[0] else birth.filled
        if birth.value in self.tensors:
            birth.output = numbers(self.tensors[birth.value], birth.value)
        inside = next((name for name, t in reversed(self._results.get(made, [])) if state_of(t) != "ok"), "")
        birth.inner = inside or (birth.node if len(self.nodes.get(made, ())) > 1 else "")
        if birth.key == "unknown" and birth.state == "inf":
            birth.key = "overflow"
        return birth

    def _source(self, value: int) -> NonFinite:
        """A value that no recorded operation made: a parameter, or data from outside."""
        tensor = self.tensors[value]
        met = next((op for v, op, _ in self.log.fresh if v == value), -1)
        birth = NonFinite("input", self.state(value), "input", op=met if met < len(self.log.ops) else -1, value=value)
        birth.inputs = [numbers(tensor, value)]
        if tensor.requires_grad or isinstance(tensor, torch.nn.Parameter):
            birth.phase, birth.key = "parameter", "parameter"
            birth.parameters = (self.recorder.census.number(tensor),)
        return birth

    def _written(self, op: RawOp, value: int) -> bool:
        """Running statistics, which a normalisation changes while it runs."""
        return op.operation.name in ("batch_norm", "instance_norm") and value != op.inputs[0] and not self.log.values[value][1]

    def _leaf(self, value: int) -> bool:
        tensor = self.tensors.get(value)
        return tensor is not None and tensor.is_leaf and tensor.requires_grad

    def _op(self, made: int) -> RawOp | None:
        raw = self.log.ops[made]
        return None if raw is None else RawOp._make(raw)


def spans(recorder: "Recorder") -> Spans:
    """Which recorded op made which autograd nodes, so far."""
    return Spans((raw[8], raw[9], i) for i, raw in enumerate(recorder.log.ops) if raw is not None)
