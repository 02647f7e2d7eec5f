"""The programs of the pages that have no test elsewhere run as they stand, and do what the page says."""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from public_names import ROOT


def programs(page: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", (ROOT / "docs" / page).read_text(encoding="utf-8"), re.M | re.S)


def test_the_line_for_a_test_suite_passes_and_fails_when_a_gradient_is_lost() -> None:
    test, _ = programs("ci.md")
    for source, lost in ((test, False), (test.replace("model(inputs),", "model[2](model[:2](inputs).detach()),"), True)):
        names: dict[str, Any] = {}
        exec(compile(source, "ci.md", "exec"), names)
        if lost:
            with pytest.raises(AssertionError, match="2 of 4 trainable parameters get no gradient"):
                names["test_every_parameter_learns"]()
        else:
            names["test_every_parameter_learns"]()


def test_the_rule_over_the_json_fails_for_a_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, rule = programs("ci.md")
    monkeypatch.chdir(tmp_path)
    Path("train.py").write_text(_bad("detach"))
    command = [sys.executable, "-m", "gradnb", "--quiet", "--json", "gradients.json", "train.py"]
    ended = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False)
    assert ended.returncode == 1, ended.stderr
    with pytest.raises(AssertionError, match="detach"):
        exec(compile(rule, "ci.md", "exec"), {})
    Path("gradients.json").write_text(json.dumps({**json.loads(Path("gradients.json").read_text()), "verdict": "ok"}))
    exec(compile(rule, "ci.md", "exec"), {})


def _bad(slug: str) -> str:
    from gradnb.diagnoses._program import program

    return program(importlib.import_module(f"gradnb.diagnoses.{slug}"), "bad")[0]


@pytest.mark.slow
def test_the_script_for_several_processes_trains_on_two_and_says_what_the_page_says(tmp_path: Path) -> None:
    (script,) = programs("several-processes.md")
    (tmp_path / "train.py").write_text(script)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "train.py"]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=env, timeout=240, check=False)
    assert ended.returncode == 0, ended.stderr[-3000:]
    page = (ROOT / "docs" / "several-processes.md").read_text(encoding="utf-8")
    promised = re.findall(r"^    (gradnb: .*|\[Epoch .*?\])", page, re.M)
    assert len(promised) == 5
    for line in promised:
        assert line in ended.stdout, ended.stdout


def test_the_diagnosis_of_the_page_is_a_whole_file() -> None:
    diagnosis, _, analysis = programs("add-a-diagnosis.md")
    for source in (diagnosis, analysis):
        compile(source, "add-a-diagnosis.md", "exec")
    assert 'leads(recording, "learning-rate-zero")' in diagnosis and 'Lead("learning-rate-zero"' in analysis
    for heading in ("What happens", "Why it matters", "Fix", "References"):
        assert f"\n{heading}\n" in diagnosis
