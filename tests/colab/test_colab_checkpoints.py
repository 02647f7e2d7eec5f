"""Checkpoints on Colab's Drive with Colab's versions; stand-ins for ``google.colab.drive`` and for the mount, a real kernel."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from kernel_session import Kernel
from test_colab_pins import python  # noqa: F401  (fixture)

pytestmark = pytest.mark.colab

DRIVE = """\
import os


def mount(mountpoint, force_remount=False, timeout_ms=120000, readonly=False):
    os.makedirs(mountpoint + "/MyDrive", exist_ok=True)
    print("Mounted at " + mountpoint)
"""
BEGIN = """\
import os, sys
os.environ["GRADNB_DRIVE_MOUNT"], os.environ["GRADNB_CHECKPOINTS"] = "{drive}", "{local}"
sys.path.insert(0, "{modules}")
%load_ext gradnb
"""
CELLS = """\
import gradnb, torch
torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Dropout(0.2), torch.nn.Linear(8, 1))
optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
loader = torch.utils.data.DataLoader(torch.randn(60, 4), batch_size=6, shuffle=True)
losses = []
ckpt = gradnb.Checkpointer("drive:MyDrive/run1", every=4)
ckpt.track(model=model, optimizer=optimizer, losses=losses);
for epoch, batch in ckpt.loop(loader, epochs=3):
    optimizer.zero_grad()
    loss = model(batch).square().mean()
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
"""


class Colab:
    """One runtime after the other, with one Drive."""

    def __init__(self, kernel: Kernel, folder: Path):
        self.kernel, self.drive, self.local = kernel, folder / "content" / "drive", folder / "local"
        self.modules = folder / "modules"
        for name, text in {"google/__init__.py": "", "google/colab/__init__.py": "", "google/colab/drive.py": DRIVE}.items():
            (self.modules / name).parent.mkdir(parents=True, exist_ok=True)
            (self.modules / name).write_text(text)

    def connect(self) -> None:
        ran = self.kernel.run(BEGIN.format(drive=self.drive, local=self.local, modules=self.modules))
        assert ran.status == "ok", ran.traceback

    def another_machine(self) -> None:
        self.kernel.manager.restart_kernel(now=True)
        self.kernel.client.wait_for_ready(timeout=60)
        shutil.rmtree(self.local)
        self.connect()


@pytest.fixture(scope="module")
def colab(python: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Colab]:  # noqa: F811
    kernel = Kernel(python)
    colab = Colab(kernel, tmp_path_factory.mktemp("colab"))
    colab.connect()
    yield colab
    kernel.close()


def at(step: int, what: str) -> str:
    return CELLS + f"    if len(losses) == {step}:\n        {what}\n"


def test_a_run_goes_on_on_another_machine_and_says_at_each_point_where_its_checkpoints_are(colab: Colab) -> None:
    run: Callable = colab.kernel.run
    run(CELLS.replace("drive:MyDrive/run1", str(colab.drive.parent / "whole")))
    expected = run("losses").results

    stopped = run(at(14, "ckpt.flush(); raise KeyboardInterrupt"))
    assert f"Mounted at {colab.drive}" in stopped.stdout
    assert f"beginning at step 0; checkpoints are written to {colab.local}" in stopped.stdout
    assert "3 checkpoints in drive:MyDrive/run1" in run("%gradckpt list").results[0]

    colab.another_machine()
    gone = f"os.rename('{colab.drive}', '{colab.drive}-away'); open('{colab.drive}', 'w').close()"
    ran = run(at(20, gone))
    assert ran.status == "ok" and "resumed at step 12 (epoch 1, batch 2) from drive:MyDrive/run1, checkpoint 000003" in ran.stdout
    assert ran.stdout.count("does not answer") <= 2 and "Training goes on" in ran.stdout
    assert "30 steps done; saved as 000008 on this machine; not yet in drive:MyDrive/run1: checkpoint 000008" in ran.stdout
    assert run("losses").results == expected

    ran = run("ckpt.flush(timeout=0.5)")
    assert ran.results == ["False"] and f"The copies on this machine are in {colab.local}" in ran.stdout
    (colab.drive).unlink()
    colab.drive.with_name("drive-away").rename(colab.drive)
    ran = run("ckpt.flush(timeout=20)")
    assert ran.results == ["True"] and "drive:MyDrive/run1 is up to date again" in ran.stdout
    listed = run("%gradckpt list").results[0].splitlines()
    assert "000008" in listed[2] and "only on this machine" not in listed[2]
    assert any("only on this machine" in line for line in listed[3:])  # what was overtaken before its turn


def test_where_drive_cannot_be_read_no_run_begins_at_step_0(colab: Colab) -> None:
    run: Callable = colab.kernel.run
    cells, loop = CELLS.replace("run1", "run2"), "for epoch" + CELLS.split("for epoch")[1]
    run(cells + "    if len(losses) == 6:\n        ckpt.flush(); raise KeyboardInterrupt\n")
    shutil.rmtree(colab.local)
    away = colab.drive.rename(colab.drive.with_name("away"))
    colab.drive.write_text("")
    for cell in (cells, loop):  # Run All, then only the cell that failed
        ran = run(cell)
        assert ran.errors[0]["ename"] == "RemoteError" and "not known whether there is a checkpoint" in ran.traceback
        assert "mount.py" not in ran.traceback and run("losses").results == ["[]"]
    colab.drive.unlink()
    away.rename(colab.drive)
    assert "resumed at step 4" in run(loop).stdout
