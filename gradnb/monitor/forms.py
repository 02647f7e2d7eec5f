"""The forms in which a Monitor can be had: words, html, plots, tables, and what boards take."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import boards, summary, table
from .flags import Flag
from .history import History

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Forms:
    """What a Monitor is, without what it does. Each form is asked for after everything on its way was taken in."""

    history: History
    problem: str | None
    stopped: bool
    _sinks: list[Callable[[History, int], None]]

    @property
    def flags(self) -> list[Flag]:
        """As in Monitor."""
        raise NotImplementedError

    def flush(self) -> None:
        """As in Monitor."""
        raise NotImplementedError

    def summary(self) -> str:
        """What was seen, in words: each sub-model's and layer's gradient, and the flags with reason and advice."""
        self.flush()
        return summary.whole(self.history, self.flags, self.problem)

    def __repr__(self) -> str:
        return self.summary()

    def _repr_html_(self) -> str:
        from .frame import bundle

        self.flush()
        return bundle(self.history, self.flags, "stopped" if self.stopped else "")["text/html"]

    def plot(self, kind: str = "all") -> "Figure":
        """A matplotlib Figure: "norms" (a line a layer), "heat", "updates" (``|dW| / |W|``), "flow" (the gradient-flow bars), or "all".

        Raises UsageError for another ``kind``.
        """
        from .plot import figure

        self.flush()
        return figure(self.history, self.flags, kind)

    def to_dataframe(self, what: str = "layers") -> Any:
        """A pandas DataFrame. ``what`` is "layers" (one row a step and layer), "series" (step, name, value) or "flags".

        The columns of "layers" are those of ``gradnb.monitor.history.COLUMNS``, with their units. Raises UsageError for another table, and
        where pandas is not installed.
        """
        self.flush()
        return table.dataframe(self.history, self.flags, what)

    def to_csv(self, path: str | Path, what: str = "layers") -> None:
        """Write ``what``, one of the tables of ``to_dataframe``, to ``path`` as CSV; it needs no pandas.

        Raises UsageError for another table, and where the file cannot be written.
        """
        self.flush()
        table.csv_file(self.history, self.flags, what, path)

    def to_json(self, path: str | Path | None = None) -> str:
        """All of it as JSON; NaN and infinities are the strings "nan", "inf" and "-inf". Written to ``path`` where one is given.

        Raises UsageError where the file cannot be written.
        """
        self.flush()
        return table.json_text(self.history, self.flags, path)

    def to_tensorboard(self, writer: Any = None) -> Any:
        """Pass on what is kept so far and all that follows to ``writer``, a SummaryWriter (a new one without); gives the writer back.

        Raises UsageError where tensorboard is not installed, or the writer is none.
        """
        writer, sink = boards.tensorboard(writer)
        return self._pass_on(writer, sink)

    def to_wandb(self, run: Any = None) -> Any:
        """Pass on what is kept so far and all that follows to ``run``, a wandb run (the current one without); gives the run back.

        Raises UsageError where wandb is not installed, or there is no run.
        """
        run, sink = boards.wandb(run)
        return self._pass_on(run, sink)

    def _pass_on(self, target: Any, sink: Callable[[History, int], None]) -> Any:
        self.flush()
        boards.so_far(self.history, sink)
        self._sinks.append(sink)
        return target
