"""What a pointer reads on a box or a line of the static picture: the facts, one a line."""

from __future__ import annotations

from ...report import words
from ..model import BEND, CHILD, IN, Box, Graph, Node, Tree
from .scene import Line
from .size import opened

STATES = {
    "flows": "a gradient arrives",
    "zero": "the gradient is exactly zero",
    "nan": "the gradient holds NaN",
    "inf": "the gradient holds an infinity",
    "starved": "no gradient arrives",
    "lost": "the gradient is lost",
    "data": "no gradient is wanted",
    "frozen": "frozen",
    "unused": "no loss depends on it",
}
KINDS = {
    "flows": "a gradient comes back",
    "starved": "no gradient comes back",
    "lost": "the gradient is lost",
    "data": "data only",
}


def of_box(graph: Graph, tree: Tree, box: Box) -> str:
    told = of_node(graph, graph.nodes[box.node]) if box.kind == "node" else _of_fold(graph, tree, box)
    return "\n".join(filter(None, told))


def of_node(graph: Graph, node: Node) -> list[str]:
    shape = "×".join(map(str, node.shape)) or "scalar" if node.shape is not None else ""
    kind = node.kind if node.trainable is None else "trainable parameter" if node.trainable else "frozen parameter"
    name = words.clean(node.name, 160)
    return [
        words.clean(node.label, 120) + (f" ({name})" if name and name != node.label else "") + f", {kind}",
        _mark(node),
        _module(graph, node),
        " ".join(filter(None, [shape, words.clean(node.dtype.removeprefix("torch."), 30)])),
        "requires grad" if node.requires_grad else "does not require grad",
        f"grad_fn {words.clean(node.grad_fn, 80)}" if node.grad_fn else "",
        f"Function {words.clean(node.function, 80)}" if node.function else "",
        f"value {node.value:.4g}" if node.value is not None else "",
        STATES.get(node.state, node.state) + (f", norm {words.norm(node.norm)}" if node.norm is not None else ""),
        f"ran under {words.clean(node.region, 60)}" if node.region else "",
        _place(node),
    ]


def _mark(node: Node) -> str:
    return f"{words.clean(node.mark.word, 40)}: {words.clean(node.mark.text, 120)}" if node.mark else ""


def _module(graph: Graph, node: Node) -> str:
    if not node.module:
        return ""
    of_class = graph.classes.get(node.module, "")
    return f"in {words.clean(node.module, 120)}" + (f" ({words.clean(of_class, 60)})" if of_class else "")


def _place(node: Node) -> str:
    if node.location is None:
        return ""
    code = words.clean(node.location.code.strip(), 80)
    return words.where(node.location, short=True) + (f": {code}" if code else "")


def _of_fold(graph: Graph, tree: Tree, box: Box) -> list[str]:
    detail = opened(box)
    held = [words.count(box.operations, "operation"), words.count(box.parameters, "parameter")]
    marks = [f"{_mark(graph.nodes[node])}" for node in box.marks[:3]]
    return [
        words.clean(box.label, 120) + (f", {detail}" if detail else ""),
        " and ".join(text for text, number in zip(held, (box.operations, box.parameters)) if number),
        f"{box.frozen} of them frozen" if box.frozen else "",
        ("worst inside: " if box.state not in ("flows", "data") else "")
        + STATES.get(box.state, box.state)
        + (f", norm {words.norm(box.norm)}" if box.norm is not None else ""),
        *marks,
    ]


def of_line(graph: Graph, tree: Tree, line: Line) -> str:
    link = tree.boxes[line.box].links[line.link]
    told = (
        f"{_end(tree, line.box, link.source)} → {_end(tree, line.box, link.target)}: {'cut here, ' if line.cut else ''}{KINDS[line.kind]}"
    )
    if line.norm is not None:
        told += f", norm {words.norm(line.norm)}"
    return told + (f" ({line.count} edges)" if line.count > 1 else "")


def _end(tree: Tree, box: int, thing: int) -> str:
    """The box that a line begins or ends at; of an entry what feeds it, further out."""
    while thing % 4 == IN:
        entries, box = tree.boxes[box].entries, tree.boxes[box].parent
        thing = entries[thing // 4]
    assert thing % 4 != BEND
    if thing % 4 == CHILD:
        return words.clean(tree.boxes[thing // 4].label, 60)
    return "out of " + words.clean(tree.boxes[box].label, 60)
