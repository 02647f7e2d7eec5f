"""A small training of several processes: dropout draws from each process's own random states, losses are each process's own."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from gradnb.checkpoint import Checkpointer


class Cut(Exception):
    """Stands for the end of the runtime."""


def model(kind: str, seed: int = 0) -> Any:
    """``alone``, ``ddp``, ``fsdp`` (fully_shard), ``fsdp1`` (FullyShardedDataParallel); 7 rows are no multiple of 2 processes."""
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(4, 7), nn.BatchNorm1d(7), nn.Dropout(0.3), nn.Linear(7, 3, bias=False))
    if kind == "ddp":
        return nn.parallel.DistributedDataParallel(net)
    if kind == "fsdp":
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        return fully_shard(net, mesh=init_device_mesh("cpu", (dist.get_world_size(),)))
    if kind == "fsdp1":
        from torch.distributed.fsdp import FullyShardedDataParallel

        return FullyShardedDataParallel(net, use_orig_params=True, device_id=torch.device("cpu"))
    return net


def batches(rank: int, count: int = 6) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(rank)
    return [torch.randn(5, 4, generator=generator) for _ in range(count)]


class Training:
    """Two epochs of six steps, saved after every third."""

    def __init__(self, folder: Any, kind: str, rank: int = 0, seed: int = 0, **options: Any):
        self.rank = rank
        self.model = model(kind, seed)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=0.05)
        self.losses: list[float] = []
        torch.manual_seed(100 + rank)
        self.ckpt = Checkpointer(folder, **{"every": 3, "keep_last": 2, **options})
        self.ckpt.track(model=self.model, optimizer=self.optimizer, losses=self.losses)

    def step(self, batch: torch.Tensor) -> None:
        self.optimizer.zero_grad()
        loss = self.model(batch).pow(2).mean()
        loss.backward()
        self.optimizer.step()
        self.losses.append(loss.item())

    def run(self, cut: int | None = None) -> "Training":
        """To the end, or until ``cut`` steps are done and one more is half done."""
        try:
            for _, batch in self.ckpt.loop(batches(self.rank), epochs=2):
                if len(self.losses) == cut:
                    raise Cut
                self.step(batch)
        except Cut:
            pass
        self.ckpt.close()
        return self

    def weights(self) -> list[Any]:
        """Parameters, buffers and Adam's moments, whole."""
        state = self.model.module.state_dict() if isinstance(self.model, nn.parallel.DistributedDataParallel) else self.model.state_dict()
        moments = [value for one in self.optimizer.state_dict()["state"].values() for value in one.values()]
        return [whole(value).tolist() for value in [*state.values(), *moments]]


def whole(tensor: Any) -> torch.Tensor:
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
