"""What the explorer is given: complete, small, and JSON whatever the numbers are."""

from __future__ import annotations

import json
import linecache
import math
from dataclasses import replace
from typing import Any

import pytest
from broken_models import setting
from handmade import SOURCE, graph, tree, with_state

import gradnb
from gradnb.graph.explore.payload import pack, payload
from gradnb.graph.picture import Picture


def picture_of(model: str) -> Picture:
    """Trained for two steps under the check."""
    cell, name = setting(model, "detach").cell, f"<payload-{model}>"
    code = cell.replace("%%gradcheck", "")
    linecache.cache[name] = (len(code), None, code.splitlines(True), name)
    with gradnb.check() as report:
        exec(compile(code, name, "exec"), {"__name__": "__main__"})
    return report.graph


def packed(*graphs: Any) -> dict[str, Any]:
    data = pack(list(graphs), [tree(one) for one in graphs])
    json.dumps(data, allow_nan=False)
    return data


def column(data: dict[str, Any], part: str, name: str, text: bool = False) -> list[Any]:
    """One column, with what a row has that does not name one left out."""
    stored = data["graphs"][0][part][name]
    values = dict(enumerate(stored)) if isinstance(stored, list) else {int(i): value for i, value in stored.items()}
    return [data["texts"][value] if text else value for _, value in sorted(values.items())]


def test_every_node_and_box_is_in_it_with_its_facts() -> None:
    one = graph()
    data = packed(one)
    assert data["graphs"][0]["nodes"]["count"] == len(one.nodes)
    assert data["graphs"][0]["boxes"]["count"] == len(tree(one).boxes)
    assert column(data, "nodes", "label", text=True) == [node.label for node in one.nodes]
    assert "32×16" in column(data, "nodes", "shape", text=True)
    assert column(data, "nodes", "mark") == [["lost here", "line 4: .detach()", "error", 0, 1]]
    assert data["graphs"][0]["notes"] == ["2 metrics are left out"]
    assert data["findings"][0]["cause"] == "detach"


def test_numbers_that_json_does_not_know_become_words() -> None:
    one = graph()
    for value, word in ((math.nan, "nan"), (math.inf, "inf"), (-math.inf, "-inf"), (0.0, 0), (0.123456, 0.123)):
        data = packed(with_state(one, 5, norm=value))
        assert word in column(data, "nodes", "norm")


def test_a_text_that_no_encoding_knows_is_made_printable() -> None:
    data = packed(with_state(graph(), 4, label="lone \ud800 surrogate \x1b[0m"))
    json.dumps(data, ensure_ascii=False).encode("utf-8")
    assert any("surrogate" in text and "\x1b" not in text for text in data["texts"])


def test_the_place_of_a_node_is_its_line_in_the_source_with_its_characters() -> None:
    data = packed(graph())
    assert [source["name"] for source in data["sources"]] == ["cell [3]"]
    assert data["sources"][0]["lines"] == SOURCE.splitlines()
    source, line, start, end, _ = data["places"][data["findings"][0]["at"]]
    text = data["sources"][source]["lines"][line - data["sources"][source]["first"]]
    assert text[start:end] == ".detach()"


def test_of_a_long_file_only_windows_around_the_used_lines_are_kept() -> None:
    one = graph()
    long = ["x = 0"] * 2000
    for line, text in enumerate(SOURCE.splitlines()):
        long[1000 + line - 1] = text
    for node in one.nodes:
        if node.location:
            node.location = replace(node.location, line=node.location.line + 999, end_line=None)
    one.findings[0].location = one.nodes[4].location
    one.sources["cell-3"] = "\n".join(long)
    data = packed(one)
    assert sum(len(source["lines"]) for source in data["sources"]) < 60
    source, line, start, end, _ = data["places"][data["findings"][0]["at"]]
    shown = data["sources"][source]
    assert line == 1003 and shown["lines"][line - shown["first"]][start:end] == ".detach()"


def test_a_source_that_changed_since_shows_the_line_that_ran_and_no_other() -> None:
    one = graph()
    one.sources["cell-3"] = "\n".join(["something else"] * 20)
    data = packed(one)
    assert all(len(source["lines"]) == 1 for source in data["sources"])
    assert {source["lines"][0] for source in data["sources"]} >= {"return self.encoder(x).detach()", "loss.backward()"}


def test_steps_of_equal_structure_share_a_graph_and_keep_only_what_differs() -> None:
    data = packed(graph(1, 0.25), graph(2, 0.5))
    assert len(data["graphs"]) == 1
    assert [step["title"] for step in data["steps"]] == ["step 1", "step 2"]
    changes = data["steps"][1]["changes"]
    assert changes["nodes"] == {"norm": {"5": 0.5}, "value": {"9": 0.55}}
    assert changes["boxes"]["norm"] == {"2": 0.5, "8": 0.5}
    assert "links" not in changes and changes["norms"]


def test_a_step_of_another_structure_has_a_graph_of_its_own() -> None:
    other = graph(2)
    other.edges = other.edges[:-1]
    data = packed(graph(1), other)
    assert [step["graph"] for step in data["steps"]] == [0, 1]


def test_a_picture_of_a_recorded_run_has_all_its_steps() -> None:
    picture = picture_of("mlp")
    data = payload(picture)
    assert [step["title"] for step in data["steps"]] == [one.title for one in picture.graphs]
    assert data["verdict"] == picture.verdict
    assert data["first"] == picture.step - 1


@pytest.mark.slow
def test_the_page_of_a_gpt2_shaped_model_stays_under_400_kb() -> None:
    picture = picture_of("gpt2")
    assert len(picture.graph.nodes) > 400
    assert len(picture.to_html().encode("utf-8")) <= 400_000
