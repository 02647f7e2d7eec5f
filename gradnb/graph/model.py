"""The data model of the picture: nodes and edges of one training step, and the boxes that they are folded into.

Plain data, as a Recording is. A ``Graph`` is what happened; a ``Tree`` says how it is folded; a position is nobody's business
here. Edges go the way of the data, from parameters and inputs to the loss; the gradient comes back along some of them.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ..recorder.recording import Location


@dataclass(slots=True)
class Mark:
    """Why a node is marked: a finding says that the gradient is lost, dead or broken here."""

    cause: str  # the finding's slug
    word: str  # what stands on the node: "lost", "zero", "NaN", "frozen", "error", …
    text: str  # "line 12: .detach()"
    severity: str  # "error" | "warning" | "info"
    finding: int  # position in Graph.findings, -1 where none is told
    root: bool = True  # False for a second place that the same finding names


@dataclass(slots=True)
class Node:
    """A parameter, an input, an operation or a loss. ``shape`` and ``dtype`` are those of the tensor it gives."""

    kind: str  # "parameter" | "input" | "operation" | "loss"
    label: str  # what is written on it: "weight", "linear", "loss"
    name: str = ""  # parameter: its full name "encoder.0.weight"; operation: the variable that the user's line gives its result to
    module: str = ""  # path of the module it belongs to, "" outside any
    shape: tuple[int, ...] | None = None
    dtype: str = ""
    requires_grad: bool = False
    trainable: bool | None = None  # parameter: does an update reach it (False: frozen); None for everything else
    grad_fn: str = ""  # name of the autograd node, "MulBackward0"; "" where there is none or it is not known
    state: str = "data"  # see STATES
    norm: float | None = None  # L2 norm of the gradient that arrived; None where it is not known
    value: float | None = None  # loss: its value
    location: Location | None = None  # the user's line
    frames: tuple[Location, ...] = ()  # … and the lines that led there, innermost first
    region: str = ""  # "no_grad", "inference_mode", … where gradients were switched off, else ""
    function: str = ""  # class of a custom autograd Function
    mark: Mark | None = None
    op: int = -1  # index in Recording.ops, -1 where none
    order: float = 0.0  # when it ran; a parameter or an input: just before its first use


STATES = (
    "flows",  # a gradient arrives
    "zero",  # a gradient arrives that is exactly zero
    "nan",  # … that holds NaN
    "inf",  # … that holds an infinity
    "starved",  # requires grad, and no gradient arrives
    "lost",  # data of trainable parameters went in, history is gone (from a marked node down to where it joins others)
    "data",  # no gradient is wanted: inputs, targets, masks, buffers, code under no_grad that no parameter waits for
    "frozen",  # a parameter that does not require grad
    "unused",  # a trainable parameter that no loss depends on
)


@dataclass(slots=True)
class Edge:
    """Data went from one node to another (positions in ``Graph.nodes``)."""

    source: int
    target: int
    # "flows": the gradient comes back along it; "starved": it has history, but no gradient arrives at its target;
    # "lost": the gradient of a waiting parameter is lost on it, or it only passes on what was lost before; "data": none is wanted
    kind: str = "data"
    cut: bool = False  # a "lost" edge on which it happens: its target is the marked node
    norm: float | None = None  # L2 norm of the gradient that came back along it, where it is known


@dataclass(slots=True)
class Told:
    """A finding in short, for the picture's text and the explorer."""

    cause: str
    severity: str
    title: str
    fix: str
    location: Location | None


@dataclass(slots=True)
class Graph:
    """What one training step did. Edges lead from earlier nodes to later ones: there is no cycle."""

    nodes: list[Node] = field(default_factory=list)
    edges: list[Edge] = field(default_factory=list)
    title: str = ""  # "step 1", "loss"
    classes: dict[str, str] = field(default_factory=dict)  # module path -> class name
    findings: list[Told] = field(default_factory=list)
    sources: dict[str, str] = field(default_factory=dict)  # Location.filename -> source text
    notes: list[str] = field(default_factory=list)  # what is left out, with numbers


# What stands in a row of an open box, as one number: 4 * index + one of these.
CHILD, IN, OUT, BEND = range(4)  # a child box (index: its id), an entry, an exit, a bend of a link that passes this row (index: the link)


def code(kind: int, index: int) -> int:
    return 4 * index + kind


@dataclass(slots=True)
class Link:
    """All edges between two things that stand in one open box, drawn as one line."""

    source: int  # code of a CHILD or an IN
    target: int  # code of a CHILD or an OUT
    kind: str = "data"  # as Edge.kind: "lost" where any of them is lost, else "flows", "starved", "data" in this order
    cut: bool = False
    count: int = 1  # edges that it stands for
    norm: float | None = None


@dataclass(slots=True)
class Box:
    """A node, or a fold of boxes. Positions in ``Tree.boxes`` are its name; box 0 is the whole picture.

    ``rows``, ``links``, ``entries`` and ``exits`` say what stands where once the box is open; they do not depend on which other
    boxes are open, so the layout of an open box can be put together from its parts.
    """

    kind: str  # "node" | "module" | "repeat" | "chain" | "region" | "function" | "lines" | "parameters" | "whole"
    label: str
    parent: int = -1
    node: int = -1  # position in Graph.nodes, for kind "node"
    children: list[int] = field(default_factory=list)  # in the order of the data
    detail: str = ""  # second line: class of a module, shape, "+ 132 operations"
    operations: int = 0  # operations inside, at every depth (1 for an operation)
    parameters: int = 0  # parameters inside, at every depth
    frozen: int = 0  # … that are frozen
    state: str = "data"  # the worst that is inside (see worst())
    norm: float | None = None  # L2 norm of the gradients of all parameters inside; of a node: its own
    marks: list[int] = field(default_factory=list)  # marked nodes inside, at every depth
    open: bool = False  # how it is drawn at first
    rows: list[list[int]] = field(default_factory=list)  # from top to bottom, left to right: codes
    links: list[Link] = field(default_factory=list)
    entries: list[int] = field(default_factory=list)  # entry k stands for this code in the parent (a CHILD or an IN there)
    exits: list[str] = field(default_factory=list)  # exit k gathers the links of this kind that leave the box
    learns: str = ""  # the worst state of the parameters inside, "" without any


@dataclass(slots=True)
class Tree:
    boxes: list[Box] = field(default_factory=list)
    of_node: list[int] = field(default_factory=list)  # node -> its box
    left_out: list[str] = field(default_factory=list)  # what focus= and only= took away, with numbers


_WORST = ("lost", "nan", "inf", "zero", "starved", "unused", "flows", "frozen", "data")


def lineage(path: str) -> list[str]:
    """The path of a module and those of the modules around it, the outermost first."""
    parts = path.split(".") if path else []
    return [".".join(parts[: i + 1]) for i in range(len(parts))]


def worst(states: list[str]) -> str:
    """The state that a fold of these states shows."""
    return min(states, key=_WORST.index) if states else "data"
