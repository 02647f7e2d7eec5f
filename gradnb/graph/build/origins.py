"""What a leaf is: a parameter or a buffer, whose making is of no interest, or numbers that came from trainable tensors."""

from __future__ import annotations

from ...flow.graph import Graph as Flow
from ...recorder.recording import Location, Recording

FAR = 200  # values looked at on the way back from a leaf
_MAKES = ("leaf", "factory")


class Origins:
    """Answers for the values of one recording. ``told`` are the places that a finding blames for making a leaf anew."""

    def __init__(self, recording: Recording, flow: Flow, told: list[Location]):
        self.recording, self.flow = recording, flow
        self.told = {(place.filename, place.line) for place in told}
        self._computed: dict[int, bool] = {}
        self.making: set[int] = set()  # operations that made parameters and buffers

    def parameter(self, value: int) -> int:
        """The parameter that a value is, -1 for any other (also for one that is made from trainable tensors, whose way must show)."""
        v = self.recording.values[value]
        if v.parameter < 0:
            return -1
        made = v.op < 0 or self.recording.ops[v.op].kind in _MAKES
        return v.parameter if made and not (v.op >= 0 and self.computed(value)) else -1

    def buffer(self, value: int) -> str:
        """The path of the module's buffer that a value is, "" for any other and for one that was computed from trainable tensors."""
        v = self.recording.values[value]
        path = self.recording.buffers.get(v.group, "")
        return path if path and not v.requires_grad and not (v.op >= 0 and self.computed(value)) else ""

    def computed(self, leaf: int) -> bool:
        """Do the numbers of a leaf come from another tensor that requires grad, other than as the copy of a template."""
        known = self._computed.get(leaf)
        if known is None:
            ways: set[int] = set()
            known = self._computed[leaf] = self._walk(leaf, ways)
            if not known:
                self.making |= ways
        return known

    def _walk(self, leaf: int, ways: set[int]) -> bool:
        values, own = self.recording.values, self.recording.values[leaf].parameter
        todo, seen = [leaf], set[int]()
        while todo and len(seen) < FAR:
            value = todo.pop()
            if value in seen:
                continue
            seen.add(value)
            itself = value == leaf or own >= 0 and values[value].parameter == own  # before it was frozen or unfrozen
            if values[value].requires_grad and not itself:
                return True
            if values[value].op >= 0:
                ways.add(values[value].op)
            todo.extend(e.source for e in self.flow.parents(value) if not self._template(e.op))
        return False

    def _template(self, index: int) -> bool:
        """A deepcopy, as a stack of layers is made; unless a finding blames it."""
        op = self.recording.ops[index] if 0 <= index < len(self.recording.ops) else None
        if op is None or op.name != "deepcopy":
            return False
        where = self.recording.sites[op.stack[0]] if op.stack else None
        return where is None or (where.filename, where.line) not in self.told
