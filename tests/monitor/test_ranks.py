"""Two gloo processes under torchrun: right norms on rank 0, ranks that differ are named, and nobody waits for a rank that left."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
HEAD = """\
import json, os, sys
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
import gradnb

dist.init_process_group("gloo")
rank = dist.get_rank()
torch.manual_seed(0)


def net():
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 1))


def norm(tensors):
    return sum(float((t.detach().double() ** 2).sum()) for t in tensors) ** 0.5


def tell(monitor, expected=()):
    monitor.stop()
    if rank == 0:
        said = {"expected": list(expected), "problem": monitor.problem, "step": monitor.history.step}
        said["norm"] = [v for _, v in monitor.history.series.get("global_norm", [])]
        said["layers"] = {layer.name: [v for _, v in monitor.history.of(layer.name)] for layer in monitor.history.layers}
        said["ranks"] = [text for _, kind, text in monitor.history.events if kind == "ranks"]
        print("SAID " + json.dumps(said), flush=True)


def batch(step):
    return torch.randn(8, 4, generator=torch.Generator().manual_seed(100 * step + rank))


"""
END = '\nif os.environ.get("LEAVE") is None:\n    dist.destroy_process_group()\n'


def torchrun(folder: Path, text: str) -> dict[str, Any]:
    (folder / "train.py").write_text(HEAD + text + END)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "train.py"]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=120, check=False)
    said = [line for line in done.stdout.splitlines() if line.startswith("SAID ")]
    assert done.returncode == 0 and len(said) == 1, done.stderr[-3000:]
    return json.loads(said[0].removeprefix("SAID "))


def test_distributed_data_parallel_shows_the_reduced_gradients_before_and_after_clipping(tmp_path: Path) -> None:
    said = torchrun(
        tmp_path,
        """
model = DistributedDataParallel(net())
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
monitor = gradnb.watch(model)
expected = []
for step in range(6):
    optimizer.zero_grad()
    model(batch(step)).pow(2).mean().backward()
    expected.append(norm(p.grad for p in model.parameters()))
    nn.utils.clip_grad_norm_(model.parameters(), 0.01)
    optimizer.step()
tell(monitor, expected)
""",
    )
    assert said["norm"] == pytest.approx(said["expected"], rel=1e-6)
    assert list(said["layers"]) == ["0", "2", "4"] and said["ranks"] == [] and said["problem"] is None


def test_the_rank_with_a_nan_and_unused_parameters_are_named_before_they_are_averaged_away(tmp_path: Path) -> None:
    said = torchrun(
        tmp_path,
        """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.head, self.spare, self.never = nn.Linear(4, 8), nn.Linear(8, 1), nn.Linear(8, 1), nn.Linear(8, 1)

    def forward(self, x):
        h = self.body(x)
        return self.head(h) + (self.spare(h) if rank == 0 else 0)

model = DistributedDataParallel(Net(), find_unused_parameters=True)
optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
monitor = gradnb.watch(model)
for step in range(6):
    optimizer.zero_grad()
    (model(batch(step)).pow(2).mean() * (float("nan") if rank == 1 and step == 3 else 1.0)).backward()
    for p in model.parameters():
        if p.grad is not None:
            p.grad.nan_to_num_(0.0)
    optimizer.step()
tell(monitor)
""",
    )
    assert said["problem"] is None
    assert any(text.startswith("rank 1 has no gradient of its own for spare at step 1") for text in said["ranks"])
    assert any(text.startswith("no rank used never at step 1") for text in said["ranks"])
    assert any(text.startswith("rank 1 has NaN or infinity in its own gradient of body, head at step 4") for text in said["ranks"])
    assert not any(text.startswith("rank 0") for text in said["ranks"])


@pytest.mark.parametrize("how", ["FullyShardedDataParallel", "fully_shard"])
def test_local_shards_are_added_up_to_the_norm_of_the_whole(tmp_path: Path, how: str) -> None:
    wrap = {
        "FullyShardedDataParallel": "from torch.distributed.fsdp import FullyShardedDataParallel\n"
        "model = FullyShardedDataParallel(model, use_orig_params=True, device_id=torch.device('cpu'))",
        "fully_shard": "from torch.distributed.fsdp import fully_shard\nfrom torch.distributed.device_mesh import init_device_mesh\n"
        "fully_shard(model, mesh=init_device_mesh('cpu', (2,)))",
    }[how]
    said = torchrun(
        tmp_path,
        f"""
model, twin = net(), net()
twin.load_state_dict(model.state_dict())
{wrap}
optimizer, other = torch.optim.SGD(model.parameters(), lr=0.1), torch.optim.SGD(twin.parameters(), lr=0.1)
monitor = gradnb.watch(model, optimizer)
expected = []
for step in range(6):
    for one, of in ((model, optimizer), (twin, other)):
        of.zero_grad()
        one(batch(step)).pow(2).mean().backward()
        if one is twin:
            for p in twin.parameters():
                dist.all_reduce(p.grad)
                p.grad /= 2
            expected.append(norm(p.grad for p in twin.parameters()))
        of.step()
tell(monitor, expected)
""",
    )
    assert said["problem"] is None and said["ranks"] == []
    assert said["norm"] == pytest.approx(said["expected"], rel=1e-5)
    assert list(said["layers"]) == ["0", "2", "4"]


def test_a_rank_that_stops_watching_or_never_did_makes_nobody_wait(tmp_path: Path) -> None:
    said = torchrun(
        tmp_path,
        """
model = DistributedDataParallel(net())
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
monitor = gradnb.watch(model)
expected = []
for step in range(40):
    optimizer.zero_grad()
    model(batch(step)).pow(2).mean().backward()
    expected.append(norm(p.grad for p in model.parameters()))
    optimizer.step()
    if rank == 1 and step == 4:
        monitor.stop()
alone = gradnb.watch(net()) if rank == 0 else None
tell(monitor, expected)
""",
    )
    assert said["step"] == 40 and said["norm"] == pytest.approx(said["expected"], rel=1e-6)
    assert [text for text in said["ranks"] if text.startswith("rank 1 no longer sends its numbers: it is left out from step 6")]


def test_only_rank_0_watches(tmp_path: Path) -> None:
    said = torchrun(
        tmp_path,
        """
model = DistributedDataParallel(net())
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
monitor = gradnb.watch(model) if rank == 0 else None
expected = []
for step in range(10):
    optimizer.zero_grad()
    model(batch(step)).pow(2).mean().backward()
    expected.append(norm(p.grad for p in model.parameters()))
    optimizer.step()
if rank == 0:
    tell(monitor, expected)
""",
    )
    assert said["norm"] == pytest.approx(said["expected"], rel=1e-6)


def test_a_process_that_dies_does_not_hang_the_monitor(tmp_path: Path) -> None:
    said = torchrun(
        tmp_path,
        """
model = net()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
monitor = gradnb.watch(model)
for step in range(30):
    optimizer.zero_grad()
    model(batch(step)).pow(2).mean().backward()
    optimizer.step()
    if rank == 1 and step == 5:
        os._exit(0)
tell(monitor)
os._exit(0)
""",
    )
    assert said["step"] == 30 and said["problem"] is None
    assert any(text.startswith("rank 1 ") for text in said["ranks"])
