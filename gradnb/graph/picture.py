"""The Picture: the graphs of a run's training steps with a choice of what to show, and every form they can take."""

from __future__ import annotations

import weakref
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ..errors import UsageError
from ..report.files import write
from .model import Graph, Tree

if TYPE_CHECKING:
    import graphviz
    import networkx

    from ..recorder.recording import Recording
    from .explore.widget import Explorer

BUDGET = 40  # boxes that are visible at first


def telling(graphs: list[Graph]) -> int:
    """The first step (from 1) in which the worst finding has a place, step 1 where none has."""
    for severity in ("error", "warning"):
        for step, graph in enumerate(graphs, 1):
            if any(n.mark is not None and n.mark.root and n.mark.severity == severity for n in graph.nodes):
                return step
    return 1


@dataclass(frozen=True, eq=False)
class Picture:
    """The autograd graph of one or several training steps, to look at, explore and export.

    ``graphs`` are the recorded steps, ``step`` (counted from 1) is the one that is drawn. ``depth``, ``focus`` and ``only`` choose
    what is shown, see ``fold``. In a notebook it shows itself as SVG, elsewhere as text.
    """

    graphs: list[Graph]
    step: int = 1
    depth: int | None = None
    focus: str | None = None
    only: str | None = None
    budget: int = BUDGET  #: boxes that are visible at first, where nothing else asks for more
    verdict: str = ""  #: one sentence of the report's, "" without a report
    alive: list["weakref.ref[Any]"] = field(default_factory=list, repr=False)  #: the losses of the run, newest last
    recording: "Recording | None" = field(default=None, repr=False)  #: what it was built from, where it was recorded

    def __post_init__(self) -> None:
        if not self.graphs:
            raise UsageError("there is no graph to draw: no operation was recorded; put %%gradcheck on the cell that trains")
        if isinstance(self.step, bool) or not isinstance(self.step, int) or not 1 <= self.step <= len(self.graphs):
            have = "only step 1" if len(self.graphs) == 1 else f"steps 1 to {len(self.graphs)}"
            raise UsageError(f"step={self.step!r} given; {have} of this run {'was' if len(self.graphs) == 1 else 'were'} recorded")
        if self.depth is not None and (isinstance(self.depth, bool) or not isinstance(self.depth, int) or self.depth < 0):
            raise UsageError(f"depth={self.depth!r} given; a whole number of levels to open is expected, 0 or more")
        if self.focus is not None or self.only is not None:
            self.tree  # noqa: B018  an unknown name shall raise here, not in the display

    def __getstate__(self) -> dict[str, Any]:
        """What is copied or pickled: not the weak references, nor what can be worked out again."""
        recording = replace(self.recording, memo={}) if self.recording is not None else None
        return {k: v for k, v in self.__dict__.items() if k != "tree"} | {"alive": [], "recording": recording}

    @property
    def graph(self) -> Graph:
        """The graph of the chosen step, complete: nothing is folded in it."""
        return self.graphs[self.step - 1]

    @cached_property
    def tree(self) -> Tree:
        """How the graph of the chosen step is folded into boxes. Raises UsageError for a name that is not there."""
        return self.fold_of(self.graph, seen=True)

    def fold_of(self, graph: Graph, *, seen: bool = False) -> Tree:
        """The boxes of ``graph``, a step, by the same choice; with ``seen`` only those that are open at first know what stands in them.

        Raises UsageError for a name that is not there.
        """
        from .fold.tree import fold

        return fold(graph, depth=self.depth, focus=self.focus, only=self.only, budget=self.budget, seen=seen)

    def fold(self, *, depth: int | None = None, focus: str | None = None, only: str | None = None, step: int | None = None) -> "Picture":
        """The same graph shown otherwise.

        ``depth`` opens that many levels of modules, functions and other folds; ``focus`` shows one module (``"encoder.3"``) or variable
        from near; ``only="lost"`` leaves only the ways on which a gradient is lost; ``step`` (from 1) takes another recorded step.
        Raises UsageError for a name that is not there.
        """
        return replace(self, depth=depth, focus=focus, only=only, step=self.step if step is None else step)

    def losses(self) -> list[Any]:
        """The losses of the run that still live, as tensors, the newest last."""
        return [tensor for reference in self.alive if (tensor := reference()) is not None]

    # -- what a person sees --------------------------------------------------------------------------------------------

    def svg(self) -> str:
        """The static picture as an SVG string, at most 760 px wide."""
        from .draw.svg import draw

        return draw(self.graph, self.tree)

    def to_svg(self, file: str) -> str:
        """Write the picture to ``file``, which stands alone, with its own colours; gives the SVG text back.

        Raises UsageError where the file cannot be written.
        """
        from .draw.svg import standing_alone

        text = standing_alone(self.svg())
        write(text, file)
        return text

    def __repr__(self) -> str:
        from .describe import text

        return text(self.graph, self.tree)

    def _repr_html_(self) -> str:
        from .draw.svg import figure

        return figure(self.svg(), repr(self))

    def explore(self) -> "Explorer":
        """The interactive view: pan, zoom, open boxes, search, see the line behind each node."""
        from .explore.widget import explorer

        return explorer(self)

    def to_html(self, file: str | None = None) -> str:
        """One self-contained page with the interactive view; written to ``file`` where one is given.

        Raises UsageError where the file cannot be written.
        """
        from .explore.page import page

        text = page(self)
        if file is not None:
            write(text, file)
        return text

    # -- what other programs read --------------------------------------------------------------------------------------

    def to_dot(self) -> "graphviz.Digraph":
        """The picture for Graphviz, folded as it is shown.

        Raises UsageError for a name that is not there; so does its ``render`` without the ``dot`` program, and names what to install.
        """
        from .export.dot import to_dot

        return to_dot(self.graph, self.tree)

    def to_torchviz(self, loss: Any = None, model: Any = None) -> "graphviz.Digraph":
        """torchviz's own picture of the loss, with the lost nodes added and marked.

        The loss has to be alive still, or is given as ``loss``, a tensor of any shape; ``model`` names its parameters. Gives a
        ``graphviz.Digraph``. Raises UsageError where the loss is gone or another one, and where torchviz does not work.
        """
        from .export.torchviz import to_torchviz

        return to_torchviz(self, loss, model)

    def to_json(self, file: str | None = None) -> dict[str, Any]:
        """All steps as JSON-ready data, schema 1; written to ``file`` where one is given.

        Raises UsageError where the file cannot be written.
        """
        from .export.json import to_json

        return to_json(self, file)

    def to_networkx(self) -> "networkx.MultiDiGraph":
        """The chosen step, unfolded, as a ``networkx.MultiDiGraph``. Raises UsageError where networkx does not work."""
        from .export.networkx import to_networkx

        return to_networkx(self.graph)
