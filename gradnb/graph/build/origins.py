"""What a leaf is: a parameter or a buffer, whose making is of no interest, or numbers that came from trainable tensors."""

from __future__ import annotations

from ...flow.graph import Graph as Flow
from ...recorder.recording import Location, Recording

FAR = 200  # values looked at on the way back from a leaf
_MAKES = ("leaf", "factory")


class Origins:
    """Answers for the values of one recording. ``told`` are the places that findings blame for a lost gradient."""

    def __init__(self, recording: Recording, flow: Flow, told: list[Location]):
        self.recording, self.flow = recording, flow
        self.told = {(place.filename, place.line) for place in told}
        self._computed: dict[int, bool] = {}
        self.making: set[int] = set()  # operations that made parameters and buffers
        self.silent: set[int] = set()  # parameters that no backward pass reached in a step whose passes were looked into

    def parameter(self, value: int) -> int:
        """The parameter that a value is, -1 for any other (also for one that is made from trainable tensors, whose way must show)."""
        v = self.recording.values[value]
        if v.parameter < 0:
            return -1
        return v.parameter if self._leaf(value) and not (v.op >= 0 and self.computed(value)) else -1

    def _leaf(self, value: int) -> bool:
        """Is a value of a parameter the leaf itself: as it was made, or as an in-place call that autograd did not see left it."""
        v = self.recording.values[value]
        if v.op < 0:
            return self.recording.parameters[v.parameter].leaf
        op = self.recording.ops[v.op]
        return op.kind in _MAKES or op.kind == "inplace" and (op.name == "data" or not (op.grad_enabled and v.requires_grad))

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
            known = self._computed[leaf] = self._walk(leaf, ways) and (not self._registered(leaf) or any(self._blamed(i) for i in ways))
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
        return op is not None and op.name == "deepcopy" and not self._blamed(index)

    def _registered(self, leaf: int) -> bool:
        """A parameter of a module: made from others (weight_norm, a copied initialisation) it is still the leaf that learns."""
        number = self.recording.values[leaf].parameter
        return number >= 0 and self.recording.parameters[number].registered

    def _blamed(self, index: int) -> bool:
        """Does a finding blame the line of a call, or the one that switched gradients off around it."""
        op = self.recording.ops[index]
        region = self.recording.regions[op.region].site if op.region >= 0 else -1
        sites = [self.recording.sites[s] for s in (*op.stack, region) if s >= 0]
        return any((where.filename, where.line) in self.told for where in sites)
