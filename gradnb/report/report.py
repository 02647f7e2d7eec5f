"""The Report: what was found, in one object that shows itself in a terminal and in a notebook."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ..errors import UsageError
from ..recorder.recording import Location, Recording
from .files import write
from .finding import Finding
from .parts import TRAINED

if TYPE_CHECKING:
    import weakref

    from ..graph.explore.widget import Explorer
    from ..graph.picture import Picture


def _finite(number: float | None) -> float | None:
    """JSON knows no NaN and no infinity."""
    return number if number is not None and math.isfinite(number) else None


@dataclass(slots=True)
class ParameterRow:
    """One line of the parameter table. ``grad_norm`` is the L2 norm of the last gradient seen."""

    name: str  #: the path in its module
    shape: tuple[int, ...]  #: its shape
    dtype: str  #: such as "float32"
    device: str  #: such as "cuda:0"
    trainable: bool  #: requires_grad
    reached: bool  #: does a loss depend on it, through data; its gradient may be lost on the way all the same
    gradient: str  #: "ok" | "none" | "zero" | "nan" | "inf"
    grad_norm: float | None
    optimizer: int | None  #: the index in ``Report.optimizers``; None where no optimizer holds it
    moved: bool | None  #: is it another one at the end than at the beginning; None where it was not there at both
    part: str = TRAINED  #: in what this cell trains; one of parts.py

    def to_dict(self) -> dict:
        """JSON-ready."""
        return {
            "name": self.name,
            "shape": list(self.shape),
            "dtype": self.dtype,
            "device": self.device,
            "trainable": self.trainable,
            "reached": self.reached,
            "gradient": self.gradient,
            "grad_norm": _finite(self.grad_norm),
            "optimizer": self.optimizer,
            "moved": self.moved,
        }


@dataclass(slots=True)
class LossRow:
    """A loss as it was when backward was called on it."""

    name: str  #: its source text
    value: float | None  #: of the loss, in its own unit
    location: Location | None  #: the line that called backward
    has_grad_fn: bool  #: False: it has no history at all

    def to_dict(self) -> dict:
        """JSON-ready."""
        return {
            "name": self.name,
            "value": _finite(self.value),
            "location": self.location.to_dict() if self.location else None,
            "has_grad_fn": self.has_grad_fn,
        }


@dataclass(slots=True)
class StepRow:
    """One call of the training loop's."""

    kind: str  #: "backward" | "step" | "zero_grad" | "scale" | "unscale" | "update" | "clip"
    location: Location | None  #: the line of the call
    ok: bool  #: False where it raised

    def to_dict(self) -> dict:
        """JSON-ready."""
        return {"kind": self.kind, "location": self.location.to_dict() if self.location else None, "ok": self.ok}


@dataclass(slots=True)
class RaisedRow:
    """The error that ended the block."""

    type: str  #: the name of its class
    message: str  #: what it says
    location: Location | None  #: the user's line that raised it

    def to_dict(self) -> dict:
        """JSON-ready."""
        return {
            "type": self.type,
            "message": self.message,
            "location": self.location.to_dict() if self.location else None,
        }


@dataclass
class Report:
    """The result of one check.

    ``repr(report)`` is the text form, a notebook shows the html form, ``to_dict()`` is stable and JSON-ready.
    ``optimizers`` are labels such as ``"opt (Adam)"``; a parameter row names one by its index.
    """

    findings: list[Finding] = field(default_factory=list)  #: the causes, the worst first, the root before its echo
    parameters: list[ParameterRow] = field(default_factory=list)  #: one for each parameter of the modules that took part
    losses: list[LossRow] = field(default_factory=list)  #: one for each call of backward
    steps: list[StepRow] = field(default_factory=list)  #: the calls of the training loop, in their order
    raised: RaisedRow | None = None  #: the error that ended the block
    environment: dict[str, Any] = field(default_factory=dict)  #: versions of Python, torch, IPython and gradnb, and the device
    optimizers: list[str] = field(default_factory=list)
    sources: dict[str, str] = field(default_factory=dict)  #: source text by ``Location.filename``, for context lines
    notes: list[str] = field(default_factory=list)  #: what else the reader should know
    show_graph: bool = True  #: does the html form draw the graph
    recording: Recording | None = field(default=None, repr=False, compare=False)  #: what the graph is built from
    alive: "list[weakref.ref[Any]]" = field(default_factory=list, repr=False, compare=False)  #: the losses, while the user keeps them

    drawings: dict[int, str] = field(default_factory=dict, repr=False, compare=False)  #: SVG of the graph by its number of boxes

    def __getstate__(self) -> dict[str, Any]:
        """What is copied or pickled: not the weak references, nor what can be worked out again."""
        recording = replace(self.recording, memo={}) if self.recording is not None else None
        return {k: v for k, v in self.__dict__.items() if k != "graph"} | {"alive": [], "recording": recording, "drawings": {}}

    @property
    def verdict(self) -> str:
        """``"error"``, ``"warning"`` or ``"ok"``: the worst severity found (``info`` counts as ok)."""
        found = {f.severity for f in self.findings}
        return "error" if "error" in found else "warning" if "warning" in found else "ok"

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON-ready data, schema 1."""
        return {
            "schema": 1,
            "verdict": self.verdict,
            "raised": self.raised.to_dict() if self.raised else None,
            "findings": [f.to_dict() for f in self.findings],
            "parameters": [p.to_dict() for p in self.parameters],
            "losses": [loss.to_dict() for loss in self.losses],
            "steps": [s.to_dict() for s in self.steps],
            "environment": dict(self.environment),
        }

    def __repr__(self) -> str:
        from .text import render

        return render(self)

    def _repr_html_(self) -> str:
        from .html import render

        return render(self)

    @cached_property
    def graph(self) -> "Picture":
        """The autograd graph of the recorded training steps, with the places that the findings name: look at it, fold it, export it.

        Raises UsageError where nothing was recorded.
        """
        if self.recording is None:
            raise UsageError("this report holds no recording to draw a graph from; run the training under %%gradcheck or gradnb.check()")
        from ..graph.build.steps import build
        from ..graph.picture import Picture, telling
        from .words import verdict

        graphs = build(self.recording, self.findings)
        return Picture(graphs, step=telling(graphs), verdict=verdict(self), alive=self.alive, recording=self.recording)

    def explore(self) -> "Explorer":
        """The interactive view of the graph: pan, zoom, open boxes, search, see the line behind each node."""
        return self.graph.explore()

    def to_html(self, file: str | None = None) -> str:
        """One self-contained page with the report and the interactive graph; written to ``file`` where one is given.

        Raises UsageError where the file cannot be written.
        """
        from ..graph.explore.page import of_report

        text = of_report(self)
        if file is not None:
            write(text, file)
        return text

    def plot(self) -> Any:
        """Gradient norm per parameter as a ``matplotlib.figure.Figure``, to style and save."""
        from .plot import figure

        return figure(self)
