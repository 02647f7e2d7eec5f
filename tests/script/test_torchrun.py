"""Two processes under torchrun, with gloo: one report, printed once, that knows which rank is which."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from running import LIMIT, environment

pytestmark = pytest.mark.slow

DDP = """\
import sys
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Linear(4, 3)
        self.norm = nn.BatchNorm1d(3)
        self.head = nn.Linear(3, 1)

    def forward(self, x):
        return self.head(self.norm(self.encoder(x)))


def main():
    dist.init_process_group("gloo")
    torch.manual_seed(dist.get_rank())
    model = DistributedDataParallel(Net(), find_unused_parameters=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for step in range(3):
        loss = model(torch.randn(8, 4)).pow(2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    dist.destroy_process_group()


main()
"""
BROKEN = DDP.replace("self.norm(self.encoder(x))", "self.norm(self.encoder(x)).detach()")
# No DistributedDataParallel here: it would give rank 1 the gradients of rank 0.
ONE = DDP.replace("DistributedDataParallel(Net(), find_unused_parameters=True)", "Net()").replace(
    "        return self.head(self.norm(self.encoder(x)))",
    "        h = self.norm(self.encoder(x))\n        if dist.get_rank() == 1:\n            h = h.detach()\n        return self.head(h)",
)


def line_of(text: str) -> int:
    return 1 + text[: text.index(".detach()")].count("\n")


def torchrun(folder: Path, text: str, *options: str, plain: bool = False) -> subprocess.CompletedProcess[str]:
    (folder / "train.py").write_text(text)
    """``plain`` names Python itself, otherwise torchrun does."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    run = ["--no-python", sys.executable, "-m", "gradnb"] if plain else ["-m", "gradnb"]
    command = [*launch, *run, *options, "train.py"]
    return subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True, timeout=LIMIT, check=False)


def test_a_healthy_distributed_program_gives_one_silent_report(tmp_path: Path) -> None:
    done = torchrun(tmp_path, DDP, "--json", "out.json")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("gradcheck:") == 1
    assert "gradcheck: every trainable parameter gets a gradient (6 parameters, 3 steps recorded)" in done.stderr
    data = json.loads((tmp_path / "out.json").read_text())
    assert data["findings"] == [] and [rank["rank"] for rank in data["ranks"]] == [0, 1]
    assert [p["name"] for p in data["parameters"]][:3] == ["encoder.weight", "encoder.bias", "norm.weight"]


def test_a_fault_on_every_rank_is_named_once_with_its_line(tmp_path: Path) -> None:
    done = torchrun(tmp_path, BROKEN, "--json", "out.json", plain=True)
    assert done.returncode == 1
    assert done.stderr.count("error[detach]") == 1
    data = json.loads((tmp_path / "out.json").read_text())
    assert [(f["cause"], f["location"]["line"]) for f in data["findings"]] == [("detach", line_of(BROKEN))]
    assert data["findings"][0]["title"].endswith("(on all 2 ranks)")
    assert all(rank["verdict"] == "error" for rank in data["ranks"])


def test_a_fault_on_one_rank_names_the_rank(tmp_path: Path) -> None:
    done = torchrun(tmp_path, ONE)
    assert done.returncode == 1
    assert done.stderr.count("error[detach]") == 1 and "(on rank 1 only)" in done.stderr
    assert f"train.py, line {line_of(ONE)}, in forward" in done.stderr


def test_a_rank_that_dies_is_named_and_not_waited_for(tmp_path: Path) -> None:
    died = ONE.replace("    dist.destroy_process_group()\n", "    if dist.get_rank() == 1:\n        import os\n        os._exit(0)\n")
    done = torchrun(tmp_path, died)
    assert done.returncode == 0, done.stderr
    assert "rank 1 gave no report: its process ended without one" in done.stderr
