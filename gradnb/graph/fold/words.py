"""What is written on the boxes: a short label, and a second line with class, shape, or how much is folded."""

from __future__ import annotations

from ...report.words import plural
from ..model import Box, Node, Tree
from .parts import Part, Work, inside, short

FEW = 3  # names on a box of several operations
CHAIN, LETTERS = 38, 26  # … in so many letters: alone as a label; where how much is folded has to fit beside them
LISTED = 4  # parameters of a layer that are written on its box
LAYER = 40  # letters of that list; a longer one would be cut in its middle
LEAF = 3  # a module of so few operations is a layer: its parameters are written on it


class Words:
    """Writes labels from the innermost box to the whole: the name of a fold is made from what is in it."""

    def __init__(self, work: Work, tree: Tree, parts: list[Part]):
        self.work, self.tree, self.parts = work, tree, parts
        self.box_of = {id(part): tree.boxes[i] for i, part in enumerate(parts)}
        self.around = [""] * len(parts)  # path of the module around each box
        for number, box in enumerate(tree.boxes):
            parent = box.parent
            if parent >= 0:
                above = parts[parent]
                self.around[number] = above.module if above.kind == "module" else self.around[parent]

    def write(self) -> None:
        for number in range(len(self.parts) - 1, -1, -1):
            box, part = self.tree.boxes[number], self.parts[number]
            box.label, box.detail = getattr(self, "_" + part.kind)(box, part, self.around[number])
            if box.children:
                self._tell_apart(box)

    def _tell_apart(self, box: Box) -> None:
        """Several chunks of one line get numbers."""
        of: dict[str, list[Box]] = {}
        for child in box.children:
            one = self.tree.boxes[child]
            if one.kind in ("lines", "chain", "parameters"):
                of.setdefault(one.label, []).append(one)
        for label, same in of.items():
            if len(same) > 1 and same[0].kind != "chain":
                for position, one in enumerate(same):
                    one.label = f"{label} ({position + 1} of {len(same)})"

    def _whole(self, box: Box, part: Part, around: str) -> tuple[str, str]:
        return self.work.graph.title or "graph", more(box)

    def _node(self, box: Box, part: Part, around: str) -> tuple[str, str]:
        node = self.work.node(part)
        shape = dims(node.shape)
        if node.kind == "parameter":
            return self._parameter_name(node, around), shape
        if node.kind == "loss":
            return node.label, f"{node.value:.4g}" if node.value is not None else shape
        name = node.name if node.name != node.label else ""
        return node.label, " · ".join(x for x in (name, shape) if x)

    def _parameter_name(self, node: Node, around: str) -> str:
        """As its container calls it: "weight" in its own module, "fc.weight" in the one around."""
        if not node.module or node.module == around:
            return node.label if node.module else node.name or node.label
        return f"{relative(node.module, around)}.{node.label}"

    def _module(self, box: Box, part: Part, around: str) -> tuple[str, str]:
        label = short(self.work.graph, part.module) + (f" (call {part.call})" if part.call else "")
        name = self.work.graph.classes.get(part.module, "")
        inner = [self.tree.boxes[child] for child in box.children]
        parameters = [b for b in inner if b.node >= 0 and b.parameters]
        if part.detail:  # "no_grad, line 12"
            rest = part.detail + (f" · {more(box)}" if box.operations > 1 else "")
        elif box.operations <= LEAF and len(parameters) == box.parameters <= LISTED and all(b.node >= 0 for b in inner):
            rest = ", ".join(f"{b.label} {b.detail}".strip() for b in parameters)
            if len(rest) > LAYER:
                rest = plural(box.parameters, "parameter")
        else:
            rest = more(box)
        return label, " · ".join(x for x in (name, rest) if x)

    def _function(self, box: Box, part: Part, around: str) -> tuple[str, str]:
        return f"{part.label}()", " · ".join(x for x in (part.detail, more(box)) if x)

    def _region(self, box: Box, part: Part, around: str) -> tuple[str, str]:
        return part.label, more(box)

    def _chain(self, box: Box, part: Part, around: str) -> tuple[str, str]:
        label = listed([self._name(child) for child in part.children], CHAIN)
        made = self.work.graph.nodes[_leaves(part)[-1].node].name
        return label, " · ".join(x for x in (made, more(box) if label.endswith("…") else "") if x)

    def _name(self, part: Part) -> str:
        """A part's name among several: of an element-wise layer the operation, of a chain the chain's."""
        while part.kind in ("module", "lines") and len(part.children) == 1:
            part = part.children[0]
        if part.kind == "node":
            return self.work.node(part).label
        if part.kind == "function":
            return f"{part.label}()"
        return self.box_of[id(part)].label if id(part) in self.box_of else part.label

    def _parameters(self, box: Box, part: Part, around: str) -> tuple[str, str]:
        names = list(dict.fromkeys(self.box_of[id(leaf)].label for leaf in _leaves(part)))
        return part.label or plural(box.parameters, "parameter"), listed(names)

    def _repeat(self, box: Box, part: Part, around: str) -> tuple[str, str]:
        assert part.ends is not None
        first, last, count = part.ends
        a, b = _edge(first, 0), _edge(last, -1)
        names = listed(self._kinds(first, last))
        if a.unit == "round" and a.label:
            turns = f"{names} × {count}" if a is first else ""
            return f"{a.label.replace('round', 'rounds')} … {b.label.split()[-1]}", " · ".join(x for x in (turns, more(box)) if x)
        if first.kind == "module" and first.module == last.module:
            name = self.work.graph.classes.get(first.module, "")
            return f"{short(self.work.graph, first.module)} × {count} calls", " · ".join(x for x in (name, more(box)) if x)
        if a.kind == b.kind == "module" and a.module != b.module:
            ends = [short(self.work.graph, part.module) for part in (a, b)]
            label = f"{ends[0]} … {ends[1]} · {names} × {count}"
            if len(label) > CHAIN:
                return f"{ends[0]} … {ends[1]} × {count}", f"{names} · {more(box)}"
            return label, more(box)
        return f"{names} × {count}", " · ".join(x for x in (lines(first.children), more(box)) if x)

    def _kinds(self, first: Part, last: Part) -> list[str]:
        """What a round of a loop, or of layers in a row, is made of."""
        names = []
        pairs = list(zip(first.children, last.children)) if first.kind == "lines" else [(first, last)]
        for a, b in pairs:
            if a.kind == "module":
                name = self.work.graph.classes.get(a.module, "")
                names.append(short(self.work.graph, a.module) if a.module == b.module or not name else name)
            else:
                names.append(self._name(a))
        return names

    def _lines(self, box: Box, part: Part, around: str) -> tuple[str, str]:
        if part.unit == "input":
            names = [self.box_of[id(leaf)].label for leaf in _leaves(part)]
            return plural(len(names), "input"), listed(list(dict.fromkeys(names)))
        above = self.parts[box.parent]
        if part.unit == "round" and part.label:
            return part.label, " · ".join(x for x in (lines(part.children), more(box)) if x)
        if part.unit == "round" and part.children[0].unit == "round":
            return f"{part.children[0].label.replace('round', 'rounds')} … {_edge(part, -1).label.split()[-1]}", more(box)
        if part.unit == "round":
            return listed([self._name(child) for child in part.children]), more(box)
        label = lines(part.children)
        same = {child.where for child in above.children}
        if not label or len(same) == 1 and above.kind == "repeat":
            label = self._span(part)
        return label, more(box)

    def _span(self, part: Part) -> str:
        """ "h.0 … h.19" where no line tells the chunks apart."""
        ends = [self.box_of[id(child)].label for child in (part.children[0], part.children[-1])]
        return " … ".join(dict.fromkeys(ends))


def _leaves(part: Part) -> list[Part]:
    return [one for one in inside(part) if one.kind == "node"]


def _edge(part: Part, end: int) -> Part:
    """The first (0) or last (-1) thing of the unit of a repetition that is made of several."""
    while part.kind in ("lines", "repeat") and not part.label:
        part = part.children[end]
    return part


def relative(path: str, around: str) -> str:
    """A module's path as the module around it calls it."""
    return path[len(around) + 1 :] if around and path.startswith(around + ".") else path


def listed(names: list[str], letters: int = LETTERS) -> str:
    """The first names, as many as have room; always one."""
    many = min(FEW, len(names))
    while many > 1 and len(_first(names, many)) > letters:
        many -= 1
    return _first(names, many)


def _first(names: list[str], many: int) -> str:
    return ", ".join(names[:many]) + (", …" if len(names) > many else "")


def dims(shape: tuple[int, ...] | None) -> str:
    return "×".join(map(str, shape)) if shape else ""


def lines(parts: list[Part]) -> str:
    """ "lines 12–30", "" where no line is known or they lie in several files."""
    known = [part.where for part in parts if part.where[1]]
    if not known or len({file for file, _ in known}) > 1:
        return ""
    low, high = min(line for _, line in known), max(line for _, line in known)
    return f"line {low}" if low == high else f"lines {low}–{high}"


def more(box: Box) -> str:
    """How much is folded."""
    if box.operations:
        return f"+ {plural(box.operations, 'operation')}"
    return f"+ {plural(box.parameters, 'parameter')}" if box.parameters else ""
