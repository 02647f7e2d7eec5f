"""Smaller folds inside one container: no_grad regions, chains of element-wise operations, chunks of what is still too long."""

from __future__ import annotations

import math

from .parts import MOST, Part, Work, sum_up

LOSSES = 3  # so many stay beside the chunks of a long container
# One number in, one number out, or only the shape changes: what stands between the operations that a reader looks for.
ELEMENTWISE = frozenset(
    "abs add addcdiv addcmul ceil celu clamp clamp_max clamp_min clip clone contiguous cos cosh div dropout elu erf exp expand expand_as "
    "expm1 flatten float floor gelu half hardsigmoid hardswish hardtanh leaky_relu log log1p logit logsigmoid masked_fill maximum minimum "
    "mish movedim mul neg permute pow prelu reciprocal relu relu6 reshape rsqrt rsub rdiv selu sigmoid sign silu sin softplus sqrt square "
    "squeeze sub swapaxes t T tan tanh threshold to transpose type type_as unflatten unsqueeze view view_as where bfloat16 double mT "
    "dropout2d feature_dropout alpha_dropout round trunc identity".split()
)
# What sums up many numbers, or puts them in order, as a loss does; where the user gives the result a name, it ends the chain.
REDUCING = frozenset("amax amin cumprod cumsum diff flip logsumexp max mean min norm prod std sum var".split())


def fold_regions(work: Work, part: Part) -> list[Part]:
    """Neighbours that ran while gradients were switched off become one part: "no_grad, line 12"."""
    if part.region:  # all of it: then the container around it says so
        return []
    children: list[Part] = []
    new: list[Part] = []
    run: list[Part] = []
    for child in [*part.children, Part("node", region="")]:
        if run and child.region != run[0].region:
            children += _region(work, run, new)
            run = []
        if child.region:
            run.append(child)
        elif child.node >= 0 or child.kind != "node":
            children.append(child)
    part.adopt(children)
    return new


def _region(work: Work, run: list[Part], new: list[Part]) -> list[Part]:
    region = run[0].region or ""
    if len(run) == 1:
        if run[0].kind != "node":
            run[0].detail = region
        return run
    one = Part("region", region, where=run[0].where)
    one.adopt(run)
    sum_up(work, one)
    new.append(one)
    return [one]


def fold_chains(work: Work, part: Part, homes: set[int]) -> list[Part]:
    """Element-wise operations that each feed only the next become one part, which stands where the last of them stands.

    ``homes`` are the containers (by id) that hold parameters: those stay what they are.
    """
    elements = [None if id(child) in homes else _element(work, child) for child in part.children]
    ends = {leaf.node: child for leaf, child in zip(elements, part.children) if leaf is not None}
    after: dict[int, int] = {}  # node -> the node of the next of its chain
    taken: set[int] = set()
    for leaf in reversed(elements):  # the latest of several that feed one takes the place before it
        if leaf is None or len(set(work.uses[leaf.node])) != 1:
            continue
        if work.node(leaf).name and work.node(leaf).label in REDUCING:
            continue
        use = work.uses[leaf.node][0]
        if use in ends and use not in taken and work.graph.nodes[use].state == work.node(leaf).state:
            after[leaf.node] = use
            taken.add(use)
    chained: dict[int, list[Part]] = {}  # last node -> its chain
    gone: set[int] = set()
    for start in after:
        if start in taken:
            continue
        chain = [start]
        while chain[-1] in after:
            chain.append(after[chain[-1]])
        chained[chain[-1]] = [ends[n] for n in chain]
        gone.update(chain[:-1])
    if not chained or part.unit == "round" and len(gone) == len(part.children) - 1:  # all of it: the round itself says so
        return []
    children: list[Part] = []
    new: list[Part] = []
    for leaf, child in zip(elements, part.children):
        if leaf is not None and leaf.node in gone:
            continue
        if leaf is not None and leaf.node in chained:
            one = Part("chain", where=chained[leaf.node][0].where)
            one.adopt(chained[leaf.node])
            sum_up(work, one)
            new.append(one)
            child = one
        children.append(child)
    part.adopt(children)
    return new


def _element(work: Work, child: Part) -> Part | None:
    """The small operation that a child is (or, a ReLU module, that it only holds), where nothing marks it."""
    leaf = child
    if leaf.kind == "module" and len(leaf.children) == 1:
        leaf = leaf.children[0]
    if leaf.kind != "node" or leaf.marked:
        return None
    node = work.node(leaf)
    return leaf if node.kind == "operation" and node.label.rstrip("_") in ELEMENTWISE | REDUCING else None


def fold_long(work: Work, part: Part) -> list[Part]:
    """Cut a container of too many children into chunks: by line where that helps, else by number, on as many levels as it takes."""
    new: list[Part] = []
    if len(part.children) <= MOST:
        return new
    end = len(part.children)  # the losses at the end stay in sight
    while end and part.children[end - 1].kind == "node" and work.node(part.children[end - 1]).kind == "loss":
        end -= 1
    losses = part.children[max(end, len(part.children) - LOSSES) :]
    lines = _by_line(work, part.children[: len(part.children) - len(losses)], new)
    levels = math.ceil(math.log(len(lines), MOST)) if len(lines) > MOST else 0
    if levels:
        width = math.ceil(len(lines) ** (1 / levels))
        for _ in range(levels - 1):
            lines = [_chunk(work, lines[i : i + width], new) for i in range(0, len(lines), width)]
    part.adopt(lines + losses)
    return new


def _by_line(work: Work, children: list[Part], new: list[Part]) -> list[Part]:
    """Neighbours of one line together, where there are several lines and a line has several."""
    runs: list[list[Part]] = []
    for child in children:
        if runs and child.where == runs[-1][0].where and child.where[1]:
            runs[-1].append(child)
        else:
            runs.append([child])
    if len(runs) == 1 or len(runs) > 0.7 * len(children):
        return children
    return [run[0] if len(run) == 1 else _chunk(work, run, new) for run in runs]


def _chunk(work: Work, parts: list[Part], new: list[Part]) -> Part:
    if len(parts) == 1:
        return parts[0]
    one = Part("lines", where=parts[0].where)
    one.adopt(parts)
    sum_up(work, one)
    new.append(one)
    return one
