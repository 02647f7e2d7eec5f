"""Scripts that are stopped from outside, and scripts that start processes of their own."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest
from running import LIMIT, MODEL, gradnb, start

FOREVER = (
    MODEL.replace("range(3)", "iter(int, 1)") + "try:\n    main()\nfinally:\n    print('cleaned up', file=sys.stderr)\n"
)  # iter(int, 1) never ends

CHILDREN = """\
import multiprocessing, os, pickle, sys
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset


class Numbers(Dataset):
    def __len__(self):
        return 8

    def __getitem__(self, index):
        trained = nn.Linear(4, 1)
        trained(torch.ones(1, 4)).sum().backward()
        assert torch._C._len_torch_function_stack() == 0 and nn.Module.__call__.__module__ == "torch.nn.modules.module"
        return torch.full((4,), float(index))


def child(queue):
    import gradnb

    nn.Linear(4, 1)(torch.ones(1, 4)).sum().backward()
    queue.put((__name__, os.path.basename(sys.modules["__main__"].__file__), gradnb.last_report()))


if __name__ == "__main__":
    model = nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for method in ("fork", "spawn"):
        for batch in DataLoader(Numbers(), batch_size=4, num_workers=2, multiprocessing_context=method):
            loss = model(batch).pow(2).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        context = multiprocessing.get_context(method)
        queue = context.Queue()
        process = context.Process(target=child, args=(queue,))
        process.start()
        print(*queue.get(), flush=True)
        process.join()
    if os.fork() == 0:
        nn.Linear(4, 1)(torch.ones(1, 4)).sum().backward()
        sys.exit(5)  # runs off the end of gradnb's own code too
    print("child ended with", os.waitstatus_to_exitcode(os.wait()[1]))
"""


def stopped(folder: Path, number: int) -> tuple[int, str]:
    """Start a script that trains for ever, send it a signal in mid-loop: its status, and what it said on stderr."""
    (folder / "train.py").write_text(FOREVER)
    process = start(folder, "train.py")
    try:
        assert process.stdout is not None
        for _ in range(7):
            assert process.stdout.readline().startswith("step"), process.communicate(timeout=5)
        process.send_signal(number)
        return process.wait(timeout=LIMIT), process.communicate(timeout=LIMIT)[1]
    finally:
        process.kill()


def test_ctrl_c_gives_the_report_so_far_and_ends_as_python_ends(tmp_path: Path) -> None:
    status, said = stopped(tmp_path, signal.SIGINT)
    assert status == -signal.SIGINT
    assert "cleaned up" in said and "5 steps recorded" not in said.split("\n")[0]
    assert "gradcheck: stopped by KeyboardInterrupt; no gradient fault found up to there" in said
    assert said.endswith("KeyboardInterrupt\n") and said.count("Traceback") == 1
    assert "gradnb/" not in said.replace(str(tmp_path), "") and "runpy" not in said


def test_sigterm_gives_the_report_so_far_and_ends_the_process_at_once(tmp_path: Path) -> None:
    status, said = stopped(tmp_path, signal.SIGTERM)
    assert status == -signal.SIGTERM
    assert "gradcheck: every trainable parameter gets a gradient (4 parameters" in said
    assert "the script was ended by SIGTERM" in said
    assert "cleaned up" not in said  # as without gradnb


def test_a_script_with_its_own_sigterm_handler_keeps_it(tmp_path: Path) -> None:
    own = "import os, signal\nsignal.signal(signal.SIGTERM, lambda *_: print('mine'))\nos.kill(os.getpid(), signal.SIGTERM)\n"
    (tmp_path / "train.py").write_text(own)
    done = gradnb(tmp_path, "train.py")
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "mine")


def test_a_child_dies_of_sigterm_without_a_word(tmp_path: Path) -> None:
    own = "child = multiprocessing.get_context('fork').Process(target=time.sleep, args=(60,))\n"
    own += "child.start()\nchild.terminate()\nchild.join()\nprint('child', child.exitcode)\n"
    (tmp_path / "train.py").write_text("import multiprocessing, time\n" + own)
    done = gradnb(tmp_path, "train.py")
    assert done.stdout.splitlines()[-1] == f"child {-signal.SIGTERM}"
    assert done.stderr.count("gradcheck:") == 1 and "SIGTERM" not in done.stderr


@pytest.mark.slow
def test_child_processes_record_nothing_and_print_nothing(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(CHILDREN)
    done: subprocess.CompletedProcess[str] = gradnb(tmp_path, "train.py")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "__main__ train.py None\n__mp_main__ train.py None\nchild ended with 5\n"
    assert done.stderr.count("gradcheck:") == 1 and done.stderr.startswith("gradcheck: every trainable parameter gets a gradient (2 ")


def test_a_crash_of_the_interpreter_hangs_nothing(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("import ctypes\nctypes.string_at(0)\n")
    assert gradnb(tmp_path, "train.py").returncode == -signal.SIGSEGV
