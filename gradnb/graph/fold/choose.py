"""What focus= and only= show of a graph, and the sentence that says how much they leave out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from difflib import get_close_matches

from ...errors import UsageError
from ...report.words import plural
from ..model import Box, Graph, Tree
from .boxes import total
from .opening import above
from .parts import MOST, Part, short
from .words import more, relative

NEAR = 5  # names that an error proposes
PLACES = 12  # places of one name that are shown at once


def check_only(only: str | None) -> None:
    if only not in (None, "lost"):
        raise UsageError(f'only={only!r} given; the one choice is only="lost" (or None, for the whole graph)')


def only_lost(graph: Graph) -> tuple[list[int], list[str]]:
    """The nodes on ways from parameters whose gradient is lost, over the places where it is lost, to the losses; and what is left out."""
    into, out = _neighbours(graph)
    cuts = {e.target for e in graph.edges if e.cut} | {n for n, node in enumerate(graph.nodes) if node.mark and node.state == "lost"}
    starved = {n for n, node in enumerate(graph.nodes) if node.kind == "parameter" and node.state in ("starved", "lost")}
    ends = {n for n, node in enumerate(graph.nodes) if node.kind == "loss"}
    everything = list(range(len(graph.nodes)))
    if not cuts and not starved:
        return everything, ["nothing is lost in this graph: all of it is shown"]
    before = _reach(cuts, into)
    waiting = starved & before or {n for n in before if graph.nodes[n].kind == "parameter"}
    shown = _reach(waiting, out) & before | cuts
    to_loss = _reach(ends, into)
    below = _reach(cuts, out)
    shown |= below & to_loss or below
    elsewhere = _reach(starved - before, out)  # starved by no cut that a finding names
    shown |= elsewhere & to_loss or elsewhere
    gone = set(everything) - shown
    one = len(gone) == 1
    left_out = [f"{_counted(graph, gone)} that {'loses nothing is' if one else 'lose nothing are'} not shown"] if gone else []
    return sorted(shown), left_out


def _neighbours(graph: Graph) -> tuple[list[list[int]], list[list[int]]]:
    into: list[list[int]] = [[] for _ in graph.nodes]
    out: list[list[int]] = [[] for _ in graph.nodes]
    for edge in graph.edges:
        into[edge.target].append(edge.source)
        out[edge.source].append(edge.target)
    return into, out


def _reach(start: Iterable[int], way: list[list[int]]) -> set[int]:
    seen = set(start)
    todo = list(seen)
    while todo:
        for other in way[todo.pop()]:
            if other not in seen:
                seen.add(other)
                todo.append(other)
    return seen


def _counted(graph: Graph, nodes: set[int]) -> str:
    """ "132 operations, 12 parameters and 3 inputs" """
    words = [(kind, sum(graph.nodes[n].kind == kind for n in nodes)) for kind in ("operation", "parameter", "input", "loss")]
    texts = [plural(n, kind) for kind, n in words if n]
    return " and ".join([", ".join(texts[:-1]), texts[-1]]) if len(texts) > 1 else "".join(texts)


def focus_on(graph: Graph, tree: Tree, parts: list[Part], name: str) -> Tree:
    """A tree of the boxes that ``name`` means, open, and of their neighbours, closed."""
    chosen = _outermost(tree, _named(graph, tree, parts, name))
    many, chosen = len(chosen), chosen[:PLACES]
    around = {a for box in chosen for a in above(tree, box)}
    focused = {n for box in chosen for n in _nodes(tree, box)}
    beside = {
        _fold_of(tree, tree.of_node[b if a in focused else a], around)
        for a, b in ((e.source, e.target) for e in graph.edges)
        if (a in focused) != (b in focused) and tree.of_node[a] >= 0 and tree.of_node[b] >= 0
    }
    result = Tree([replace(tree.boxes[0], children=[], marks=[])], [-1] * len(graph.nodes))
    for number in sorted(set(chosen) | beside):
        top = _copy(tree, number, result, number in chosen)
        part, box = parts[number], result.boxes[top]
        if part.kind == "module":  # away from the box around it, it needs its whole name
            box.label = relative(part.module, part.module.split(".")[0]) + (f" (call {part.call})" if part.call else "")
        elif part.kind == "node" and graph.nodes[part.node].kind == "parameter":
            box.label = graph.nodes[part.node].name or box.label
    _fewer(graph, result)
    total(graph, result, 0)
    whole = result.boxes[0]
    whole.open, whole.detail = True, more(whole)
    gone = {n for n, box in enumerate(result.of_node) if box < 0 and tree.of_node[n] >= 0}
    if many > PLACES:
        result.left_out.append(f"only the first {PLACES} of {many} places that are called {name} are shown")
    if gone:
        result.left_out.append(f"{_counted(graph, gone)} away from {name} {'is' if len(gone) == 1 else 'are'} not shown")
    for n in sorted(gone):
        mark = graph.nodes[n].mark
        if mark is not None and mark.root:
            result.left_out.append(f"not shown: {graph.nodes[n].label} ({mark.word}, {mark.text})")
    return result


def _named(graph: Graph, tree: Tree, parts: list[Part], name: str) -> list[int]:
    """The boxes that a name means: of a module (in whole or without its root), else a parameter, a function, a variable, an operation."""
    if not isinstance(name, str) or not name.strip():
        raise UsageError(
            f'focus={name!r} given; the name of a module is expected, such as focus="encoder.3", or of an operation or a variable'
        )
    wanted = name.strip()
    for root in (True, False):
        found = [i for i in range(1, len(parts)) if _in_module(_path(graph, parts[i]), wanted, root)]
        if found:
            return found
    nodes = [(n, graph.nodes[n]) for n in range(len(graph.nodes)) if tree.of_node[n] >= 0]
    for numbers in (
        [n for n, node in nodes if node.kind == "parameter" and wanted in (node.name, f"{node.module}.{node.label}")],
        [n for n, node in nodes if node.name == wanted],
        [n for n, node in nodes if wanted in (node.label, node.function) and node.kind != "parameter"],
    ):
        if numbers:
            return [tree.of_node[n] for n in numbers]
        found = [i for i, p in enumerate(parts) if p.kind in ("function", "region") and p.label == wanted.removesuffix("()")]
        if found:
            return found
    ending = sorted({p for p in _paths(graph) if p.endswith("." + wanted)})
    if len(ending) == 1:
        return [i for i in range(1, len(parts)) if _in_module(_path(graph, parts[i]), ending[0], True)]
    away = [node for n, node in enumerate(graph.nodes) if tree.of_node[n] < 0]
    if any(
        wanted in (node.name, node.label) or _in_module(node.module, wanted, True) or _in_module(node.module, wanted, False)
        for node in away
    ):
        raise UsageError(f'focus={name!r} given, and it is on no way that loses its gradient: leave only="lost" out to see it')
    raise UsageError(f"focus={name!r} given, and nothing in this graph is called so; {_near(graph, parts, wanted, ending)}")


def _path(graph: Graph, part: Part) -> str:
    return part.module if part.kind == "module" else graph.nodes[part.node].module if part.node >= 0 else ""


def _in_module(path: str, wanted: str, root: bool) -> bool:
    if not root:
        path = path.partition(".")[2]
    return path == wanted or path.startswith(wanted + ".")


def _paths(graph: Graph) -> set[str]:
    return set(graph.classes) | {node.module for node in graph.nodes if node.module}


def _near(graph: Graph, parts: list[Part], wanted: str, ending: list[str]) -> str:
    modules = sorted({p.partition(".")[2] or p for p in _paths(graph)}, key=lambda n: (n.count("."), n))
    names = {node.name: node.name for node in graph.nodes if node.name} | {p.label: p.label for p in parts if p.kind == "function"}
    for path in reversed(_natural(_paths(graph))):  # a module is found by its last name, too
        plain = path.partition(".")[2] or path
        names |= {path.rpartition(".")[2]: plain, short(graph, path): plain, plain: plain}
    close = [p.partition(".")[2] for p in _natural(set(ending))]
    close = close or [names[n] for n in get_close_matches(wanted, sorted(names), NEAR, 0.6)]
    close = close or [n for n in modules if wanted.lower() in n.lower()]
    if close:
        return "near it are " + ", ".join(list(dict.fromkeys(close))[:NEAR])
    return "its modules are " + ", ".join(modules[:NEAR]) + (", …" if len(modules) > NEAR else "") if modules else "it has no modules"


def _natural(paths: set[str]) -> list[str]:
    """h.2 before h.10."""
    return sorted(paths, key=lambda path: [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in path.split(".")])


def _outermost(tree: Tree, found: list[int]) -> list[int]:
    wanted = set(found)
    return sorted(box for box in wanted if not wanted.intersection(above(tree, box)))


def _nodes(tree: Tree, number: int) -> list[int]:
    found, todo = [], [number]
    while todo:
        box = tree.boxes[todo.pop()]
        todo.extend(box.children)
        if box.node >= 0:
            found.append(box.node)
    return found


def _fold_of(tree: Tree, number: int, around: set[int]) -> int:
    """The largest fold of a box that does not hold what is in focus."""
    while tree.boxes[number].parent not in around:
        number = tree.boxes[number].parent
    return number


def _copy(tree: Tree, number: int, result: Tree, opened: bool) -> int:
    """Put a box and what is in it under the whole of ``result``, closed but for the box itself where ``opened``."""
    top = len(result.boxes)
    todo = [(number, 0)]
    while todo:
        old, parent = todo.pop()
        new = len(result.boxes)
        box = replace(tree.boxes[old], parent=parent, children=[], open=opened and old == number and bool(tree.boxes[old].children))
        result.boxes.append(box)
        result.boxes[parent].children.append(new)
        if box.node >= 0:
            result.of_node[box.node] = new
        todo.extend((child, new) for child in reversed(tree.boxes[old].children))
    return top


def _fewer(graph: Graph, result: Tree) -> None:
    """Many neighbours: those in a row become one box."""
    whole = result.boxes[0]
    if len(whole.children) <= MOST + 4:
        return
    children: list[int] = []
    run: list[int] = []
    for child in [*whole.children, -1]:
        if child >= 0 and not result.boxes[child].open and len(run) < MOST:
            run.append(child)
            continue
        children += run if len(run) < 2 else [_group(graph, result, run)]
        run = [] if child < 0 or result.boxes[child].open else [child]
        children += [child] if child >= 0 and result.boxes[child].open else []
    whole.children = children


def _group(graph: Graph, result: Tree, run: list[int]) -> int:
    number = len(result.boxes)
    result.boxes.append(Box("lines", f"{len(run)} neighbours", 0, children=run))
    for child in run:
        result.boxes[child].parent = number
    total(graph, result, number)
    result.boxes[number].detail = more(result.boxes[number])
    return number
