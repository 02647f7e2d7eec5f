"""The picture for Graphviz."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import graphviz
import handmade
import pytest
import torch
from broken_models import setting
from in_process import Shell

import gradnb
from gradnb.errors import UsageError
from gradnb.graph.export.dot import to_dot

needs_dot = pytest.mark.skipif(shutil.which("dot") is None, reason="Graphviz's dot is not installed")


def test_open_boxes_are_clusters_and_closed_ones_are_nodes() -> None:
    graph = handmade.graph()
    source = to_dot(graph, handmade.tree(graph)).source
    assert source.count("subgraph cluster_") == 1 and 'label="encoder · Linear"' in source  # head is closed
    assert re.search(r'label="head\\n', source)


def test_a_lost_edge_is_dashed_and_the_cut_has_word_and_line() -> None:
    graph = handmade.graph()
    source = to_dot(graph, handmade.tree(graph)).source
    cuts = [line for line in source.splitlines() if "->" in line and "cut here" in line]
    assert len(cuts) == 1 and "style=dashed" in cuts[0] and "#D55E00" in cuts[0]
    assert re.search(r'label="✗ lost here\\n.*line 4: \.detach\(\)"', source)


def test_what_is_left_out_stands_below() -> None:
    graph = handmade.graph()
    assert "2 metrics are left out" in to_dot(graph).source


def test_words_of_the_users_are_no_markup_and_no_escape() -> None:
    graph = handmade.graph()
    graph.nodes[0].label, graph.nodes[0].name = '<b>"\\N\\n', "<table>"
    source = to_dot(graph).source
    assert "=<" not in source and "\\\\N" in source
    if shutil.which("dot"):
        assert "&lt;b&gt;" in to_dot(graph).pipe(format="svg", encoding="utf-8")


@needs_dot
@pytest.mark.parametrize("ending", ["pdf", "png", "svg"])
def test_it_is_written_as_pdf_png_and_svg(tmp_path: Path, ending: str) -> None:
    file = tmp_path / f"graph.{ending}"
    to_dot(handmade.graph()).render(outfile=file)
    start = {"pdf": b"%PDF", "png": b"\x89PNG", "svg": b"<?xml"}[ending]
    assert file.read_bytes().startswith(start)


@needs_dot
@pytest.mark.parametrize("model", ["mlp", "resnet", "gpt2"])
def test_the_picture_of_a_real_model_is_laid_out_without_a_complaint(shell: Shell, model: str) -> None:
    shell.run(setting(model, "detach").cell)
    shell.capsys.readouterr()
    drawn = gradnb.graph().to_dot().pipe(format="svg", encoding="utf-8")
    assert "lost here" in drawn and f"line {setting(model, 'detach').line}" in drawn
    assert shell.capsys.readouterr().err == ""


def test_without_dot_one_sentence_names_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    drawing = to_dot(handmade.graph())
    for write in (lambda: drawing.render(outfile=tmp_path / "graph.pdf"), lambda: drawing.pipe(format="svg")):
        with pytest.raises(UsageError, match="apt-get install graphviz") as raised:
            write()
        assert raised.value.__context__ is None
    assert list(drawing._repr_mimebundle_()) == ["text/plain"] and "is not installed" in drawing._repr_mimebundle_()["text/plain"]
    assert drawing.source.startswith("// step 1") and isinstance(drawing, graphviz.Digraph)


def test_a_file_without_a_name_says_how_to_name_it() -> None:
    with pytest.raises(UsageError, match="render\\(outfile='graph.pdf'\\)"):
        to_dot(handmade.graph()).render(format="nope")


@needs_dot
def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="was not written"):
        to_dot(handmade.graph()).render(outfile=tmp_path / "file" / "graph.svg")


def test_every_visible_thing_has_a_tooltip() -> None:
    x = torch.ones(2, requires_grad=True)
    source = gradnb.graph((x.exp() + x).sum()).to_dot().source
    drawn = [line for line in source.splitlines() if re.match(r"\s*box\d+", line)]
    assert len(drawn) == 5 + 5 and all('tooltip="' in line for line in drawn)
