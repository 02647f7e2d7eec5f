"""A small graph made by hand: an encoder whose features are detached before the head, with what a real step has of everything."""

from __future__ import annotations

from dataclasses import replace

from gradnb.graph.draw.order import order
from gradnb.graph.model import Box, Edge, Graph, Mark, Node, Told, Tree
from gradnb.recorder.recording import Location

SOURCE = """\
%%gradcheck
class Tagger(nn.Module):
    def features(self, x):
        return self.encoder(x).detach()

    def forward(self, x):
        return self.head(self.features(x))

loss = nn.functional.cross_entropy(model(x), y)  # <b>not markup</b> &amp; </script>
loss.backward()
"""


F32, LOSS = "float32", "NllLossBackward0"


def at(line: int, part: str = "") -> Location:
    text = SOURCE.splitlines()[line - 1]
    column = text.index(part) if part else len(text) - len(text.lstrip())
    return Location(3, None, line, "<module>", text.strip(), line, column, column + len(part or text.strip()), "cell-3")


def graph(step: int = 1, norm: float = 0.25) -> Graph:
    """Nodes 0 … 9; the gradient is lost at node 4, and reaches the head with this norm."""
    x, y = at(4, "self.encoder(x)"), at(7, "self.head(self.features(x))")
    nodes = [
        Node("input", "x", "x", "", (32, 8), F32),
        Node("parameter", "weight", "encoder.weight", "encoder", (16, 8), F32, True, True, state="starved"),
        Node("parameter", "bias", "encoder.bias", "encoder", (16,), F32, False, False, state="frozen"),
        Node("operation", "linear", "", "encoder", (32, 16), F32, True, None, "AddmmBackward0", "lost", location=x),
        Node("operation", "detach", "h", "", (32, 16), F32, False, None, "", "lost", location=at(4, ".detach()")),
        Node("parameter", "weight", "head.weight", "head", (3, 16), F32, True, True, state="flows", norm=norm),
        Node("operation", "linear", "", "head", (32, 3), F32, True, None, "AddmmBackward0", "flows", location=y),
        Node("input", "y", "y", "", (32,), "int64"),
        Node("operation", "cross_entropy", "loss", "", (), F32, True, None, LOSS, "flows", location=at(9), frames=(at(9), at(10))),
        Node("loss", "loss", "loss", "", (), F32, True, None, LOSS, "flows", value=1.1 / step, location=at(10)),
    ]
    for turn, node in enumerate(nodes):
        node.order = turn
    nodes[4].mark = Mark("detach", "lost here", "line 4: .detach()", "error", 0)
    edges = [
        Edge(0, 3), Edge(1, 3, "starved"), Edge(2, 3), Edge(3, 4, "lost", cut=True), Edge(4, 6, "data"), Edge(5, 6, "flows", norm=norm),
        Edge(6, 8, "flows"), Edge(7, 8), Edge(8, 9, "flows"),
    ]  # fmt: skip
    told = Told("detach", "error", "`detach()` cuts the encoder off", "Remove `.detach()`.", at(4, ".detach()"))
    return Graph(
        nodes, edges, f"step {step}", {"encoder": "Linear", "head": "Linear"}, [told], {"cell-3": SOURCE}, ["2 metrics are left out"]
    )


def tree(graph: Graph, open_head: bool = False) -> Tree:
    """Boxes: 0 the whole, 1 encoder, 2 head, then one for each node."""
    names = {"encoder": 1, "head": 2}
    boxes = [
        Box("whole", "", children=[3, 1, 7, 2, 10, 11, 12], operations=4, parameters=3, frozen=1, state="lost", marks=[4], open=True),
        Box("module", "encoder", 0, -1, [4, 5, 6], "Linear", 1, 2, 1, "lost", open=True),
        Box("module", "head", 0, -1, [8, 9], "Linear", 1, 1, 0, "flows", graph.nodes[5].norm, open=open_head),
    ]
    for i, node in enumerate(graph.nodes):
        shape = "×".join(map(str, node.shape)) if node.shape else ""
        box = Box(
            "node", node.label, names.get(node.module, 0), i, [], shape, int(node.kind == "operation"), state=node.state, norm=node.norm
        )
        box.parameters = int(node.kind == "parameter")
        box.frozen = int(node.state == "frozen")
        box.marks = [i] if node.mark else []
        boxes.append(box)
    made = Tree(boxes, list(range(3, 3 + len(graph.nodes))))
    order(graph, made)
    return made


def with_state(graph: Graph, node: int, **values: object) -> Graph:
    """The same graph with one node changed."""
    nodes = list(graph.nodes)
    nodes[node] = replace(nodes[node], **values)  # type: ignore[arg-type]
    return replace(graph, nodes=nodes)
