"""Every snippet of docs/graph.md runs, in its order."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from in_process import Shell

import gradnb

DOC = Path(__file__).parents[2] / "docs" / "graph.md"


def test_the_snippets_run_as_they_stand(shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    snippets = re.findall(r"^```python\n(.*?)^```", DOC.read_text(encoding="utf-8"), re.M | re.S)
    assert len(snippets) >= 9
    shell.run("import gradnb")
    for snippet in snippets:
        if "to_dot().render" in snippet and shutil.which("dot") is None:
            snippet = "\n".join(line for line in snippet.splitlines() if "to_dot().render" not in line)
        ran = shell.run(snippet)
        assert ran.error is None, snippet
    assert {"graph.html", "graph.svg", "graph.json"} <= {file.name for file in tmp_path.iterdir()}
    assert "✗ lost here" in gradnb.graph().to_torchviz().source
