"""Which boxes are open at first."""

from __future__ import annotations

from ..model import Graph, Tree

LEVELS = ("module", "function", "region")  # the folds that depth= counts
NEXT_TO_A_MARK = 60  # percent of the budget that is used where a marked place shall catch the eye
NAMED = ("chain", "parameters")  # folds whose label names what is in them
SEVERITY = {"error": 0, "warning": 1, "info": 2}


def open_levels(tree: Tree, depth: int) -> None:
    """Open exactly ``depth`` levels of modules (and of what folds code outside modules); 0 leaves only the top-level boxes."""
    level = [0] * len(tree.boxes)
    for number, box in enumerate(tree.boxes):
        if box.parent >= 0:
            above = tree.boxes[box.parent]
            level[number] = level[box.parent] + (above.kind in LEVELS)
        box.open = bool(box.children) and (number == 0 or level[number] < depth and box.kind not in NAMED)


def open_by_need(graph: Graph, tree: Tree, budget: int) -> None:
    """Open the way to each mark; then what lies between starved parameters and the loss, then small boxes, within ``budget``."""
    boxes = tree.boxes
    boxes[0].open = True
    shown = len(boxes[0].children)
    marks = [m for m in boxes[0].marks if graph.nodes[m].mark is not None]
    marks.sort(key=lambda m: (not graph.nodes[m].mark.root, SEVERITY.get(graph.nodes[m].mark.severity, 3), graph.nodes[m].mark.finding, m))  # type: ignore[union-attr]
    for position, mark in enumerate(marks):
        way = above(tree, tree.of_node[mark])
        extra = sum(len(boxes[b].children) for b in way if not boxes[b].open)
        again = not graph.nodes[mark].mark.root  # type: ignore[union-attr]
        if position and again and (shown + extra > budget or any(boxes[b].kind == "repeat" for b in way)):
            continue
        if position and shown + extra > 3 * budget:  # many places of many findings: each box says that there are marks inside
            continue
        for b in way:
            boxes[b].open = True
        shown += extra
    room = max(shown, budget * NEXT_TO_A_MARK // 100) if marks else budget
    for states in (("starved", "lost", "unused", "zero", "nan", "inf"), ("flows",), ("frozen", "data")):
        shown = _open_while_room(tree, room, shown, states)


def above(tree: Tree, number: int) -> list[int]:
    found = []
    number = tree.boxes[number].parent
    while number >= 0:
        found.append(number)
        number = tree.boxes[number].parent
    return found[::-1]


def _open_while_room(tree: Tree, budget: int, shown: int, states: tuple[str, ...]) -> int:
    """Open closed boxes of these states that are visible, level by level, the small ones of a level first."""
    boxes = tree.boxes
    level = [b for b in range(1, len(boxes)) if not boxes[b].open and boxes[boxes[b].parent].open]
    while level:
        below: list[int] = []
        for b in sorted(level, key=lambda b: (len(boxes[b].children), b)):
            size = len(boxes[b].children)
            if _stays_closed(tree, b) or boxes[b].state not in states or shown + size > budget:
                continue
            boxes[b].open = True
            shown += size
            below.extend(boxes[b].children)
        level = below
    return shown


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
