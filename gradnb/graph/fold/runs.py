"""The first fold: stretches of time in one function or module of the user's, as the code calls them."""

from __future__ import annotations

from ...recorder.recording import Location
from ..model import Node, lineage
from .calls import Calls
from .parts import HOLDERS, Part, Work, containers, sum_up

_Key = tuple[str, str, str]  # kind, name or path, where it was called


def grow(work: Work) -> None:
    """Make ``work.root``: containers by function and by module, each one stretch of time."""
    paths = _Paths(work)
    stack, keys = [work.root], tuple[_Key, ...]()
    before: Node | None = None
    for number in work.timed:
        node = work.graph.nodes[number]
        path = paths.after(keys, before, node)
        before = node
        same = 0
        while same < min(len(path), len(keys)) and path[same] == keys[same]:
            same += 1
        del stack[same + 1 :]
        for kind, name, _ in path[same:]:
            part = Part(kind, parent=stack[-1], module=name if kind == "module" else "", label=name if kind == "function" else "")
            stack[-1].children.append(part)
            stack.append(part)
        keys = path
        leaf = Part("node", node.label, number, parent=stack[-1], operations=1, marked=node.mark is not None, region=node.region)
        stack[-1].children.append(leaf)
        work.leaf[number] = leaf
    for part in reversed(containers(work.root)):
        alone = part is work.root and len(part.children) == 1
        children: list[Part] = []
        for child in part.children:
            children += _split_calls(work, child) if child.kind == "module" else _dissolved(child, alone)
        part.adopt(children)
    for part in reversed(containers(work.root)):
        sum_up(work, part)
    _count_calls(work)


def _dissolved(part: Part, alone: bool) -> list[Part]:
    """A function that holds one thing, or everything, says nothing: what is in it stands in its place."""
    return part.children if part.kind == "function" and (alone or len(part.children) == 1) else [part]


class _Paths:
    """The functions and modules around a node, outermost first."""

    def __init__(self, work: Work):
        self.classes = work.graph.classes
        self.calls = Calls(work.graph)
        self.modules: dict[str, list[str]] = {}
        self.known: dict[tuple[tuple[int, ...], str], tuple[_Key, ...]] = {}
        self.skip = self._shared([work.graph.nodes[n] for n in work.timed if work.graph.nodes[n].kind == "operation"])

    @staticmethod
    def _shared(nodes: list[Node]) -> int:
        """How many of the outermost frames all operations have in common: the way to the code that the picture is about."""
        stacks = list({tuple(map(id, n.frames)): n.frames for n in nodes}.values())
        if not stacks:
            return 0
        shortest = min(len(s) for s in stacks)
        shared = 0
        while shared < shortest and len({_place(s[-1 - shared]) for s in stacks}) == 1:
            shared += 1
        return min(shared, shortest - 1) if shortest else 0

    def after(self, keys: tuple[_Key, ...], before: Node | None, node: Node) -> tuple[_Key, ...]:
        """The path of a node; inside the path of the one before it where a call of that is still running."""
        path = self.of(node)
        if before is None or not node.module or path[: len(keys)] == keys:
            return path
        modules = [key[1] for key in keys if key[0] == "module"]
        own = self._modules(node.module)
        if modules == own[: len(modules)]:
            return path
        running = self.calls.running(modules, before, node, own)
        last = modules[running - 1] if running else ""
        if not last or node.module == last or node.module.startswith(last + "."):
            return path
        kept = keys[: next(i for i, key in enumerate(keys) if key[1] == last) + 1]
        around = {key[1] for key in kept}
        instead = {self.classes.get(name) for name in modules[:running]}  # run in place of those that its path names
        return kept + tuple(("module", name, "") for name in own if name not in around and self.classes.get(name) not in instead)

    def of(self, node: Node) -> tuple[_Key, ...]:
        key = (tuple(map(id, node.frames)), node.module)  # places are the same objects wherever they stand
        path = self.known.get(key)
        if path is None:
            path = self.known[key] = self._path(node)
        return path

    def _path(self, node: Node) -> tuple[_Key, ...]:
        frames = node.frames[::-1][self.skip :]  # outermost first; the first is a line of the code that the picture is about
        until = len(frames)
        if node.module:  # from the first forward() on the modules say where we are
            until = next((i for i, frame in enumerate(frames) if frame.function == "forward"), until)
        path: list[_Key] = []
        for outer, frame in zip(frames[:until], frames[1:until]):
            if not frame.function.startswith("<"):
                path.append(("function", frame.function, _place(outer)))
        called = _place(frames[until - 1]) if until else ""  # two calls from two lines are two boxes
        for module in self._modules(node.module):
            path.append(("module", module, called))
            called = ""
        return tuple(path)

    def _modules(self, path: str) -> list[str]:
        known = self.modules.get(path)
        if known is None:
            known = self.modules[path] = [p for p in lineage(path) if self.classes.get(p) not in HOLDERS]
        return known


def _place(where: Location) -> str:
    return f"{where.filename}:{where.line}:{where.function}"


def _split_calls(work: Work, part: Part) -> list[Part]:
    """A module that ran several times in direct succession: its content is the same sequence again and again."""
    if len(part.children) == 1:
        return [part]
    keys: list[object] = []
    for child in part.children:
        node = work.node(child) if child.kind == "node" else None
        keys.append((child.kind, child.module, child.label, _place(node.location) if node and node.location else ""))
    period = _period(keys)
    if period == len(keys) or period == 1 and part.children[0].kind != "node":
        return [part]
    calls = []
    for start in range(0, len(keys), period):
        call = Part("module", module=part.module)
        call.adopt(part.children[start : start + period])
        calls.append(call)
    return calls


def _period(keys: list[object]) -> int:
    """The length of the shortest sequence that ``keys`` is a whole number of repetitions of."""
    border = [0] * len(keys)
    for i in range(1, len(keys)):
        k = border[i - 1]
        while k and keys[i] != keys[k]:
            k = border[k - 1]
        border[i] = k + (keys[i] == keys[k])
    period = len(keys) - border[-1] if keys else 0
    return period if keys and len(keys) % period == 0 else len(keys)


def _count_calls(work: Work) -> None:
    """Number the calls of modules that have several boxes within one call of the module around them."""
    of: dict[tuple[int, str], list[Part]] = {}
    around: dict[int, int] = {}
    for part in containers(work.root):
        for child in part.children:
            around[id(child)] = id(part) if part.kind == "module" else around.get(id(part), 0)
        if part.kind == "module":
            of.setdefault((around[id(part)], part.module), []).append(part)
    for parts in of.values():
        if len(parts) > 1:
            for number, part in enumerate(parts):
                part.call = number + 1
