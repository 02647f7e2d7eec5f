"""Runs ``python -m gradnb`` as a user does: a real process, its own folder, its exit status."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LIMIT = 120  # seconds; nothing here comes near, but the machine may be busy

MODEL = """\
import sys
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Linear(4, 3)
        self.head = nn.Linear(3, 1)

    def forward(self, x):
        h = self.encoder(x)
        return self.head(h)


def main():
    torch.manual_seed(0)
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for step in range(3):
        loss = model(torch.randn(8, 4)).pow(2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        print("step", step, loss.item(), flush=True)


"""
MAIN = 'if __name__ == "__main__":\n    main()\n'
HEALTHY = MODEL + MAIN
BROKEN = HEALTHY.replace("self.head(h)", "self.head(h.detach())")
BROKEN_LINE = 1 + BROKEN[: BROKEN.index(".detach()")].count("\n")


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PYTHONFAULTHANDLER": "1"}


def python(folder: Path, *arguments: str, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Python on its own, to compare with; ``path`` is a further folder to import from."""
    variables = environment()
    if path is not None:
        variables["PYTHONPATH"] += os.pathsep + str(path)
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, timeout=LIMIT, check=False)


def gradnb(folder: Path, *arguments: str, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    return python(folder, "-m", "gradnb", *arguments, path=path)


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """``python -m gradnb``, running."""
    command = [sys.executable, "-m", "gradnb", *arguments]
    # a run in the background ignores Ctrl-C, and what it starts inherits that
    listening = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    return subprocess.Popen(
        command, cwd=folder, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=listening
    )
