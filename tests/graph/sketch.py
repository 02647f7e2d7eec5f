"""Graphs made by hand, a line each, and what must hold for every fold of any graph."""

from __future__ import annotations

from gradnb.graph.model import Box, Edge, Graph, Mark, Node, Tree
from gradnb.recorder.recording import Location


def at(line: int, function: str = "<module>") -> Location:
    return Location(1, None, line, function, f"code of line {line}", filename="cell")


class Sketch:
    """Builds a Graph in the order of its calls; each call gives the position of its node."""

    def __init__(self, **classes: str):
        self.graph = Graph(title="step 1", classes={path.replace("__", "."): name for path, name in classes.items()})

    def _add(self, node: Node, *sources: int, kind: str) -> int:
        node.order = float(len(self.graph.nodes))
        self.graph.nodes.append(node)
        number = len(self.graph.nodes) - 1
        self.graph.edges += [Edge(source, number, kind) for source in sources]
        return number

    def op(
        self,
        label: str,
        *sources: int,
        module: str = "",
        line: int = 1,
        calls: tuple[tuple[str, int], ...] = (),
        state: str = "flows",
        region: str = "",
        name: str = "",
    ) -> int:
        """An operation on a line; ``calls`` are the functions that led there from the cell: (name, line in it), outermost first."""
        frames = (at(line), *(at(number, function) for function, number in calls))[::-1]
        node = Node("operation", label, name, module, (4, 8), state=state, region=region, location=frames[0], frames=frames)
        return self._add(node, *sources, kind="flows" if state == "flows" else "data")

    def parameter(
        self, module: str, label: str = "weight", shape: tuple[int, ...] = (8, 8), state: str = "flows", norm: float | None = None
    ) -> int:
        name = f"{module}.{label}".partition(".")[2]
        return self._add(Node("parameter", label, name, module, shape, trainable=state != "frozen", state=state, norm=norm), kind="flows")

    def input(self, name: str) -> int:
        return self._add(Node("input", name, name, shape=(4, 8)), kind="data")

    def loss(self, *sources: int, value: float = 0.5) -> int:
        return self._add(Node("loss", "loss", shape=(), state="flows", value=value), *sources, kind="flows")

    def layer(self, path: str, source: int, label: str = "linear", **facts: object) -> int:
        """A layer with a weight: one operation in a module of its own."""
        state = str(facts.get("state", "flows"))
        weight = self.parameter(path, state="starved" if state == "lost" else state, norm=1.0 if state == "flows" else None)
        return self.op(label, source, weight, module=path, **facts)  # type: ignore[arg-type]

    def mark(self, number: int, word: str = "lost", text: str = "line 12: .detach()") -> None:
        self.graph.nodes[number].mark = Mark("detach", word, text, "error", 0)
        self.graph.nodes[number].state = "lost"
        for edge in self.graph.edges:
            if edge.target == number:
                edge.kind, edge.cut = "lost", True


def check_tree(graph: Graph, tree: Tree) -> None:
    """Every node stands in one box or is told as left out; no container is too full; siblings form no cycle; totals are right."""
    found = [box.node for box in tree.boxes if box.node >= 0]
    assert len(found) == len(set(found))
    for number, box in enumerate(tree.of_node):
        assert tree.left_out if box < 0 else tree.boxes[box].node == number
    for number, box in enumerate(tree.boxes):
        assert len(box.children) <= 40, (box.label, len(box.children))
        assert box.label or number == 0
        for child in box.children:
            assert tree.boxes[child].parent == number
        inner = [graph.nodes[n] for n in nodes_in(tree, number)]
        assert (box.kind == "node") == (not box.children) or number == 0
        assert box.operations == sum(n.kind == "operation" for n in inner)
        assert box.parameters == sum(n.kind == "parameter" for n in inner)
        assert len(box.marks) == sum(n.mark is not None for n in inner)
        assert box.rows or not box.children
    _check_no_cycle(graph, tree)


def _check_no_cycle(graph: Graph, tree: Tree) -> None:
    follows: dict[int, set[int]] = {}
    for edge in graph.edges:
        a, b = tree.of_node[edge.source], tree.of_node[edge.target]
        if a >= 0 and b >= 0:
            one, two = ways(tree, a), ways(tree, b)
            depth = next(i for i, (x, y) in enumerate(zip(one, two)) if x != y)
            follows.setdefault(one[depth], set()).add(two[depth])
    waits = {box: 0 for box in range(len(tree.boxes))}
    for targets in follows.values():
        for target in targets:
            waits[target] += 1
    ready = [box for box, count in waits.items() if not count]
    done = 0
    while ready:
        done += 1
        for target in follows.get(ready.pop(), ()):
            waits[target] -= 1
            if not waits[target]:
                ready.append(target)
    assert done == len(tree.boxes), "links between siblings form a cycle"


def ways(tree: Tree, box: int) -> list[int]:
    """The boxes around a box, the whole first, and the box itself."""
    found = [box]
    while tree.boxes[found[-1]].parent >= 0:
        found.append(tree.boxes[found[-1]].parent)
    return found[::-1]


def nodes_in(tree: Tree, box: int) -> list[int]:
    found, todo = [], [box]
    while todo:
        one = tree.boxes[todo.pop()]
        todo += one.children
        if one.node >= 0:
            found.append(one.node)
    return found


def box(tree: Tree, label: str) -> Box:
    """The one box with this label."""
    found = [b for b in tree.boxes if b.label == label]
    assert len(found) == 1, [b.label for b in tree.boxes]
    return found[0]


def labels(tree: Tree, box: Box | None = None) -> list[str]:
    """The labels of a box's children; of the top-level boxes without one."""
    return [tree.boxes[child].label for child in (box or tree.boxes[0]).children]


def shown(tree: Tree) -> list[str]:
    """The labels of the boxes that are visible at first."""
    found, todo = [], tree.boxes[0].children[::-1]
    while todo:
        one = tree.boxes[todo.pop()]
        found.append(one.label)
        todo += one.children[::-1] if one.open else []
    return found
