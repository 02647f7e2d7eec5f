"""What ``explore()`` gives a notebook: the static picture first, then the widget; without anywidget one clear line."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from handmade import graph, tree

import gradnb
from gradnb.graph.explore.widget import Explorer
from gradnb.graph.picture import Picture


@pytest.fixture
def picture(monkeypatch: pytest.MonkeyPatch) -> Picture:
    monkeypatch.setattr(Picture, "fold_of", lambda self, one, seen=False: tree(one))
    return Picture([graph(1), graph(2, 0.5)], verdict="1 error: 1 of 3 parameters gets no gradient")


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The mime bundles that a notebook would get, in order."""
    found: list[dict[str, Any]] = []

    def display(thing: Any, raw: bool = False) -> None:
        found.append(
            thing if raw else thing._repr_mimebundle_()[0] if isinstance(thing._repr_mimebundle_(), tuple) else thing._repr_mimebundle_()
        )

    monkeypatch.setattr("IPython.display.display", display)
    return found


def test_the_static_picture_comes_first_and_the_widget_second(picture: Picture, published: list[dict[str, Any]]) -> None:
    picture.explore()._ipython_display_()
    still, widget = published
    assert sorted(still) == ["text/html", "text/plain"]
    assert "<svg" in still["text/html"] and "lost here" in still["text/html"]
    assert set(widget) == {"application/vnd.jupyter.widget-view+json", "text/plain"}
    assert "kernel" in widget["text/plain"]


def test_the_widget_carries_the_picture_and_files_of_ours_only(picture: Picture) -> None:
    widget = picture.explore().widget()
    assert widget.data["verdict"] == picture.verdict
    assert len(widget.data["steps"]) == 2
    assert "import " not in widget._esm.partition("export default")[0].replace("imports", "")
    assert "http" not in widget._esm.replace("http://www.w3.org/2000/svg", "")
    assert "innerHTML" not in widget._esm


@pytest.mark.parametrize("fault", [ImportError("No module named 'anywidget'"), RuntimeError("traitlets is too old\nand more")])
def test_without_a_working_anywidget_the_picture_stands_and_one_line_says_why(
    picture: Picture, published: list[dict[str, Any]], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    def broken() -> Any:
        raise fault

    monkeypatch.setattr("gradnb.graph.explore.widget._widget_class", broken)
    picture.explore()._ipython_display_()
    assert [sorted(bundle) for bundle in published] == [["text/html", "text/plain"]]
    assert "display:none" not in published[0]["text/html"].replace("img.gradnb-still{display:none}", ""), "it would hide the line"
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 1 and "anywidget" in told[0] and str(fault).splitlines()[0] in told[0]


def test_in_a_terminal_the_explorer_is_the_text_of_the_picture(picture: Picture) -> None:
    assert repr(Explorer(picture)) == repr(picture)


def test_anywidget_is_imported_only_when_it_is_asked_for() -> None:
    import subprocess

    modules = "sys, gradnb, gradnb.graph.explore.widget, gradnb.graph.explore.page"
    code = f"import {modules}; print('anywidget' in sys.modules, 'ipywidgets' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["False", "False"]


def test_a_picture_that_cannot_be_drawn_never_loses_the_report(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    with gradnb.check() as report:
        weight = torch.nn.Parameter(torch.ones(3))
        weight.square().sum().backward()
    assert 'id="gradnb-data"' in report.to_html()

    def broken(picture: Picture) -> Any:
        raise ZeroDivisionError("in the picture")

    monkeypatch.setattr("gradnb.graph.explore.page.payload", broken)
    text = report.to_html()
    assert "gradcheck" in text and "in the picture" in text and 'id="gradnb-data"' not in text
