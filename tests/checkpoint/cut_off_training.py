"""A training that can be killed at any batch, and the processes to do it in: what the tests of exact resume share."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

import gradnb

_PROCESSES = multiprocessing.get_context("forkserver")  # torch is imported once, in the server; each run is a process of its own
_PROCESSES.set_forkserver_preload(["torch", "torch._dynamo", "gradnb", "numpy.random", "cut_off_training"])


@dataclass(frozen=True)
class Plan:
    """What the training is made of, and when it dies."""

    folder: str
    stateful: bool = False
    workers: int = 0
    augment: bool = True
    accumulate: int = 1
    set_to_none: bool = True
    every: int | str | None = 5
    epochs: int = 2
    keep_last: int = 2
    pause: float = 0.0
    """Seconds that each step takes longer."""
    nested: bool = False
    seed: int = 0
    die_at: int | None = None
    """Killed in the middle of the step of this number, between backward and the optimizer's step."""
    signal: int = signal.SIGKILL

    def but(self, **changes: object) -> "Plan":
        return replace(self, **changes)  # type: ignore[arg-type]


class Noisy(Dataset):
    """Numbers, turned by Python's and NumPy's random numbers where asked."""

    def __init__(self, augment: bool):
        self.x = torch.linspace(-1, 1, 20 * 8 * 6).reshape(160, 6)
        self.augment = augment
        self.own = np.random.default_rng(7)  # a generator that only the dataset knows

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        x = self.x[index]
        y = x[:2] ** 2
        if self.augment:
            x = x * random.uniform(0.5, 1.5) + float(np.random.normal()) + torch.randn(()) + float(self.own.normal())
        return x, y


def train(plan: Plan) -> None:
    """The cells of a notebook, from top to bottom. Writes each loss, bit for bit, into ``losses-<pid>``, and the weights at the end."""
    torch.manual_seed(plan.seed)
    random.seed(plan.seed)
    np.random.seed(plan.seed)
    model = nn.Sequential(nn.Linear(6, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.3), nn.Linear(32, 2))
    ema = torch.optim.swa_utils.AveragedModel(model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.9), use_buffers=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=200)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**8, growth_interval=3)
    kind = DataLoader
    if plan.stateful:
        from torchdata.stateful_dataloader import StatefulDataLoader as kind
    loader = kind(Noisy(plan.augment), batch_size=8, shuffle=True, num_workers=plan.workers)
    losses: list[float] = []
    told = Path(plan.folder).with_name(f"losses-{os.getpid()}").open("a")
    ckpt = gradnb.Checkpointer(plan.folder, every=plan.every, keep_last=plan.keep_last)
    ckpt.track(model=model, optimizer=optimizer, scheduler=scheduler, scaler=scaler, ema=ema, losses=losses, best=1e9)

    def one(epoch: int, batch: tuple[torch.Tensor, torch.Tensor]) -> None:
        x, y = batch
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = ((model(x) - y) ** 2).mean()
        scaler.scale(loss / plan.accumulate).backward()
        number = len(losses) + 1
        if number == plan.die_at:
            while not ckpt.list() and plan.every is not None:
                time.sleep(0.005)  # the thread that writes is not done with the first checkpoint
            os.kill(os.getpid(), plan.signal)
        if number % plan.accumulate == 0:
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad(set_to_none=plan.set_to_none)
            scheduler.step()
            ema.update_parameters(model)
        time.sleep(plan.pause)
        losses.append(loss.item())
        ckpt.values.best = min(ckpt.values.best, losses[-1])
        print(json.dumps([number, epoch, loss.item().hex()]), file=told, flush=True)

    if plan.nested:
        for epoch in ckpt.epochs(plan.epochs):
            for batch in ckpt.batches(loader):
                one(epoch, batch)
            torch.rand(3)  # a validation that draws random numbers
    else:
        for epoch, batch in ckpt.loop(loader, epochs=plan.epochs):
            one(epoch, batch)
    ckpt.close()
    rest = {
        "model": model.state_dict(),
        "ema": ema.state_dict(),
        "optimizer": optimizer.state_dict(),
        "scale": scaler.get_scale(),
        "losses": losses,
    }
    rest |= {"lr": scheduler.get_last_lr(), "best": ckpt.values.best, "draws": [torch.rand(3), random.random(), np.random.rand(3)]}
    torch.save(rest, Path(plan.folder).with_name("end.pt"))


class Training:
    """A training in a process of its own."""

    def __init__(self, plan: Plan):
        self._plan = plan
        self._process = _PROCESSES.Process(target=_child, args=(plan,))
        self._process.start()

    @property
    def pid(self) -> int:
        return self._process.pid or 0

    def is_alive(self) -> bool:
        return self._process.is_alive()

    def losses(self) -> list[tuple[int, int, str]]:
        """(step, epoch, loss as a hexadecimal float) of the steps it has made."""
        found = Path(self._plan.folder).with_name(f"losses-{self.pid}")
        lines = found.read_text().split("\n")[:-1] if found.exists() else []
        return [tuple(json.loads(line)) for line in lines]

    def first(self) -> int | None:
        return next((step for step, _, _ in self.losses()), None)

    def last(self) -> int:
        return max((step for step, _, _ in self.losses()), default=0)

    def join(self) -> int:
        """The exit status."""
        self._process.join(120)
        if self._process.is_alive():
            self._process.kill()
            raise AssertionError("the training did not end in 120 s")
        return self._process.exitcode or 0


def start(plan: Plan) -> Training:
    return Training(plan)


def run(plan: Plan) -> tuple[int, list[tuple[int, int, str]]]:
    """Train to the end, or the death: (exit status, losses)."""
    training = start(plan)
    return training.join(), training.losses()


def _child(plan: Plan) -> None:
    multiprocessing.set_start_method("fork", force=True)  # for the loader's workers, as in a notebook on Linux
    torch.set_num_threads(1)
    out = os.open(Path(plan.folder).with_name("output"), os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    os.dup2(out, 1)
    train(plan)


def end(folder: str | Path) -> dict:
    return torch.load(Path(folder).with_name("end.pt"), weights_only=False)


def same(one: object, other: object) -> bool:
    """Equal bit for bit, through all containers."""
    if isinstance(one, torch.Tensor) or isinstance(one, np.ndarray):
        a, b = torch.as_tensor(one), torch.as_tensor(other)
        return a.dtype == b.dtype and a.shape == b.shape and a.contiguous().numpy().tobytes() == b.contiguous().numpy().tobytes()
    if isinstance(one, dict):
        return isinstance(other, dict) and one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return isinstance(other, (list, tuple)) and len(one) == len(other) and all(same(a, b) for a, b in zip(one, other))
    return type(one) is type(other) and (one == other or one != one)


def stop_server() -> None:
    """Else it would be a child of the tests' process until that ends, and a test that waits for its children would wait for it."""
    from multiprocessing import forkserver, resource_tracker

    forkserver._forkserver._stop()
    resource_tracker._resource_tracker._stop()
