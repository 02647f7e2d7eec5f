"""The script that scores ``--prove`` keeps its two promises apart: enough is proven, and nothing that is wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CELL = """\
import torch
from torch import nn
torch.manual_seed(0)
encoder, head = nn.Linear(4, 3), nn.Linear(3, 1)
optimizer = torch.optim.SGD([*encoder.parameters(), *head.parameters()], lr=0.1)
for _ in range(3):
    optimizer.zero_grad()
    code = encoder(torch.randn(8, 4)).detach()
    loss = head(code).pow(2).mean()
    loss.backward()
    optimizer.step()
print(loss.item())
"""


def score(folder: Path, line: int) -> subprocess.CompletedProcess[str]:
    """Run the script on one case whose fault is said to stand on a line of the cell."""
    case = folder / "case"
    case.mkdir(parents=True)
    (case / "cell.py").write_text(CELL)
    (case / "truth.json").write_text(json.dumps({"id": "case", "family": "graph", "cause": "detach", "lines": [line]}))
    script = [sys.executable, str(ROOT / "scripts" / "score_proofs.py"), str(folder)]
    return subprocess.run(script, capture_output=True, text=True, timeout=300, check=False)


def test_a_case_that_is_proven_at_its_line_and_nowhere_else_passes(tmp_path: Path) -> None:
    ran = score(tmp_path, 8)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "proven 1 of 1 solved cases (100 %, at least 80 % promised); 1 wrong lines tried" in ran.stdout


def test_a_line_that_is_proven_and_not_at_fault_breaks_the_promise(tmp_path: Path) -> None:
    ran = score(tmp_path, 9)
    assert ran.returncode == 1 and "BROKEN case: proven, but not at fault: detach at line 9" in ran.stdout


def test_a_folder_without_cases_is_named(tmp_path: Path) -> None:
    for folder, said in ((tmp_path / "nowhere", "is no folder"), (tmp_path, "no case about the graph or the wiring in")):
        ran = subprocess.run(
            [sys.executable, str(ROOT / "scripts" / "score_proofs.py"), str(folder)],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert ran.returncode == 2 and said in ran.stderr and str(folder) in ran.stderr
