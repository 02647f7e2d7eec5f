"""The picture in words: for a terminal, a screen reader, and whoever would rather read."""

from __future__ import annotations

from ..report.words import clean, plural
from .draw.size import STATES
from .fold.opening import visible
from .fold.parts import HOLDERS
from .model import CHILD, IN, Box, Graph, Node, Tree, lineage

_STATES = STATES | {"lost": "no gradient: lost"}  # a picture shows where: by its mark
FEW = 3  # names that are told of many


def sentence(graph: Graph, tree: Tree) -> str:
    """The picture in one to three sentences: how much there is, where the gradient is lost, what is left out."""
    modules = {path for node in graph.nodes for path in lineage(node.module) if graph.classes.get(path) not in HOLDERS}
    counts = [plural(len(modules), "module")] if modules else []
    operations = sum(node.kind == "operation" for node in graph.nodes)
    parameters = [node for node in graph.nodes if node.kind == "parameter"]
    frozen = sum(node.state == "frozen" for node in parameters)
    counts += [plural(operations, "operation"), plural(len(parameters), "parameter") + (f" ({frozen} frozen)" if frozen else "")]
    said = [f"{'Graph of ' + graph.title if graph.title else 'Graph'}: {', '.join(counts)}."]
    said += _marks(graph)
    said += [f"{text[0].upper()}{text[1:]}." for text in tree.left_out[:1]]
    return clean(" ".join(said))


def _marks(graph: Graph) -> list[str]:
    """ "The gradient is lost at detach, line 12." One sentence for each kind of mark, the roots only."""
    of: dict[str, list[str]] = {}
    for node in graph.nodes:
        if node.mark is not None and node.mark.root:
            where = node.mark.text.partition(":")[0]
            of.setdefault(node.mark.word, []).append(_called(node) + (f", {where}" if where else ""))
    found = []
    for word, places in of.items():
        more = len(places) - FEW
        text = "; ".join(places[:FEW]) + (f"; and {plural(more, 'more place')}" if more > 0 else "")
        found.append(f"The gradient is lost at {text}." if word == "lost" else f"Marked ({word}): {text}.")
    return found


def _called(node: Node) -> str:
    return node.name or node.label if node.kind == "parameter" else node.label


def text(graph: Graph, tree: Tree) -> str:
    """An outline of the visible boxes, in the order of the data: what they are, their shapes, and how the gradient does there."""
    lines = [sentence(graph, tree)]
    depth = {0: 0}
    before: dict[int, int] = {}  # box -> the last thing above it in its own box that something computed
    last: dict[int, int] = {}
    for number in visible(tree):
        box = tree.boxes[number]
        depth[number] = depth[box.parent] + 1
        before[number] = last.get(box.parent, -1)
        if not _only_parameters(box):
            last[box.parent] = number
        lines.append("  " * depth[number] + _line(graph, tree, number, before[number]))
    lines += [f"  left out: {said}" for said in tree.left_out]
    lines += [f"  note: {said}" for said in graph.notes]
    return "\n".join(clean(line) for line in lines)  # a name may hold a terminal escape, or a line break


def _only_parameters(box: Box) -> bool:
    return box.parameters > 0 and not box.operations


def _line(graph: Graph, tree: Tree, number: int, before: int) -> str:
    box = tree.boxes[number]
    node = graph.nodes[box.node] if box.node >= 0 else None
    parts = [box.label]
    if box.detail:
        parts.append(_opened(box) if box.open else box.detail)
    marks = [graph.nodes[m].mark for m in box.marks]
    said = _gradient(box, node)
    if node is not None and node.mark is not None:
        said = f"{node.mark.word} ({node.mark.text})"
    elif box.open:
        said = ""
    elif marks:
        said = "; ".join(dict.fromkeys(f"{m.word} ({m.text})" for m in marks[:FEW] if m)) + (
            f"; {len(marks) - FEW} more" if len(marks) > FEW else ""
        )
    cross = "✗ " if marks and not box.open else ""
    line = cross + " · ".join(part for part in parts if part)
    came = _from(tree, number, before)
    return line + (f"  ← {came}" if came else "") + (f"  [{said}]" if said else "")


def _opened(box: Box) -> str:
    """The second line of a box without how much is folded: all of that is told below it."""
    return " · ".join(part for part in box.detail.split(" · ") if not part.startswith("+ "))


def _gradient(box: Box, node: Node | None) -> str:
    parts = []
    if box.frozen and box.frozen < box.parameters:
        parts.append(f"{box.frozen} of {box.parameters} parameters frozen")
    state = box.state if box.state in ("nan", "inf") else box.learns or box.state  # what matters of a fold are its parameters
    if state in _STATES:
        parts.append(_STATES[state] + (" in part" if node is None and box.norm and state in ("starved", "lost", "zero", "unused") else ""))
    elif box.norm is not None and (node is None or node.kind == "parameter"):
        parts.append(f"gradient norm {box.norm:.3g}")
    return ", ".join(parts)


def _from(tree: Tree, number: int, before: int) -> str:
    """What feeds a box, where it is not only what stands above it."""
    parent = tree.boxes[number].parent
    sources = [link.source for link in tree.boxes[parent].links if link.target == 4 * number + CHILD]
    found = {box for source in sources if (box := _thing(tree, parent, source)) >= 0 and not _only_parameters(tree.boxes[box])}
    if not found or found == {before}:
        return ""
    names = [tree.boxes[box].label for box in sorted(found)]
    return ", ".join(names[:FEW]) + (f" and {len(names) - FEW} more" if len(names) > FEW else "")


def _thing(tree: Tree, container: int, source: int) -> int:
    """The box that a link starts from; through the entries of the boxes around."""
    while source % 4 == IN:
        source = tree.boxes[container].entries[source // 4]
        container = tree.boxes[container].parent
    return source // 4 if source % 4 == CHILD else -1
