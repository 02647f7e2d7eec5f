"""The matplotlib figure of gradient norms."""

from __future__ import annotations

import subprocess
import sys

import pytest

from gradnb.report.report import Report

from .samples import crowded, healthy, hostile, rich


@pytest.mark.parametrize("make", [rich, healthy, crowded, hostile, Report])
def test_every_report_can_be_drawn(make) -> None:  # type: ignore[no-untyped-def]
    assert make().plot()._repr_png_().startswith(b"\x89PNG")


def test_norms_stand_on_a_logarithmic_axis_and_the_rest_is_told_in_words() -> None:
    axes = rich().plot().axes[0]
    assert axes.get_xscale() == "log"
    assert [label.get_text() for label in axes.get_yticklabels()][:2] == ["blocks.0.graph.theta.weight", "blocks.0.graph.theta.bias"]
    said = [text.get_text() for text in axes.texts]
    assert said.count("no gradient") == 6 and "only zeros" in said and "frozen" in said


def test_matplotlib_loads_only_when_asked_for_and_pyplot_never() -> None:
    code = (
        "import sys; from gradnb.report.report import Report; r = Report(); repr(r); r._repr_html_();"
        "assert 'matplotlib' not in sys.modules; r.plot(); assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_notebook_gets_the_small_picture_also_where_pyplot_has_a_formatter_for_every_figure() -> None:
    code = (
        "import matplotlib; matplotlib.use('agg'); import matplotlib.pyplot; from IPython.core.interactiveshell import InteractiveShell;"
        "from IPython.core.pylabtools import select_figure_formats; from IPython.utils.capture import capture_output;"
        "from tests.report.samples import rich; shell = InteractiveShell.instance(); select_figure_formats(shell, {'png'});"
        "figure = rich().plot(); large = len(shell.display_formatter.formatters['image/png'](figure))\n"
        "with capture_output() as captured: shell.display_formatter.format(figure)\n"
        "(shown,) = captured.outputs; small = len(shown.data['image/png'])\n"
        "assert small < 0.6 * large, (small, large)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
