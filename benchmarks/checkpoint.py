"""What a checkpoint costs the loop: gradnb.Checkpointer beside torch.save and beside other tools, on a model with Adam's state.

    python benchmarks/checkpoint.py [--check] [--quick] [--only NAME] [--without-others] [--folder PATH]

All tools save the same training, in this one process, on one thread, taking turns; between two saves the training makes a step, so that
every tensor has changed. A tool saves again only when its last save has ended: waiting for that is no part of the figures.
`blocked`: the time until the call returns, as the median over the rounds of (tool) / (torch.save in the same round).
`whole`: the same with the writing in the background, until the checkpoint is there.
`bytes`: what the process has written for one save (/proc/self/io; the size of the files where it is more) / bytes of the state.
`torn`: parameters are changed at once after the call has returned; how many of the checkpoints do not hold the values of the save.
Other tools are measured where they are installed: Lightning's async checkpoint IO, DCP. The last line is JSON; --check exits 1 where a
figure is over its limit.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import io
import logging
import os
import shutil
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import torch
from figures import end
from torch import Tensor, nn

LIMITS = {"blocked": 0.2, "bytes": 1.01, "torn": 0}
ROUNDS = {"large-tensors": 15, "small-tensors": 10}
TORN = 6


class Training:
    """A model, AdamW, and gradients that come anew each step, as after zero_grad(); a step changes every tensor of the state. About 100 MB.

    ``large-tensors``: 36 of 0.7 million numbers each and their biases; ``small-tensors``: a thousand of 25,600 each.
    """

    def __init__(self, workload: str):
        torch.manual_seed(0)
        depth, width, bias = (12, 850, True) if workload == "large-tensors" else (333, 160, False)
        self.model = nn.Sequential(*[nn.Linear(width, width, bias) for _ in range(depth)])
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-4)
        self.gradients = [torch.randn_like(parameter) for parameter in self.model.parameters()]
        self.step()

    def step(self) -> None:
        self.optimizer.zero_grad()
        for parameter, gradient in zip(self.model.parameters(), self.gradients, strict=True):
            parameter.grad = gradient.detach()
        self.optimizer.step()

    def state(self) -> dict[str, Any]:
        return {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}

    def tensors(self) -> dict[str, Tensor]:
        moments = self.optimizer.state_dict()["state"]
        flat = {f"optimizer/{index}/{name}": value for index, state in moments.items() for name, value in state.items()}
        return {f"model/{name}": value for name, value in self.model.state_dict().items()} | flat

    @property
    def size(self) -> int:
        return sum(value.nbytes for value in self.tensors().values())


class Tool:
    """One way to save a training, over and over, into one folder."""

    early: ClassVar[bool] = False
    """Whether the call returns before the checkpoint is there."""

    def __init__(self, training: Training, folder: Path):
        self.training, self.folder = training, folder
        self.path = folder / "checkpoint"

    def save(self) -> None:
        raise NotImplementedError

    def settle(self) -> None:
        """Wait until the last save has ended."""

    def saved(self) -> dict[str, Tensor]:
        """The model's tensors of the last save."""
        raise NotImplementedError

    def close(self) -> None:
        """Leave nothing running."""


class TorchSave(Tool):
    def save(self) -> None:
        torch.save(self.training.state(), self.path)

    def saved(self) -> dict[str, Tensor]:
        return torch.load(self.path, weights_only=True)["model"]


class Gradnb(Tool):
    early = True

    def __init__(self, training: Training, folder: Path):
        super().__init__(training, folder)
        import gradnb

        self.open = lambda resume: gradnb.Checkpointer(folder, every=None, keep_last=2, resume=resume)
        self.checkpointer = self.open(False)
        self.checkpointer.track(model=training.model, optimizer=training.optimizer)

    def save(self) -> None:
        self.checkpointer.save()

    def settle(self) -> None:
        self.checkpointer.flush()

    def saved(self) -> dict[str, Tensor]:
        """As a second run finds it: a fresh model that resumes from the folder."""
        self.checkpointer.close()
        fresh = Training("large-tensors")
        checkpointer = self.open("must")
        checkpointer.track(model=fresh.model, optimizer=fresh.optimizer)
        with contextlib.closing(checkpointer):
            checkpointer.load(checkpointer.latest().id)
        self.checkpointer = self.open(False)
        self.checkpointer.track(model=self.training.model, optimizer=self.training.optimizer)
        return fresh.model.state_dict()

    def close(self) -> None:
        self.checkpointer.close()


class Safetensors(Tool):
    def save(self) -> None:
        from safetensors.torch import save_file

        save_file(self.training.tensors(), self.path)

    def saved(self) -> dict[str, Tensor]:
        from safetensors.torch import load_file

        return {name.removeprefix("model/"): value for name, value in load_file(self.path).items() if name.startswith("model/")}


class LightningAsync(TorchSave):
    early = True

    def __init__(self, training: Training, folder: Path):
        super().__init__(training, folder)
        try:
            from lightning.pytorch.plugins.io import AsyncCheckpointIO, TorchCheckpointIO
        except ImportError:
            from pytorch_lightning.plugins.io import AsyncCheckpointIO, TorchCheckpointIO
        self.open = lambda: AsyncCheckpointIO(TorchCheckpointIO())
        self.io = self.open()

    def save(self) -> None:
        self.io.save_checkpoint(self.training.state(), self.path)

    def settle(self) -> None:
        self.io.teardown()  # the only way to wait for it
        self.io = self.open()

    def close(self) -> None:
        self.io.teardown()


class DCP(Tool):
    def save(self) -> None:
        import torch.distributed.checkpoint as dcp

        dcp.save(self.training.state(), checkpoint_id=self.path, no_dist=True)

    def saved(self) -> dict[str, Tensor]:
        import torch.distributed.checkpoint as dcp

        model = {name: torch.empty_like(value) for name, value in self.training.model.state_dict().items()}
        dcp.load({"model": model}, checkpoint_id=self.path, no_dist=True)
        return model


class DCPAsync(DCP):
    early = True

    def __init__(self, training: Training, folder: Path):
        super().__init__(training, folder)
        self.stager: Any = None
        self.running: Any = None

    def save(self) -> None:
        import torch.distributed.checkpoint as dcp

        self.running = dcp.async_save(self.training.state(), checkpoint_id=self.path, async_stager=self.stager, no_dist=True)

    def settle(self) -> None:
        if self.running is not None:
            getattr(self.running, "upload_completion", self.running).result()


class DCPStaged(DCPAsync):
    """The stager copies in a thread, too: the caller would have to wait for it before the next optimizer step."""

    def __init__(self, training: Training, folder: Path):
        super().__init__(training, folder)
        from torch.distributed.checkpoint.staging import DefaultStager, StagingOptions

        self.stager = DefaultStager(StagingOptions(False, False, True, False))  # no pinned or shared memory, no CUDA stream

    def close(self) -> None:
        self.stager.close()


OWN: dict[str, type[Tool]] = {"torch.save": TorchSave, "gradnb": Gradnb}
OTHERS: dict[str, type[Tool]] = {
    "safetensors": Safetensors,
    "Lightning async": LightningAsync,
    "DCP": DCP,
    "DCP async": DCPAsync,
    "DCP async, stager thread": DCPStaged,
}


def written() -> int | None:
    """Bytes that this process has handed to the system for writing, where the system tells."""
    try:
        return int(dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())["wchar"])
    except (OSError, KeyError):
        return None


def stored(folder: Path, since: float) -> int:
    """Bytes of the files in a folder that have been written since a time."""
    stats = [path.stat() for path in folder.rglob("*") if path.is_file()]
    return sum(stat.st_size for stat in stats if stat.st_mtime >= since)


def measure(tools: dict[str, Tool], training: Training, rounds: int) -> dict[str, dict[str, float]]:
    """``blocked``, ``whole`` and ``bytes`` of each tool. Its first three saves are not counted: files and buffers are new then."""
    blocked: dict[str, list[float]] = {name: [] for name in tools}
    whole: dict[str, list[float]] = {name: [] for name in tools}
    size: dict[str, list[float]] = {name: [] for name in tools}
    names, warm = list(tools), 3
    for index in range(warm + rounds):
        shift = index % len(names)  # another order each round: whoever comes after the slowest must not always be the same one
        for name in names[shift:] + names[:shift]:
            training.step()
            tool, before, since = tools[name], written(), time.time()
            start = time.perf_counter()
            tool.save()
            returned = time.perf_counter() - start
            tool.settle()
            ended = time.perf_counter() - start
            after, on_disk = written(), stored(tool.folder, since - 0.02)  # a file's time is that of the last tick of the system's clock
            if index >= warm:
                blocked[name].append(returned)
                whole[name].append(ended)
                size[name].append(max(on_disk, after - before if after is not None and before is not None else 0))
    base = blocked["torch.save"]
    return {
        name: {
            "blocked_ms": 1000 * statistics.median(blocked[name]),
            "blocked": statistics.median(mine / other for mine, other in zip(blocked[name], base, strict=True)),
            "whole": statistics.median(mine / other for mine, other in zip(whole[name], base, strict=True)),
            "bytes": statistics.median(size[name]) / training.size,
        }
        for name in names
    }


def torn(tool: Tool, training: Training) -> int:
    """How many of the checkpoints do not hold the values of the save when the parameters change at once."""
    count = 0
    for _ in range(TORN):
        training.step()
        expected = {name: value.clone() for name, value in training.model.state_dict().items()}
        tool.save()
        with torch.no_grad():
            torch._foreach_add_(list(training.model.parameters()), 1.0)
        tool.settle()
        saved = tool.saved()
        count += not all(torch.equal(saved[name], value) for name, value in expected.items())
    return count


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Other tools print and warn."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def opened(ways: dict[str, type[Tool]], training: Training, base: Path) -> tuple[dict[str, Tool], dict[str, str]]:
    """The tools that have saved once here, and why one is left out."""
    tools: dict[str, Tool] = {}
    skipped: dict[str, str] = {}
    for name, way in ways.items():
        folder = base / name.replace(" ", "-").replace(",", "")
        folder.mkdir(parents=True)
        try:
            with quiet():
                tool = way(training, folder)
                tool.save()
                tool.settle()
        except ImportError as error:
            skipped[name] = f"not installed ({error.name})"
        except Exception as error:
            if name in OWN:
                raise
            skipped[name] = f"does not run here: {type(error).__name__}: {error}"[:150]
        else:
            tools[name] = tool
    return tools, skipped


def run(workload: str, ways: dict[str, type[Tool]], rounds: int, base: Path) -> tuple[dict[str, dict[str, float]], dict[str, str], int]:
    """The figures, why a tool is left out, and the bytes of the state."""
    training = Training(workload)
    tools, skipped = opened(ways, training, base / workload)
    with quiet():
        figures = measure(tools, training, rounds)
        for name, tool in tools.items():
            if workload == "large-tensors" and tool.early:
                figures[name]["torn"] = torn(tool, training)
            tool.close()
    shutil.rmtree(base / workload)
    size = training.size
    del training, tools
    gc.collect()
    return figures, skipped, size


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="exit 1 where a figure of gradnb is over its limit")
    parser.add_argument("--quick", action="store_true", help="few rounds")
    parser.add_argument("--only", default="", help="only the workloads whose name holds this")
    parser.add_argument("--without-others", action="store_true", help="gradnb and torch.save alone")
    parser.add_argument("--folder", default=None, help="where to save (default: the folder for temporary files)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)

    ways = OWN if args.without_others else {**OWN, **OTHERS}
    results: dict[str, dict[str, dict[str, float]]] = {}
    over: list[str] = []
    with tempfile.TemporaryDirectory(dir=args.folder) as temporary:
        for workload, rounds in ROUNDS.items():
            if args.only not in workload:
                continue
            figures, skipped, size = run(workload, ways, 5 if args.quick else rounds, Path(temporary))
            results[workload] = {name: {key: round(value, 4) for key, value in figure.items()} for name, figure in figures.items()}
            print(f"{workload}: {size / 1e6:.0f} MB, torch.save {figures['torch.save']['blocked_ms']:.1f} ms", flush=True)
            for name in ways:
                if name in skipped:
                    print(f"  {name:<26}skipped: {skipped[name]}", flush=True)
                    continue
                figure = figures[name]
                bad = [key for key, limit in LIMITS.items() if name == "gradnb" and figure.get(key, 0) > limit]
                over += [f"{workload} {key} {figure[key]:.3f} (limit {LIMITS[key]:g})" for key in bad]
                text = f"blocked {figure['blocked']:5.3f}   whole {figure['whole']:5.2f}   bytes {figure['bytes']:5.3f}"
                text += f"   torn {figure['torn']:.0f} of {TORN}" if "torn" in figure else ""
                print(f"  {name:<26}{text}{'   OVER: ' + ', '.join(bad) if bad else ''}", flush=True)
    return end(results, over, args.check)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
