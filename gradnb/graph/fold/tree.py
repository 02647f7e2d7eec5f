"""Folds a Graph into a Tree of boxes that a person can read: by function and module, equal things once, small things together."""

from __future__ import annotations

from ..draw.order import order
from ..draw.place import place
from ..model import Graph, Tree
from .boxes import boxes
from .choose import check_only, focus_on, only_lost
from .groups import fold_chains, fold_long, fold_regions
from .opening import open_by_need, open_levels, open_to_marks
from .parts import Part, Work, containers, work
from .places import find_lines, homes, place_sources
from .repeats import fold_repeats, sign, split_rounds
from .runs import grow

BUDGET = 40  # boxes that are visible at first
TALL, EACH = 600.0, 30.0  # px: the picture is no taller than TALL and EACH for each box of the budget, if closing boxes helps
CLOSE = 0.8  # of that, where a marked place shall catch the eye


def fold(
    graph: Graph,
    *,
    depth: int | None = None,
    focus: str | None = None,
    only: str | None = None,
    budget: int = BUDGET,
    seen: bool = False,
) -> Tree:
    """The boxes of ``graph``.

    ``depth`` opens exactly so many levels of modules, functions and other folds, 0 none; without it the ways to marked places are open,
    and small boxes while at most ``budget`` boxes are visible. ``focus`` (a module path such as "encoder.3", or the name of an operation,
    a variable or a parameter) shows that box open among its folded neighbours. ``only="lost"`` shows only the ways of parameters without
    a gradient to the loss. What both leave out stands in ``Tree.left_out``, with numbers. ``seen`` orders only the boxes that are open at
    first: enough for a still picture, and several times faster on thousands of nodes. Errors: UsageError for a name that is not in the
    graph, and for any other ``only``.
    """
    check_only(only)
    shown, left_out = only_lost(graph) if only else (list(range(len(graph.nodes))), [])
    tree, parts = _fold(graph, shown, budget)
    if focus is not None:
        tree = focus_on(graph, tree, parts, focus)
        open_to_marks(graph, tree)
        _close_out_of_sight(graph, tree, budget)
    tree.left_out[:0] = left_out
    if depth is None and focus is None:
        _open_in_sight(graph, tree, budget)
    if depth is not None:
        open_levels(tree, depth)
    order(graph, tree, seen=seen)
    return tree


def _open_in_sight(graph: Graph, tree: Tree, budget: int) -> None:
    """Open what the budget allows; less of it where the picture would be too tall to be taken in."""
    if not tree.boxes:
        return
    chosen = open_by_need(graph, tree, budget)
    _open_while_it_fits(graph, tree, chosen, (TALL + EACH * budget) * (CLOSE if tree.boxes[0].marks else 1.0))


def _close_out_of_sight(graph: Graph, tree: Tree, budget: int) -> None:
    """Of many places that one name means, only so many stay open as can be taken in: those with a mark first, and always one."""
    opened = [b for b in tree.boxes[0].children if tree.boxes[b].open]
    opened.sort(key=lambda b: not tree.boxes[b].marks)
    if len(opened) > 1:
        _open_while_it_fits(graph, tree, [[b] for b in opened], TALL + EACH * budget, least=1)


def _open_while_it_fits(graph: Graph, tree: Tree, chosen: list[list[int]], tall: float, least: int = 0) -> None:
    """Of these groups of boxes open the first ones, as many as the height allows and at least so many; close the others."""

    def fits(many: int) -> bool:
        for position, group in enumerate(chosen):
            for box in group:
                tree.boxes[box].open = position < many
        order(graph, tree, seen=True)
        return place(graph, tree).h <= tall

    low, high = least, len(chosen) + 1  # so many groups fit, or there is no choice; so many do not
    middle = len(chosen)
    while high - low > 1:
        if fits(middle):
            low = middle
        else:
            high = middle
        middle = (low + high) // 2
    fits(low)


def _fold(graph: Graph, shown: list[int], budget: int) -> tuple[Tree, list[Part]]:
    todo = work(graph, shown, budget)
    grow(todo)
    find_lines(todo)
    for part in containers(todo.root):
        fold_regions(todo, part)
    if todo.large:
        _fold_large(todo)
    place_sources(todo)
    return boxes(todo)


def _fold_large(todo: Work) -> None:
    split_rounds(todo)
    of_parameter = homes(todo)
    sign(todo, of_parameter)
    holding = {id(part) for part in of_parameter.values()}
    waiting = containers(todo.root)
    for part in waiting:  # grows while it is walked
        made: list[Part] = []
        if part.kind not in ("repeat", "chain") and (part.kind != "lines" or part.unit == "round"):
            made += fold_repeats(todo, part)
            made += fold_chains(todo, part, holding)
        made += fold_long(todo, part)
        waiting += made
