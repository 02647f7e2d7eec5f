"""Which boxes are open at first."""

from __future__ import annotations

from ..model import Graph, Tree

LEVELS = ("module", "function", "region", "repeat", "lines")  # the folds that depth= counts
NEXT_TO_A_MARK = 60  # percent of the budget that is used where a marked place shall catch the eye
SPARSE = 30  # percent of the budget: with fewer boxes in sight folds of equal things are opened, too
NAMED = ("chain", "parameters")  # folds whose label names what is in them
SEVERITY = {"error": 0, "warning": 1, "info": 2}


def open_levels(tree: Tree, depth: int) -> None:
    """Open exactly ``depth`` levels of modules, functions, rounds of a loop and folds of equal things; 0 leaves the top-level boxes."""
    level = [0] * len(tree.boxes)
    for number, box in enumerate(tree.boxes):
        if box.parent >= 0:
            above = tree.boxes[box.parent]
            level[number] = level[box.parent] + (above.kind in LEVELS)
        box.open = bool(box.children) and (number == 0 or level[number] < depth and box.kind not in NAMED)


def open_by_need(graph: Graph, tree: Tree, budget: int) -> list[list[int]]:
    """Open the way to the first mark, then, while at most ``budget`` boxes are visible, what else helps, the most useful first.

    That is: the ways to other marks, what lies between starved parameters and the loss, then small boxes. Gives what was opened by
    choice, in this order, so that the last ones can be closed again; boxes of one list belong together.
    """
    boxes = tree.boxes
    boxes[0].open = True
    marks = [m for m in boxes[0].marks if graph.nodes[m].mark is not None]
    marks.sort(key=lambda m: (not graph.nodes[m].mark.root, SEVERITY.get(graph.nodes[m].mark.severity, 3), graph.nodes[m].mark.finding, m))  # type: ignore[union-attr]
    for b in above(tree, tree.of_node[marks[0]]) if marks else ():
        boxes[b].open = True
    shown = len(visible(tree))
    chosen: list[list[int]] = []
    room = budget * NEXT_TO_A_MARK // 100 if marks else budget
    for mark in marks[1:]:
        way = [b for b in above(tree, tree.of_node[mark]) if not boxes[b].open]
        extra = sum(len(boxes[b].children) for b in way)
        again = not graph.nodes[mark].mark.root  # type: ignore[union-attr]
        if not way or again and any(boxes[b].kind == "repeat" for b in way) or shown + extra > (room if again else 3 * budget):
            continue  # the box says that there is a mark inside
        chosen.append(way)
        shown = _opened(tree, way, shown)
    for states in (("starved", "lost", "unused", "zero", "nan", "inf"), ("flows",), ("frozen", "data")):
        shown = _open_while_room(tree, max(room, shown), shown, states, chosen)
    if not marks and shown <= budget * SPARSE // 100:
        _open_equal(tree, budget, shown, chosen)
    return chosen


def open_to_marks(graph: Graph, tree: Tree) -> None:
    """In the boxes that are open open the ways to the roots of findings; a closed neighbour stays closed."""
    for mark in tree.boxes[0].marks:
        node = graph.nodes[mark]
        way = above(tree, tree.of_node[mark])[1:]  # without the whole
        if way and node.mark is not None and node.mark.root and tree.boxes[way[0]].open:
            _opened(tree, way, 0)


def _opened(tree: Tree, found: list[int], shown: int) -> int:
    for b in found:
        tree.boxes[b].open = True
    return shown + sum(len(tree.boxes[b].children) for b in found)


def above(tree: Tree, number: int) -> list[int]:
    found = []
    number = tree.boxes[number].parent
    while number >= 0:
        found.append(number)
        number = tree.boxes[number].parent
    return found[::-1]


def _open_while_room(tree: Tree, budget: int, shown: int, states: tuple[str, ...], chosen: list[list[int]]) -> int:
    """Open closed boxes of these states that are visible, level by level, the small ones of a level first, all of one class or none."""
    boxes = tree.boxes
    level = [b for b in range(1, len(boxes)) if not boxes[b].open and boxes[boxes[b].parent].open]
    while level:
        alike: dict[object, list[int]] = {}
        for b in level:
            if not _stays_closed(tree, b) and boxes[b].state in states:
                name = boxes[b].detail.partition(" · ")[0] if boxes[b].kind == "module" else b
                alike.setdefault((boxes[b].parent, name), []).append(b)
        below: list[int] = []
        for group in sorted(alike.values(), key=lambda group: (sum(len(boxes[b].children) for b in group), group)):
            if shown + sum(len(boxes[b].children) for b in group) <= budget:
                shown = _opened(tree, group, shown)
                chosen.append(group)
                below += [child for b in group for child in boxes[b].children]
        level = below
    return shown


def _open_equal(tree: Tree, budget: int, shown: int, chosen: list[list[int]]) -> None:
    """In a picture of a few boxes: of equal things one after the other all where there is room, of the rounds of a loop the first."""
    boxes = tree.boxes
    shut = [b for b in visible(tree) if not boxes[b].open and boxes[b].operations]
    first_round = next((b for b in shut if boxes[b].kind == "lines"), -1)
    for b in shut:
        if (boxes[b].kind == "repeat" or b == first_round) and shown + len(boxes[b].children) <= budget // 2:
            shown = _opened(tree, [b], shown)
            chosen.append([b])


def _stays_closed(tree: Tree, number: int) -> bool:
    """Layers, chains and folds of equal things say all on their label, and so does code without gradients."""
    box = tree.boxes[number]
    if box.kind == "lines" and sum(tree.boxes[child].kind == "lines" for child in tree.boxes[box.parent].children) > 1:
        return True  # one chunk among many is no better than the next
    if not box.operations and tree.boxes[0].operations:  # parameters, inputs; of a model that never ran there is nothing else
        return True
    if box.kind in ("node", "chain", "repeat", "parameters", "region") or not box.children:
        return True
    return box.kind == "module" and all(tree.boxes[child].node >= 0 for child in box.children) and box.operations <= 3


def visible(tree: Tree) -> list[int]:
    """The boxes that are drawn, without the whole, containers before what is in them."""
    found, todo = [], list(reversed(tree.boxes[0].children)) if tree.boxes else []
    while todo:
        number = todo.pop()
        found.append(number)
        if tree.boxes[number].open:
            todo.extend(reversed(tree.boxes[number].children))
    return found
