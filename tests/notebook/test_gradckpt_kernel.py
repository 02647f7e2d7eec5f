"""Checkpoints in a real kernel: the stop button, a restart in mid-loop, and what an error looks like."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kernel_session import Kernel

SETUP = """\
import signal
import threading
import time

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import gradnb

torch.manual_seed(0)


class Slow(TensorDataset):
    def __getitem__(self, at):
        time.sleep(LOADING)
        return super().__getitem__(at)


x = torch.randn(80, 4)
loader = DataLoader(Slow(x, x.sum(1, keepdim=True)), batch_size=8, shuffle=True)
model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.1), nn.Linear(8, 1))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
losses = []
"""
MAKE = """\
ckpt = gradnb.Checkpointer("RUN", every=4)
ckpt.track(model=model, optimizer=optimizer, losses=losses);
"""
LOOP = """\
for epoch, (inputs, targets) in ckpt.loop(loader, epochs=2):
    loss = nn.functional.mse_loss(model(inputs), targets)
    optimizer.zero_grad()
    loss.backward()
    print("at", len(losses), flush=True)
    time.sleep(PAUSE)
    optimizer.step()
    losses.append(loss.item())
"""


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    kernel = Kernel(sys.executable)
    kernel.run(f"import os; os.chdir({str(tmp_path_factory.mktemp('run'))!r})\nLOADING = PAUSE = 0")
    kernel.run(SETUP + MAKE.replace("RUN", "whole") + LOOP + "expected = list(losses)")
    assert kernel.run("len(expected)").results == ["20"]
    yield kernel
    kernel.close()


def begin(kernel: Kernel, run: str, loading: float = 0, pause: float = 0) -> None:
    """The first cells of the notebook, as they are run again each time."""
    ran = kernel.run(f"LOADING, PAUSE = {loading}, {pause}\n" + SETUP + MAKE.replace("RUN", run))
    assert ran.status == "ok", ran.traceback


def lines(ran: Any) -> list[str]:
    """The traceback without the cell's own lines around the arrow."""
    return [line for line in ran.traceback.splitlines() if line.strip()]


def test_the_stop_button_saves_the_step_stops_run_all_and_the_same_cells_go_on(kernel: Kernel) -> None:
    begin(kernel, "stop", pause=0.2)
    pressed: list[int] = []

    def press(ran: Any) -> None:
        if "at 6" in ran.stdout and not pressed:
            pressed.append(1)
            kernel.manager.interrupt_kernel()

    handlers = kernel.run("signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)").results
    stopped, later = kernel._collect([kernel.client.execute(LOOP), kernel.client.execute("print('later')")], press)
    assert stopped.status == "error" and later.status == "aborted" and not later.stdout
    assert "this step is finished and saved first" in stopped.stdout and "at 7" not in stopped.stdout
    assert "saved as 000002, step 7, in stop; the same cells again go on from here" in stopped.stdout
    assert lines(stopped)[-1].startswith("KeyboardInterrupt") and "ckpt.loop" in stopped.traceback and "keeper.py" not in stopped.traceback
    assert kernel.run("signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)").results == handlers

    begin(kernel, "stop")
    ran = kernel.run(LOOP)
    assert "resumed at step 7 (epoch 0, batch 7) from stop, checkpoint 000002" in ran.stdout and "at 6" not in ran.stdout
    assert kernel.run("losses == expected").results == ["True"]


def test_a_second_press_stops_at_once_and_says_what_is_lost(kernel: Kernel) -> None:
    begin(kernel, "twice")
    presses: list[int] = []

    def press(ran: Any) -> None:
        if len(presses) == 0 and "in the step" in ran.stdout or len(presses) == 1 and "interrupt again" in ran.stdout:
            presses.append(1)
            kernel.manager.interrupt_kernel()

    cell = LOOP + "    if len(losses) == 6:\n        print('in the step', flush=True)\n        time.sleep(30)\n"
    stopped = kernel._collect([kernel.client.execute(cell)], press)[0]
    assert stopped.status == "error" and len(presses) == 2
    assert "stopped in the middle of a step, which is not saved; the same cells again go on from 000001, step 4" in stopped.stdout
    begin(kernel, "twice")
    kernel.run(LOOP)
    assert kernel.run("losses == expected").results == ["True"]


def test_while_the_batches_are_taken_again_there_is_no_step_to_wait_for(kernel: Kernel) -> None:
    begin(kernel, "again")
    kernel.run(LOOP.replace("time.sleep(PAUSE)", "assert len(losses) < 8"))
    begin(kernel, "again", loading=0.05)
    stopped = kernel.run_interrupted(LOOP, "resumed at step 8")
    assert stopped.status == "error" and "at 8" not in stopped.stdout
    assert "interrupted before a step was made; the same cells again go on from 000002, step 8" in stopped.stdout
    assert "dataloader.py" not in stopped.traceback
    kernel.run("LOADING = 0")
    kernel.run(LOOP)  # only this cell
    assert kernel.run("losses == expected").results == ["True"]


def test_a_loop_of_ones_own_leaves_no_handler_behind_its_cell(kernel: Kernel) -> None:
    begin(kernel, "own")
    own = "for step in range(ckpt.resume(), 3):\n    ckpt.step()\ninside = signal.getsignal(signal.SIGTERM)"
    assert kernel.run(own).status == "ok"
    assert kernel.run("inside, signal.getsignal(signal.SIGTERM)").results[0].startswith("(<bound method Signals")
    assert kernel.run("signal.getsignal(signal.SIGTERM) == signal.SIG_DFL").results == ["True"]
    stopped = kernel.run_interrupted("print('here')\ntime.sleep(30)", "here")
    assert stopped.status == "error" and "gradnb" not in stopped.stdout


def test_an_error_is_the_users_line_and_the_message_and_running_the_cell_again_is_no_way_around_it(kernel: Kernel) -> None:
    begin(kernel, "wrong")
    kernel.run(LOOP)
    kernel.run("model = nn.Linear(2, 2)\noptimizer = torch.optim.SGD(model.parameters(), 0.1)\n" + MAKE.replace("RUN", "wrong"))
    for _ in range(2):
        ran = kernel.run(LOOP)
        assert ran.errors[0]["ename"] == "MismatchError" and "at 0" not in ran.stdout
        assert "model.0.weight: in the checkpoint, not in the module now" in ran.traceback
        assert "ckpt.loop(loader, epochs=2)" in ran.traceback and ".py" not in ran.traceback
    ran = kernel.run("gradnb.Checkpointer('x', every='often')")
    assert ran.errors[0]["ename"] == "UsageError" and len(lines(ran)) <= 5 and "often" in lines(ran)[-1]
    shown = kernel.run("ckpt.latest()").results[0]
    assert shown.startswith("checkpoint 000005: step 20 (epoch 2)") and "\n" not in shown


def test_a_restart_in_mid_loop_loses_nothing(kernel: Kernel) -> None:
    folder = Path(kernel.run("print(os.getcwd())").stdout.strip())
    kernel.run("import json; json.dump(expected, open('expected.json', 'w'))")
    begin(kernel, "restart", pause=0.1)
    kernel.client.execute(LOOP)
    while "at 6" not in (said := kernel.client.get_iopub_msg(timeout=60)["content"].get("text", "")):
        assert "Error" not in said
    kernel.manager.restart_kernel(now=False)
    kernel.client.wait_for_ready(timeout=60)
    kernel.run(f"import json, os; os.chdir({str(folder)!r})\nexpected = json.load(open('expected.json'))")
    begin(kernel, "restart")
    assert "resumed at step 7" in kernel.run(LOOP).stdout
    assert kernel.run("losses == expected").results == ["True"]
