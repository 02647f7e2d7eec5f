"""The tree while it is folded: parts that are grouped, split and moved before they become boxes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from ..model import Graph, Node

HOLDERS = ("ModuleList", "ModuleDict", "ParameterList", "ParameterDict")  # they hold modules and never run
MOST = 36  # children of one container before it is cut into chunks: with a few parameters still below 40


@dataclass(slots=True, eq=False)
class Part:
    """A node, or a stretch of nodes in time. ``children`` run in time; ``sources`` are what nothing computed: parameters, inputs."""

    kind: str  # as Box.kind
    label: str = ""
    node: int = -1
    module: str = ""  # path of the module whose box it is
    children: list["Part"] = field(default_factory=list)
    sources: list["Part"] = field(default_factory=list)
    parent: "Part | None" = None
    depth: int = 0
    detail: str = ""
    unit: str = ""  # "round" of a loop; of a group of sources: "parameter" or "input"
    ends: "tuple[Part, Part, int] | None" = None  # of a repeat: the first and last of the equal things, and how many they are
    call: int = 0  # of a module that runs more than once: which call this is
    operations: int = 0  # nodes in time inside
    marked: bool = False
    region: str | None = ""  # where gradients were switched off for everything inside; None where only for a part
    where: tuple[str, int] = ("", 0)  # file and line that its container knows it by
    signature: int = -1  # equal for parts of equal structure and state

    def adopt(self, children: list["Part"]) -> None:
        self.children = children
        for child in children:
            child.parent = self


@dataclass(slots=True)
class Work:
    """One fold: the graph, which of its nodes are shown, and how they hang together."""

    graph: Graph
    shown: list[int]  # nodes, by time
    timed: list[int] = field(default_factory=list)  # … that something computed (or that end the graph)
    sources: list[int] = field(default_factory=list)  # … that nothing computed
    uses: list[list[int]] = field(default_factory=list)  # node -> nodes that use it, of those shown
    large: bool = False  # too much for one look: equal things are folded
    leaf: dict[int, Part] = field(default_factory=dict)  # node -> its part
    root: Part = field(default_factory=lambda: Part("whole"))

    def node(self, part: Part) -> Node:
        return self.graph.nodes[part.node]


def work(graph: Graph, shown: list[int], budget: int) -> Work:
    """Sort the nodes by time, and the ones that nothing computed aside."""
    keep = set(shown)
    uses: list[list[int]] = [[] for _ in graph.nodes]
    made = set()
    for edge in graph.edges:
        made.add(edge.target)
        if edge.source in keep and edge.target in keep:
            uses[edge.source].append(edge.target)
    todo = Work(graph, _by_time(graph, shown, uses), uses=uses, large=len(shown) > min(budget, MOST + 4))
    for number in todo.shown:
        floats = graph.nodes[number].kind in ("parameter", "input") and number not in made
        (todo.sources if floats else todo.timed).append(number)
    if not todo.timed:  # a model that never ran: its parameters stand in the order of its modules
        todo.sources, todo.timed = [], todo.sources
    return todo


def _by_time(graph: Graph, shown: list[int], uses: list[list[int]]) -> list[int]:
    """By order; where an edge goes against it, by the edges first: a fold of a stretch of time must not make a cycle."""
    import heapq

    nodes = graph.nodes
    order = sorted(shown, key=lambda n: (nodes[n].order, n))
    place = {n: i for i, n in enumerate(order)}
    if all(place[n] < place[u] for n in order for u in uses[n]):
        return order
    waits = dict.fromkeys(order, 0)
    for n in order:
        for u in uses[n]:
            waits[u] += 1
    ready = [place[n] for n in order if not waits[n]]
    heapq.heapify(ready)
    result = []
    while ready:
        n = order[heapq.heappop(ready)]
        result.append(n)
        for u in uses[n]:
            waits[u] -= 1
            if not waits[u]:
                heapq.heappush(ready, place[u])
    done = set(result)
    return result + [n for n in order if n not in done]


def inside(part: Part) -> Iterator[Part]:
    """The part and everything in it, containers before what they contain."""
    todo = [part]
    while todo:
        current = todo.pop()
        yield current
        todo.extend(reversed(current.children))
        todo.extend(current.sources)


def containers(root: Part) -> list[Part]:
    """All containers by time, each before those inside it."""
    found = []
    todo = [root]
    while todo:
        part = todo.pop()
        found.append(part)
        todo.extend(child for child in reversed(part.children) if child.kind != "node")
    return found


def sum_up(work: Work, part: Part) -> None:
    """What a container knows from its children: how much, is something marked, are gradients switched off for all of it."""
    children = part.children
    part.operations = sum(child.operations for child in children)
    part.marked = any(child.marked for child in children)
    regions = {child.region for child in children}
    part.region = regions.pop() if len(regions) == 1 else None if regions else ""


def first_node(part: Part) -> int:
    while part.children:
        part = part.children[0]
    return part.node


def short(graph: Graph, path: str) -> str:
    """A module's last name, with the one before where it is only its place in a list: "fc1", "h.3"."""
    before, _, last = path.rpartition(".")
    listed = graph.classes.get(before) in HOLDERS
    return f"{before.rpartition('.')[2]}.{last}" if listed and last.isdigit() else last
