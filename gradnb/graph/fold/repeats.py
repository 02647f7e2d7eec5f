"""Equal things in a row become one: "h.0 … h.11 · Block × 12", the rounds of a loop, the same operation again and again."""

from __future__ import annotations

from ..model import Node
from .parts import Part, Work, containers, sum_up

LEAST = 3  # so many equal things become one
LEAST_NODES = 4  # … of single operations
LONGEST = 48  # things in the unit of a repetition
WORTH = 12  # below so many children a container is not looked through for loops


def sign(work: Work, homes: dict[int, Part]) -> None:
    """Give every part a number that is equal for parts of equal structure, class and states. A finding's own place is like no other.

    ``homes`` says in which container each parameter will stand: blocks of different widths are not equal.
    """
    numbers: dict[object, int] = {}
    held: dict[int, list[tuple]] = {}
    for number, part in homes.items():
        node = work.graph.nodes[number]
        if node.kind == "parameter":
            held.setdefault(id(part), []).append((node.label if node.module else "", node.shape, node.state, _mark(node, number)))
    for part in work.leaf.values():
        node = work.node(part)
        width = node.shape if node.kind == "parameter" else None  # parameters stand here where no operation is known
        state = "flows" if node.state == "zero" and width is None else node.state  # a zero here and there makes no other structure
        key: object = (node.label, node.kind, width, state, node.function, _mark(node, part.node))
        part.signature = numbers.setdefault(key, len(numbers))
    for part in reversed(containers(work.root)):
        inner = tuple(child.signature for child in part.children)
        name = work.graph.classes.get(part.module, part.module) if part.kind == "module" else part.label if part.kind == "function" else ""
        key = (part.kind, name, part.region, inner, tuple(sorted(held.get(id(part), ()), key=repr)))
        part.signature = numbers.setdefault(key, len(numbers))


def _mark(node: Node, number: int) -> object:
    if node.mark is None:
        return None
    return number if node.mark.root else node.mark.cause  # the same fault in each of many rounds is one thing many times


def split_rounds(work: Work) -> None:
    """Where the lines of a container go back to an earlier one there is a loop: each of its rounds becomes a part."""
    todo = [part for part in containers(work.root)]
    while todo:
        part = todo.pop()
        if len(part.children) <= WORTH:
            continue
        lines = [child.where for child in part.children]
        back = [b for a, b in zip(lines, lines[1:]) if a[0] == b[0] and b[1] < a[1]]
        if not back:
            continue
        first = min(back, key=lambda where: where[1])
        starts = [i for i, where in enumerate(lines) if where == first and (not i or lines[i - 1] != first)]
        if len(starts) < LEAST or not _alike(part, starts):
            continue
        last = max((where[1] for where in lines[starts[0] : starts[-1]] if where[0] == first[0]), default=0)
        end = starts[-1]
        while end < len(lines) and first[1] <= lines[end][1] <= last:
            end += 1
        children = part.children[: starts[0]]
        for number, (start, stop) in enumerate(zip(starts, starts[1:] + [end])):
            one = Part("lines", f"round {number + 1}", where=first, unit="round")
            one.adopt(part.children[start:stop])
            sum_up(work, one)
            children.append(one)
            todo.append(one)
        part.adopt(children + part.children[end:])


def _alike(part: Part, starts: list[int]) -> bool:
    """Do two rounds begin alike: else the lines go back for another reason, such as an expression over several lines."""
    heads = [tuple((c.kind, c.label, c.module and c.module.rpartition(".")[0]) for c in part.children[i : i + 2]) for i in starts]
    return len(set(heads)) < len(heads)


def fold_repeats(work: Work, part: Part) -> list[Part]:
    """Put equal things in a row into one part each; returns the new containers."""
    signs = [child.signature for child in part.children]
    found = _repetitions(part, signs)
    if not found:
        return []
    children: list[Part] = []
    new: list[Part] = []
    position = 0
    for start, period, count in found:
        children += part.children[position:start]
        position = start + period * count
        units = [_unit(work, part.children[i : i + period], new) for i in range(start, position, period)]
        one = Part("repeat", where=units[0].where, ends=(units[0], units[-1], count))
        one.adopt(units)
        sum_up(work, one)
        children.append(one)
        new.append(one)
    part.adopt(children + part.children[position:])
    return new


def _unit(work: Work, parts: list[Part], new: list[Part]) -> Part:
    if len(parts) == 1:
        return parts[0]
    unit = Part("lines", unit="round", where=parts[0].where)
    unit.adopt(parts)
    sum_up(work, unit)
    new.append(unit)
    return unit


def _repetitions(part: Part, signs: list[int]) -> list[tuple[int, int, int]]:
    """Non-overlapping stretches (start, period, how often), each the longest that starts there."""
    found = []
    total, i = len(signs), 0
    later: dict[int, list[int]] = {}
    for position, value in enumerate(signs):
        later.setdefault(value, []).append(position)
    rank = [0] * total
    for positions in later.values():
        for k, position in enumerate(positions):
            rank[position] = k
    while i < total:
        best = (0, 0, 0)  # covered, -period, count
        again = later[signs[i]]
        for k in range(rank[i] + 1, len(again)):
            period = again[k] - i
            if period > LONGEST or i + period * LEAST > total:
                break
            if signs[i : i + period] != signs[i + period : i + 2 * period]:
                continue
            end = i + period
            while end < total and signs[end] == signs[end - period]:
                end += 1
            count = (end - i) // period
            least = LEAST_NODES if period == 1 and part.children[i].kind == "node" else LEAST
            if count >= least:
                best = max(best, (count * period, -period, count))
        if best[0]:
            found.append((i, -best[1], best[2]))
            i += best[0]
        else:
            i += 1
    return found
