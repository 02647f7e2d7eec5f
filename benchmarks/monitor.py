"""What watching costs: a training step under gradnb.watch() beside a bare one, and beside what other tools take for it.

    python benchmarks/monitor.py [--check] [--quick] [--only NAME] [--without-others]

Each way has a model and an optimizer of its own, made from the same seed; they train in this one process, on one thread, in blocks of
ten steps that take turns. Five blocks are summed up: fifty steps, of which one measures weights and updates, as by default after the
first hundred. A figure is the median over these of (time) / (time of the bare ones beside them), so that a machine that slows down slows
all. Time is the processor time of the process, all threads together: on a shared machine others take turns, too.
Other tools are measured where they are installed: wandb.watch (offline), TensorBoard histograms, Lightning's grad_norm, torchmortem,
torch-audit. The last line is JSON; --check exits 1 where a figure is over its limit.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator

import torch
from figures import end
from torch import nn

import gradnb

STEPS = 10  # a block
WARM = 105  # steps before the clock runs: in the first hundred the monitor looks more often
SUMMED = 5  # blocks

LIMITS = {
    "mlp": {"monitor": 1.05, "every=10": 1.02, "updates": 1.15},
    "small-tensors": {"monitor": 1.09, "every=10": 1.03, "updates": 1.25},
    "transformer": {"monitor": 1.02, "every=10": 1.01, "updates": 1.03},
}

Hook = Callable[[], None]
"""Called between backward and step."""


class Transformer(nn.Module):
    """6 layers, d 256, batch 8 x 64."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(1000, 256)
        layer = nn.TransformerEncoderLayer(256, 4, 1024, dropout=0.0, batch_first=True, norm_first=True)
        self.blocks = nn.TransformerEncoder(layer, 6, enable_nested_tensor=False)
        self.head = nn.Linear(256, 1000)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.head(self.blocks(self.embed(tokens))).flatten(0, 1)


def stack(depth: int, width: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for _ in range(depth):
        linear = nn.Linear(width, width)
        nn.init.orthogonal_(linear.weight)  # a gradient that survives 200 layers: a dead network would be another measurement
        nn.init.zeros_(linear.bias)
        layers += [linear, nn.Tanh()]
    return nn.Sequential(*layers)


class Training:
    """A model, AdamW and one fixed batch."""

    def __init__(self, workload: str):
        torch.manual_seed(0)
        self.loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] = nn.functional.mse_loss
        if workload == "transformer":
            self.model: nn.Module = Transformer()
            self.inputs, self.targets = torch.randint(1000, (8, 64)), torch.randint(1000, (8 * 64,))
            self.loss = nn.functional.cross_entropy
        else:
            self.model = stack(12, 512) if workload == "mlp" else stack(200, 4)
            self.inputs, self.targets = (
                (torch.randn(64, 512), torch.randn(64, 512)) if workload == "mlp" else (torch.randn(4, 4), torch.randn(4, 4))
            )
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-4)
        self.between: Hook | None = None

    def __call__(self) -> None:
        self.optimizer.zero_grad()
        loss = self.loss(self.model(self.inputs), self.targets)
        loss.backward()
        if self.between is not None:
            self.between()
        self.optimizer.step()

    def block(self) -> float:
        start = time.process_time()
        for _ in range(STEPS):
            self()
        return time.process_time() - start


# The ways, each a context in which a training is watched.


@contextlib.contextmanager
def bare(training: Training) -> Iterator[None]:
    yield


def watched(**options: object) -> Callable[[Training], contextlib.AbstractContextManager]:
    return lambda training: gradnb.watch(training.model, training.optimizer, **options)  # type: ignore[arg-type]


@contextlib.contextmanager
def naive(training: Training) -> Iterator[None]:
    """What users write: p.grad.norm().item() for each parameter."""
    training.between = lambda: [parameter.grad.norm().item() for parameter in training.model.parameters()] and None  # type: ignore[union-attr]
    yield


@contextlib.contextmanager
def fused(training: Training) -> Iterator[None]:
    """The least that can be paid for the norm of each gradient: one fused call, one stack, one transfer."""

    def between() -> None:
        torch.stack(torch._foreach_norm([parameter.grad for parameter in parameters])).tolist()  # type: ignore[misc]

    parameters = list(training.model.parameters())
    training.between = between
    yield


@contextlib.contextmanager
def wandb_watch(training: Training) -> Iterator[None]:
    import wandb

    with tempfile.TemporaryDirectory() as folder:
        run = wandb.init(mode="offline", dir=folder, settings=wandb.Settings(silent=True, console="off"))
        run.watch(training.model, log="gradients", log_freq=1)
        training.between = lambda: run.log({})
        yield
        run.finish()


@contextlib.contextmanager
def tensorboard_histograms(training: Training) -> Iterator[None]:
    from torch.utils.tensorboard import SummaryWriter

    with tempfile.TemporaryDirectory() as folder:
        writer = SummaryWriter(folder)
        step = iter(range(10**9))

        def between() -> None:
            number = next(step)
            for name, parameter in training.model.named_parameters():
                writer.add_histogram(name, parameter.grad, number)

        training.between = between
        yield
        writer.close()


@contextlib.contextmanager
def lightning_grad_norm(training: Training) -> Iterator[None]:
    try:
        from lightning.pytorch.utilities import grad_norm
    except ImportError:
        from pytorch_lightning.utilities import grad_norm
    training.between = lambda: grad_norm(training.model, norm_type=2) and None
    yield


@contextlib.contextmanager
def torchmortem_watch(training: Training) -> Iterator[None]:
    from torchmortem import Autopsy

    with Autopsy(training.model) as autopsy:
        training.between = lambda: autopsy.step(loss=0.0) if hasattr(autopsy, "step") else None
        yield


@contextlib.contextmanager
def torch_audit_watch(training: Training) -> Iterator[None]:
    from torch_audit import autopatch

    with contextlib.redirect_stdout(io.StringIO()):  # it prints what it finds
        auditor = autopatch(training.model, optimizer=training.optimizer, every_n_steps=1, fail_level="FATAL", reporters=[])
    try:
        yield
    finally:
        auditor.unpatch()


OWN: dict[str, Callable[[Training], contextlib.AbstractContextManager]] = {
    "bare": bare,
    "monitor": watched(),
    "every=10": watched(every=10),
    "updates": watched(updates=True),
    "norms alone, by hand": fused,
}
OTHERS: dict[str, Callable[[Training], contextlib.AbstractContextManager]] = {
    "naive loop": naive,
    "wandb.watch": wandb_watch,
    "TensorBoard histograms": tensorboard_histograms,
    "Lightning grad_norm": lightning_grad_norm,
    "torchmortem": torchmortem_watch,
    "torch-audit": torch_audit_watch,
}
ROUNDS = {"mlp": 40, "small-tensors": 75, "transformer": 15}
COPIES = {"mlp": 1, "small-tensors": 3, "transformer": 1}
"""Of the bare training and of ours, which take turns: where 400 small tensors happen to lie in memory makes two bare ones differ by 2 %."""


def ratios(
    workload: str, ways: dict[str, Callable[[Training], contextlib.AbstractContextManager]], rounds: int
) -> tuple[dict[str, float], dict[str, str]]:
    """The ratio of each way, and why one is left out."""
    skipped: dict[str, str] = {}
    with contextlib.ExitStack() as open_ones:
        trainings: dict[str, list[Training]] = {}
        own, others = ([one for one in ways.items() if (one[0] in OWN) is mine] for mine in (True, False))
        for name, way in own * COPIES[workload] + others:
            training = Training(workload)
            try:
                with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                    open_ones.enter_context(way(training))
                    for _ in range(WARM if name in OWN and name != "bare" else 2):
                        training()
            except ImportError as error:
                skipped[name] = f"not installed ({error.name})"
            except Exception as error:
                skipped[name] = f"does not run here: {type(error).__name__}: {error}"[:150]
            else:
                trainings.setdefault(name, []).append(training)
        times: dict[str, list[float]] = {name: [] for name in trainings}
        names = list(trainings)
        for index in range(rounds):
            shift = index % len(names)  # another order each round: whoever comes after the slowest must not always be the same one
            for name in names[shift:] + names[:shift]:
                mine = trainings[name]
                times[name].append(mine[index // SUMMED % len(mine)].block())
    sums = {name: [sum(mine[at : at + SUMMED]) for at in range(0, rounds, SUMMED)] for name, mine in times.items()}
    figures = {"bare_ms": 1000 * statistics.median(times["bare"]) / STEPS}
    for name in names:
        if name != "bare":
            figures[name] = statistics.median(mine / base for mine, base in zip(sums[name], sums["bare"], strict=True))
    return figures, skipped


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="exit 1 where a figure is over its limit")
    parser.add_argument("--quick", action="store_true", help="as few rounds as can be")
    parser.add_argument("--only", default="", help="only the workloads whose name holds this")
    parser.add_argument("--without-others", action="store_true", help="gradnb alone")
    args = parser.parse_args()
    torch.set_num_threads(1)
    os.environ.setdefault("WANDB_SILENT", "true")

    figures: dict[str, dict[str, float]] = {}
    over: list[str] = []
    told: set[str] = set()
    for workload, limits in LIMITS.items():
        if args.only not in workload:
            continue
        rounds = SUMMED if args.quick else ROUNDS[workload]
        ways = OWN if args.without_others else {**OWN, **OTHERS}
        got, skipped = ratios(workload, ways, rounds)
        figures[workload] = {name: round(value, 4) for name, value in got.items()}
        print(f"{workload}: bare step {got['bare_ms']:.2f} ms", flush=True)
        for name in ways:
            if name in got:
                limit = limits.get(name)
                bad = limit is not None and got[name] > limit
                over += [f"{workload} {name}"] if bad else []
                print(f"  {name:<24}{got[name]:.3f} x bare{f'   limit {limit:g}' if limit else ''}{'   OVER' if bad else ''}", flush=True)
            elif name in skipped and name not in told:
                told.add(name)
                print(f"  {name:<24}skipped: {skipped[name]}", flush=True)
    return end(figures, over, args.check)


if __name__ == "__main__":
    sys.exit(main())
