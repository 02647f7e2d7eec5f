"""Every snippet of docs/monitor.md runs, in its order, and finds what it promises."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

DOC = Path(__file__).parents[2] / "docs" / "monitor.md"


def test_the_snippets_run_as_they_stand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    snippets = re.findall(r"^```python\n(.*?)^```", DOC.read_text(encoding="utf-8"), re.M | re.S)
    assert len(snippets) == 4
    for snippet in snippets:
        exec(compile(snippet, "monitor.md", "exec"), names)
    assert (tmp_path / "norms.csv").stat().st_size > 0
    said = capsys.readouterr().out
    assert "Prompt_grad: 0.00e+00" in said and "memory: 0/60" in said
    assert {"no-gradient", "gate-never-fired"} <= {flag.rule for flag in names["monitor"].flags}
