"""Every snippet of docs/checkpoints.md runs, in its order, and says what the page promises."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

DOC = Path(__file__).parents[2] / "docs" / "checkpoints.md"


def test_the_snippets_run_as_they_stand_and_a_second_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    text = DOC.read_text(encoding="utf-8")
    snippets = re.findall(r"^```python\n(.*?)^```", text, re.M | re.S)
    assert len(snippets) == 3
    names: dict[str, Any] = {}
    cut = snippets[0].replace("    ckpt.step(", "    if len(losses) == 60:\n        raise EOFError\n    ckpt.step(")
    with pytest.raises(EOFError):
        exec(compile(cut, "checkpoints.md", "exec"), {})
    promised = re.search(r"gradnb: (resumed .*)$", text, re.M)
    capsys.readouterr()
    for snippet in snippets:
        exec(compile(snippet, "checkpoints.md", "exec"), names)
    said = capsys.readouterr().out
    assert promised and promised[1] in said
    assert len(names["losses"]) == 100 and names["ckpt"].epoch == 6
    assert "checkpoints in run1" in said and "every file is whole" in said
