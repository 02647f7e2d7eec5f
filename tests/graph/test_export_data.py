"""The graph as JSON and for networkx."""

from __future__ import annotations

import builtins
import json
from pathlib import Path
from typing import Any

import handmade
import networkx
import pytest

from gradnb.errors import UsageError
from gradnb.graph.export.networkx import to_networkx
from gradnb.graph.picture import Picture


def test_json_holds_every_step_whole_and_nothing_that_json_does_not_know(tmp_path: Path) -> None:
    first, second = handmade.graph(), handmade.graph(2, float("nan"))
    second.nodes[5].state = "nan"
    picture = Picture([first, second], verdict="1 error")
    data = picture.to_json(str(tmp_path / "graph.json"))
    assert json.loads((tmp_path / "graph.json").read_text()) == json.loads(json.dumps(data, allow_nan=False)) == data
    assert (data["schema"], data["verdict"], data["step"], [step["title"] for step in data["steps"]]) == (
        1,
        "1 error",
        1,
        ["step 1", "step 2"],
    )
    nodes, edges, boxes = (data["steps"][0][part] for part in ("nodes", "edges", "boxes"))
    assert len(nodes) == len(first.nodes) and len(edges) == len(first.edges)
    assert nodes[4]["mark"] == {
        "cause": "detach", "word": "lost here", "text": "line 4: .detach()", "severity": "error", "finding": 0, "root": True
    }  # fmt: skip
    assert nodes[4]["location"]["line"] == 4 and nodes[1]["class"] == "Linear" and nodes[1]["shape"] == [16, 8]
    assert edges[3] == {"source": 3, "target": 4, "kind": "lost", "cut": True, "norm": None}
    assert boxes[0]["parent"] is None and all(boxes[node["box"]]["node"] == node["id"] for node in nodes)
    assert data["findings"][0]["cause"] == "detach" and data["steps"][0]["notes"] == ["2 metrics are left out"]
    broken = data["steps"][1]["nodes"][5]
    assert (broken["norm"], broken["state"]) == (None, "nan")


def test_a_file_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    picture = Picture([handmade.graph()])
    for write in (picture.to_json, picture.to_svg, picture.to_html):
        with pytest.raises(UsageError, match="was not written: No such file or directory. Name a file in a folder that exists"):
            write(str(tmp_path / "no" / "folder"))


def test_networkx_gets_nodes_and_edges_with_their_facts() -> None:
    graph = handmade.graph()
    made = to_networkx(graph)
    assert isinstance(made, networkx.MultiDiGraph) and networkx.is_directed_acyclic_graph(made)
    assert made.nodes[1]["name"] == "encoder.weight" and made.nodes[1]["state"] == "starved" and made.nodes[1]["cls"] == "Linear"
    assert made.nodes[4]["mark"] == "lost here: line 4: .detach()" and made.nodes[4]["location"] == "cell [3], line 4"
    assert [(a, b) for a, b, cut in made.edges(data="cut") if cut] == [(3, 4)]
    assert networkx.has_path(made, 0, 9) and made.graph["title"] == "step 1"


def test_where_networkx_is_missing_one_sentence_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "networkx":
            raise ImportError("No module named 'networkx'")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UsageError, match="pip install networkx"):
        Picture([handmade.graph()]).to_networkx()
