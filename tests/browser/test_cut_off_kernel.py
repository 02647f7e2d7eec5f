"""A notebook in a real JupyterLab whose kernel is killed in mid-epoch: Run All goes on from the right batch, the loss has no seam."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest

from .conftest import Lab, Watched

pytestmark = [pytest.mark.browser, pytest.mark.slow]

CELLS = [
    """\
import json
import os
import pathlib
import random
import time

import torch
from torch import nn
from torch.utils.data import DataLoader

import gradnb

%load_ext gradnb
%matplotlib inline
torch.manual_seed(0)
random.seed(0)
x = torch.linspace(-3, 3, 240).reshape(-1, 1)


def noisy(pairs):
    inputs = torch.stack([a + random.gauss(0, 0.05) for a, _ in pairs])  # augmentation with Python's randomness
    return inputs, torch.stack([b for _, b in pairs])


loader = DataLoader(list(zip(x, torch.sin(x))), batch_size=12, shuffle=True, collate_fn=noisy)
model = nn.Sequential(nn.Linear(1, 32), nn.Tanh(), nn.Dropout(0.02), nn.Linear(32, 1))
optimizer = torch.optim.AdamW(model.parameters(), lr=0.02)
scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 100)
losses = []""",
    """\
ckpt = gradnb.Checkpointer("run1", every=5)
ckpt.track(model=model, optimizer=optimizer, scheduler=scheduler, losses=losses);""",
    """\
for epoch, (inputs, targets) in ckpt.loop(loader, epochs=5):
    loss = nn.functional.mse_loss(model(inputs), targets)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    scheduler.step()
    losses.append(loss.item())
    pathlib.Path("at.json").write_text(json.dumps([os.getpid(), len(losses)]))
    time.sleep(PAUSE)""",
    """\
%gradckpt list""",
    """\
import matplotlib.pyplot as plt

plt.plot(losses)
plt.xlabel("step")
plt.ylabel("loss")
pathlib.Path("losses.json").write_text(json.dumps([loss.hex() for loss in losses]));""",
]
LOOP = ".jp-Notebook .jp-CodeCell:has-text('optimizer.zero_grad')"


def without_a_cut(folder: Path) -> list[str]:
    """The losses of the same cells in one go, without a pause."""
    cells = "\n".join(re.sub(r"^%.*", "pass", text, flags=re.M) for text in CELLS).replace("PAUSE", "0")
    subprocess.run([sys.executable, "-c", cells], cwd=folder, check=True, capture_output=True, env={**os.environ, "MPLBACKEND": "agg"})
    found: list[str] = json.loads((folder / "losses.json").read_text())
    return found


def at(folder: Path) -> tuple[int, int]:
    """The kernel's process and how many steps it has made."""
    try:
        process, step = json.loads((folder / "at.json").read_text())
    except (OSError, ValueError):
        return 0, 0
    return process, step


def wait(page: Any, condition: Callable[[], bool], seconds: int = 60) -> None:
    for _ in range(10 * seconds):
        if condition():
            return
        page.wait_for_timeout(100)
    raise AssertionError(f"nothing happened within {seconds} seconds")


def run_all(page: Any) -> None:
    page.wait_for_function("() => window.jupyterapp.shell.currentWidget?.context?.sessionContext?.session?.kernel?.status === 'idle'")
    page.evaluate("() => { window.jupyterapp.commands.execute('notebook:run-all-cells'); }")


def test_run_all_after_the_kernel_was_killed_goes_on_without_a_seam(page: Any, lab: Lab, shots: Path, tmp_path: Path) -> None:
    expected = without_a_cut(tmp_path)
    assert len(expected) == 100
    folder = lab.folder / "cut"
    folder.mkdir()
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(text.replace("PAUSE", "0.06")) for text in CELLS])
    book.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(book, folder / "cut.ipynb")
    lab.theme("JupyterLab Light")
    watched = Watched(page)
    page.goto(lab.url("cut/cut.ipynb"))
    page.wait_for_selector(LOOP)
    page.wait_for_selector("#jupyterlab-splash", state="detached")
    run_all(page)
    wait(page, lambda: at(folder)[1] >= 47)
    first = at(folder)[0]
    os.kill(first, signal.SIGKILL)  # what a Colab runtime that is cut off looks like to the notebook

    page.locator(".jp-Dialog").wait_for()  # "The kernel has died; it is restarted"
    page.locator(".jp-Dialog button:has-text('Ok')").click()
    reached = at(folder)[1]
    run_all(page)
    wait(page, lambda: (folder / "losses.json").exists())
    page.locator(".jp-Notebook img").wait_for()

    said = page.locator(LOOP).locator(".jp-OutputArea").inner_text()
    found = re.search(r"resumed at step (\d+) \(epoch 2, batch (\d+)\)", said)
    assert found, said
    assert 40 <= int(found[1]) <= reached and int(found[1]) == 40 + int(found[2])
    assert at(folder)[0] != first
    assert json.loads((folder / "losses.json").read_text()) == expected
    page.locator(".jp-Notebook img").scroll_into_view_if_needed()
    page.screenshot(path=shots / "cut-off-and-resumed.png")
    assert "5 checkpoints in" in page.locator(".jp-Notebook .jp-CodeCell:has-text('%gradckpt list')").inner_text()
    assert not [text for text in watched.complaints if "gradnb" in text.lower()]
