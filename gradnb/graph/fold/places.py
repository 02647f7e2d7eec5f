"""Where things stand: the line that a container knows each part by, and the container of each parameter and input."""

from __future__ import annotations

import math

from ...report.words import plural
from ..model import Node
from .parts import MOST, Part, Work, containers, first_node, short

FEW = 3  # more parameters of one module than this, outside its box, become one part
KINDS = ("parameter", "input")
CROWD = 8  # more parameters or inputs than this in one container become one part


def find_lines(work: Work) -> None:
    """Set ``where`` of all parts: the line at the level of the stack on which the parts of their container differ."""
    stacks: dict[tuple[int, ...], tuple[tuple[str, int], ...]] = {}

    def stack(part: Part) -> tuple[tuple[str, int], ...]:
        frames = work.graph.nodes[first_node(part)].frames
        key = tuple(map(id, frames))
        known = stacks.get(key)
        if known is None:
            known = stacks[key] = tuple((f.filename, f.line) for f in reversed(frames))
        return known

    for container in containers(work.root):
        found = [stack(child) for child in container.children]
        ops = {s for s, child in zip(found, container.children) if s and (child.kind != "node" or work.node(child).kind != "loss")}
        level, shortest = 0, min((len(s) for s in ops), default=0)
        while level < shortest - 1 and len({s[level] for s in ops}) == 1:
            level += 1
        for child, s in zip(container.children, found):
            child.where = s[min(level, len(s) - 1)] if s else ("", 0)


def homes(work: Work) -> dict[int, Part]:
    """For each source that something uses the innermost container of all its uses; an input stands outside of modules."""
    todo = [work.root]
    while todo:
        part = todo.pop()
        for child in part.children:
            child.depth = part.depth + 1
            child.parent = part
        todo.extend(child for child in part.children if child.kind != "node")
    found = {}
    for number in work.sources:
        uses = [work.leaf[n] for n in work.uses[number] if n in work.leaf]
        if not uses:
            continue
        home = _common(uses)
        node = work.graph.nodes[number]
        if node.kind == "input" and not node.module:
            home = _outside(home)
        found[number] = home
    _lift_inputs(work, found)
    return found


def _lift_inputs(work: Work, found: dict[int, Part]) -> None:
    """What only the first of many equal things takes in is no part of them, nor are a few inputs a part of a chunk: they stand before."""
    of: dict[int, list[int]] = {}
    folds: dict[int, Part] = {}
    for number, home in found.items():
        if work.graph.nodes[number].kind != "input":
            continue
        part: Part | None = home
        while part is not None and part.kind in ("lines", "repeat"):
            fold, part = part, part.parent
            if fold.ends is not None or part is not None and part.kind not in ("lines", "repeat"):
                of.setdefault(id(fold), []).append(number)
                folds[id(fold)] = fold
                break
    beside: dict[int, int] = {}
    for key, numbers in of.items():
        beside[id(folds[key].parent)] = beside.get(id(folds[key].parent), 0) + len(numbers)
    for key, numbers in of.items():
        fold = folds[key]
        most = fold.ends[2] - 1 if fold.ends is not None else FEW - beside[id(fold.parent)] + len(numbers)
        if fold.parent is not None and fold.unit != "round" and len(numbers) <= most:
            found.update((n, fold.parent) for n in numbers)


def _common(uses: list[Part]) -> Part:
    parents = list({id(part.parent): part.parent for part in uses}.values())
    home = parents[0]
    for other in parents[1:]:
        while home is not other:
            assert home is not None and other is not None
            if home.depth >= other.depth:
                home = home.parent
            else:
                other = other.parent
    assert home is not None
    return home if home.kind != "chain" or home.parent is None else home.parent  # a parameter is not hidden among "mul, add"


def _outside(home: Part) -> Part:
    """The container around the outermost module: what a call is given stands before it."""
    part: Part | None = home
    while part is not None:
        if part.kind == "module" and part.parent is not None:
            home = part.parent
        part = part.parent
    return home


def place_sources(work: Work) -> None:
    """Put parameters and inputs into their containers; where they are many, together."""
    of: dict[int, list[int]] = {}
    parts: dict[int, Part] = {}
    used = homes(work)
    boxes: dict[str, Part] = {}
    for container in containers(work.root):
        if container.kind == "module":
            boxes.setdefault(container.module, container)
    for number in work.sources:
        home = used.get(number) or _holder(work.graph.nodes[number], boxes, work.root)
        of.setdefault(id(home), []).append(number)
        parts[id(home)] = home
    for key, numbers in of.items():
        _put(work, parts[key], numbers, used)


def _put(work: Work, home: Part, numbers: list[int], used: dict[int, Part]) -> None:
    """Give a container its sources: single, or together those of one module that runs several times, or of many."""
    home.sources = _unused(work, [n for n in numbers if n not in used])
    rest = [n for n in numbers if n in used]
    guests: dict[str, list[int]] = {}  # parameters of a module inside that has no single box to hold them
    module = _module_around(home)
    for n in rest:
        node = work.graph.nodes[n]
        if node.kind == "parameter" and node.module and node.module != module and node.mark is None:
            guests.setdefault(_inner(node.module, module), []).append(n)
    for name, group in guests.items():
        if len(group) > FEW:
            home.sources.append(_together([_leaf(work, n) for n in group], "parameter"))
            home.sources[-1].label = f"{short(work.graph, name)}: {plural(len(group), 'parameter')}"
    rest = [n for n in rest if n not in work.leaf]
    of = {word: [_leaf(work, n) for n in rest if (work.graph.nodes[n].kind == "parameter") == (word == "parameter")] for word in KINDS}
    full = len(home.children) + len(home.sources) + len(rest) > MOST + 4
    for word, parts in of.items():
        marked, rest_of = [p for p in parts if p.marked], [p for p in parts if not p.marked]
        many = len(rest_of) > CROWD and (full or word == "input" and work.large)
        home.sources += marked + ([_together(rest_of, word)] if many else rest_of)
    if len(home.children) + len(home.sources) > MOST + 4:  # still: all of a kind together
        both = [[s for s in home.sources if _is_parameter(work, s) == (word == "parameter")] for word in KINDS]
        home.sources = [_together(parts, word) if len(parts) > 1 else parts[0] for word, parts in zip(KINDS, both) if parts]


def _is_parameter(work: Work, part: Part) -> bool:
    return work.node(part).kind == "parameter" if part.node >= 0 else part.kind == "parameters"


def _module_around(part: Part | None) -> str:
    while part is not None and part.kind != "module":
        part = part.parent
    return part.module if part is not None else ""


def _inner(path: str, around: str) -> str:
    """The module right inside ``around`` that a path leads through."""
    if not around:
        return path.partition(".")[0]
    return f"{around}.{path[len(around) + 1 :].partition('.')[0]}" if path.startswith(around + ".") else path


def _holder(node: Node, boxes: dict[str, Part], root: Part) -> Part:
    """The innermost box of the modules that hold a parameter that nothing uses."""
    path = node.module
    while path:
        if path in boxes:
            return boxes[path]
        path = path.rpartition(".")[0]
    return root


def _unused(work: Work, numbers: list[int]) -> list[Part]:
    parts = [_leaf(work, n) for n in numbers]
    idle = [p for p in parts if work.node(p).kind == "parameter" and not p.marked]
    if len(idle) < 2:
        return parts
    one = _together(idle, "parameter")
    one.label = f"not used: {plural(len(idle), 'parameter')}"
    return [p for p in parts if p.marked or work.node(p).kind != "parameter"] + [one]


def _together(parts: list[Part], word: str) -> Part:
    """One part of many sources, on as many levels as it takes."""
    levels = math.ceil(math.log(len(parts), MOST)) if len(parts) > MOST else 1
    width = math.ceil(len(parts) ** (1 / levels))
    for _ in range(levels - 1):
        parts = [_box(parts[i : i + width], word) for i in range(0, len(parts), width)]
    return _box(parts, word)


def _box(parts: list[Part], word: str) -> Part:
    one = Part("parameters" if word == "parameter" else "lines")
    one.adopt(parts)
    one.marked = any(p.marked for p in parts)
    one.unit = word
    return one


def _leaf(work: Work, number: int) -> Part:
    node = work.graph.nodes[number]
    part = Part("node", node.label, number, marked=node.mark is not None)
    work.leaf[number] = part
    return part
