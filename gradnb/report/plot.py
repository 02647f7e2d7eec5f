"""Gradient norm per parameter as a matplotlib figure, to style and save. Imported only when asked for: matplotlib is slow to load."""

from __future__ import annotations

from base64 import b64encode
from io import BytesIO
from textwrap import wrap

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from . import fold, words
from .report import Report
from .svg import BLUE, GREY, VERMILLION

ROWS = 60  # above it, parameters fold by layer and a bar runs from the smallest to the largest norm


class NotebookFigure(Figure):
    """A Figure that a notebook shows without pyplot, which would keep global state."""

    def _ipython_display_(self) -> None:
        # Once pyplot is loaded, its formatter takes every Figure, and its picture has four times the bytes in the user's notebook.
        from IPython.display import publish_display_data

        publish_display_data({"image/png": b64encode(self._repr_png_()).decode(), "text/plain": repr(self)})

    def _repr_png_(self) -> bytes:
        """With a palette."""
        image, small = BytesIO(), BytesIO()
        self.savefig(image, format="png", dpi=100, bbox_inches="tight")
        Image.open(image).convert("RGB").quantize(128).save(small, format="png", optimize=True)
        return small.getvalue()


def figure(report: Report) -> Figure:
    """Norms on a logarithmic axis; what has none is marked by a sign and its word."""
    groups, left_out = fold.table(report.parameters, words.starved(report), ROWS, single=len(report.parameters) <= ROWS)
    names = [_plain(words.clean(group.brief(), 60)) for group in groups]
    wide = 5.5 + 0.07 * max(map(len, names), default=0)
    made = NotebookFigure(figsize=(wide, 1.6 + 0.24 * max(1, len(groups))), layout="constrained")
    axes = made.add_subplot()
    norms = [value for group in groups for value in fold.finite(group)]
    axes.set_xscale("log")
    axes.set_xlim((min(norms) / 3, max(norms) * 3) if norms else (0.1, 1.0))
    for place, group in enumerate(groups):
        _row(axes, place, group)
    axes.set_yticks(range(len(groups)), names, family="monospace", fontsize=8)
    axes.set_ylim(len(groups) - 0.4, -0.6)
    axes.set_xlabel("L2 norm of the last gradient" + (f" ({words.count(left_out, 'parameter')} not shown)" if left_out else ""))
    made.suptitle("\n".join(wrap(_plain(words.verdict(report)), int(wide * 11))), fontsize=10, x=0.01, ha="left")
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    return made


def _row(axes: Axes, place: int, group: fold.Group) -> None:
    values = fold.finite(group)
    if group.state == "ok" and values:
        floor = axes.get_xlim()[0]
        axes.barh(place, values[-1] - floor, left=floor, height=0.62, color=BLUE)
        if len(values) > 1:
            axes.plot([values[0]], [place], marker="|", color="white", markersize=9)
        return
    marker, colour = ("_", GREY) if group.unwanted else ("x", VERMILLION)
    across = axes.get_yaxis_transform()  # x as a share of the axes: there is no norm to place it by
    axes.plot([0.012], [place], marker=marker, color=colour, markersize=6, markeredgewidth=2, transform=across, clip_on=False)
    axes.text(0.03, place, _plain(group.state), transform=across, va="center", fontsize=8)


def _plain(text: str) -> str:
    return text.replace("$", r"\$")  # a dollar sign would start a formula
