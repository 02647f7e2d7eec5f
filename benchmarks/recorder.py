"""What recording costs: a training step inside gradnb.check() beside a bare step and one under anomaly mode.

    python benchmarks/recorder.py [--check] [--quick] [--only NAME]

All three ways run in this one process, in short blocks that take turns, on one thread. A figure is the median over the
rounds of (median step of the block) / (median step of that round's bare block), so that a machine that slows down slows
all of them. Entering and leaving check() is outside the timed steps; what the report costs is measured by itself. Memory
is the peak resident set of fresh processes. The last line is JSON; --check exits 1 where a figure is over its limit.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from figures import end
from torch import nn

import gradnb

STEPS = 5  # a block, and what %%gradcheck records whole unless told otherwise
EVERY = 10**9  # record every step of a block

LIMITS = {
    "transformer": 1.10,
    "mlp": 1.15,
    "small-layers": 1.90,
    "memory": 0.10,
    "report-seconds": 0.5,
}

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


class Transformer(nn.Module):
    """12 layers, d 256, batch 8 x 64; `broken` loses the embedding's gradient, so that the report has work to do."""

    def __init__(self, broken: bool = False):
        super().__init__()
        self.broken = broken
        self.embed = nn.Embedding(1000, 256)
        layer = nn.TransformerEncoderLayer(256, 4, 1024, dropout=0.0, batch_first=True, norm_first=True)
        self.blocks = nn.TransformerEncoder(layer, 12, enable_nested_tensor=False)
        self.head = nn.Linear(256, 1000)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.embed(tokens)
        if self.broken:
            x = x.detach()
        return self.head(self.blocks(x)).flatten(0, 1)


class Training:
    """A model, its optimizer and one fixed batch; calling it takes one step."""

    def __init__(self, model: nn.Module, inputs: torch.Tensor, targets: torch.Tensor, loss: Loss):
        self.model, self.inputs, self.targets, self.loss = model, inputs, targets, loss
        self.optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)

    def __call__(self) -> None:
        self.optimizer.zero_grad()
        loss = self.loss(self.model(self.inputs), self.targets)
        loss.backward()
        self.optimizer.step()


def transformer(broken: bool = False) -> Training:
    tokens, targets = torch.randint(1000, (8, 64)), torch.randint(1000, (8 * 64,))
    return Training(Transformer(broken), tokens, targets, nn.functional.cross_entropy)


def stack(depth: int, width: int, batch: int) -> Training:
    layers: list[nn.Module] = []
    for _ in range(depth):
        linear = nn.Linear(width, width)
        nn.init.orthogonal_(linear.weight)  # a gradient that survives 200 layers: a dead network would be another measurement
        nn.init.zeros_(linear.bias)
        layers += [linear, nn.Tanh()]
    return Training(nn.Sequential(*layers), torch.randn(batch, width), torch.randn(batch, width), nn.functional.mse_loss)


# Plain SGD everywhere: the cheapest step, hence the least flattering ratio.
WORKLOADS: dict[str, tuple[Callable[[], Training], int]] = {
    "transformer": (transformer, 12),
    "mlp": (lambda: stack(12, 512, 64), 60),
    "small-layers": (lambda: stack(200, 4, 4), 60),
}


@contextlib.contextmanager
def recorded() -> Iterator[None]:
    with contextlib.redirect_stdout(io.StringIO()), gradnb.check(steps=EVERY):
        yield


MODES: dict[str, Callable[[], contextlib.AbstractContextManager]] = {
    "bare": contextlib.nullcontext,
    "recorded": recorded,
    "anomaly": lambda: torch.autograd.set_detect_anomaly(True),
}


def block(step: Training, mode: str) -> float:
    """The median of STEPS steps; the mode itself is entered and left off the clock."""
    times = []
    with MODES[mode]():
        for _ in range(STEPS):
            start = time.perf_counter()
            step()
            times.append(time.perf_counter() - start)
    return statistics.median(times)


def ratios(step: Training, rounds: int) -> dict[str, float]:
    for mode in MODES:
        block(step, mode)  # warm-up
    per_round: dict[str, list[float]] = {mode: [] for mode in MODES}
    modes = list(MODES)
    for index in range(rounds):
        # Another order each round: whoever comes after the report's garbage must not always be the same one.
        for mode in modes[index % 3 :] + modes[: index % 3]:
            per_round[mode].append(block(step, mode))
    figures = {"bare_ms": 1000 * statistics.median(per_round["bare"])}
    for mode in modes[1:]:
        figures[mode] = statistics.median(m / b for m, b in zip(per_round[mode], per_round["bare"], strict=True))
    return figures


def report_seconds(step: Training, repeats: int) -> tuple[float, float]:
    """From the end of the cell to the report as text and as html: what the user waits for. And the page with the explorer, on demand."""
    times, pages = [], []
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        for _ in range(repeats):
            with gradnb.check() as report:
                for _ in range(STEPS):
                    step()
                start = time.perf_counter()
            repr(report)
            report._repr_html_()
            times.append(time.perf_counter() - start)
            start = time.perf_counter()
            report.to_html(str(Path(folder) / "report.html"))
            pages.append(time.perf_counter() - start)
    return statistics.median(times), statistics.median(pages)


def resident(field: str) -> int:
    """VmRSS or VmHWM (its peak) in bytes. Not ru_maxrss: that one inherits the parent's peak."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"no {field} in /proc/self/status")


def memory_child(mode: str) -> None:
    """Prints the growth of the resident set over the resting process: by the steps, and by steps and report."""
    torch.manual_seed(0)
    step = transformer()
    step()  # libraries load and buffers grow on first use, in both modes
    step.optimizer.zero_grad()  # at rest: the model and the batch, no gradients
    with MODES[mode]():
        rest = resident("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew here
        for _ in range(STEPS):
            step()
        steps = resident("VmHWM") - rest
    print(json.dumps({"steps": steps, "all": resident("VmHWM") - rest}))


def memory(repeats: int) -> dict[str, float]:
    # Freed tensors go back to the system at once, so that the resident set is what is really held.
    env = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    grown: dict[str, list[dict[str, int]]] = {"bare": [], "recorded": []}
    for _ in range(repeats):
        for mode, seen in grown.items():
            out = subprocess.run(
                [sys.executable, __file__, "--memory-child", mode], env=env, check=True, capture_output=True, text=True
            ).stdout
            seen.append(json.loads(out.splitlines()[-1]))

    def peak(mode: str, key: str) -> float:
        return statistics.median(one[key] for one in grown[mode])

    own = peak("bare", "steps")
    return {
        "own_mb": own / 2**20,
        "extra": (peak("recorded", "steps") - own) / own,
        "extra_with_report": (peak("recorded", "all") - own) / own,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="exit 1 where a figure is over its limit")
    parser.add_argument("--quick", action="store_true", help="a quarter of the rounds")
    parser.add_argument("--only", default="", help="only the measurements whose name holds this")
    parser.add_argument("--memory-child", choices=["bare", "recorded"], help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.memory_child:
        memory_child(args.memory_child)
        return 0

    torch.manual_seed(0)
    figures: dict[str, float] = {}
    over: list[str] = []

    def note(name: str, value: float, text: str) -> None:
        figures[name] = round(value, 4)
        bad = value > LIMITS[name]
        over.extend([name] if bad else [])
        print(f"{name:<16}{text}   limit {LIMITS[name]:g}{'   OVER' if bad else ''}", flush=True)

    for name, (build, rounds) in WORKLOADS.items():
        if args.only in name:
            got = ratios(build(), max(4, rounds // 4) if args.quick else rounds)
            figures[f"{name}-anomaly"] = round(got["anomaly"], 4)
            figures[f"{name}-bare-ms"] = round(got["bare_ms"], 3)
            note(name, got["recorded"], f"{got['recorded']:.3f} x bare ({got['bare_ms']:.1f} ms); anomaly mode {got['anomaly']:.2f} x")
    if args.only in "report-seconds":
        (healthy, _), (broken, page) = (report_seconds(transformer(broken), 3) for broken in (False, True))
        figures.update({"report-seconds-healthy": round(healthy, 4), "page-seconds": round(page, 4)})
        told = f"{healthy:.3f} s healthy, {broken:.3f} s with a finding; page with the explorer {page:.3f} s more"
        note("report-seconds", max(healthy, broken), told)
    if args.only in "memory":
        if Path("/proc/self/clear_refs").exists():
            got = memory(1 if args.quick else 3)
            figures["memory-with-report"] = round(got["extra_with_report"], 4)
            figures["memory-own-mb"] = round(got["own_mb"], 1)
            more = f"{100 * got['extra']:+.1f} % of the step's own {got['own_mb']:.0f} MB"
            note("memory", got["extra"], f"{more}; with the report {100 * got['extra_with_report']:+.1f} %")
        else:
            print("memory          not measured: needs Linux's /proc")
    return end(figures, over, args.check)


if __name__ == "__main__":
    sys.exit(main())
