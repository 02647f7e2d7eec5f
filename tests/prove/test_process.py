"""The processes of a proof: they leave the user's files, random numbers, output and children alone, and they end."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from in_process import Shell

import gradnb
from gradnb.prove import proof, spare

SETUP = """\
import os, random, sys, time
import torch
from torch import nn
torch.manual_seed(0)
encoder, head = nn.Linear(4, 3), nn.Linear(3, 1)
optimizer = torch.optim.SGD([*encoder.parameters(), *head.parameters()], lr=0.1)
batch = torch.randn(8, 4)
here = os.getpid()
"""
STEP = "loss = head(encoder(batch).detach()).pow(2).mean()\noptimizer.zero_grad()\nloss.backward()\noptimizer.step()\n"


def proof_of(shell: Shell, cell: str, setup: str = SETUP) -> dict[str, Any]:
    shell.run(setup)
    shell.run("%%gradcheck --prove\n" + cell)
    report = gradnb.last_report()
    assert report is not None and report.findings, report
    found = report.findings[0].proof
    assert found is not None
    return found


def test_what_a_cell_writes_is_written_once(shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "kept.txt").write_text("kept")
    cell = (
        "with open('log.txt', 'a') as log:\n    print('a step', file=log)\n"
        "already.write('x')\nalready.flush()\n"
        "torch.save(head.state_dict(), f'head-{os.getpid() == here}.pt')\n"
        + STEP
        + "os.path.exists('kept.txt') and os.remove('kept.txt')\n"
    )
    shell.run("already = open('already.txt', 'w')")
    found = proof_of(shell, cell)
    assert found["proven"] is True, found
    shell.names["already"].close()
    assert (tmp_path / "log.txt").read_text() == "a step\n" and (tmp_path / "already.txt").read_text() == "x"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["already.txt", "head-True.pt", "log.txt"]


def test_a_cell_that_has_to_read_what_it_wrote_is_left_open_and_says_so(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    open_ = proof_of(shell, "os.mkdir(f'run{os.getpid()}')\n" + STEP)
    assert open_["proven"] is None and "changes 'run" in open_["text"] and "not done a second time" in open_["text"]
    assert len(list(tmp_path.iterdir())) == 1


def test_an_open_file_keeps_its_position_and_is_read_again_from_where_the_cell_began(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "data.txt").write_text("1\n2\n3\n")
    shell.names["data"] = data = open(tmp_path / "data.txt", buffering=1)
    assert data.readline() == "1\n"
    fd = os.open(tmp_path / "data.txt", os.O_RDONLY)
    shell.names["fd"] = fd
    again = proof_of(shell, "got = os.read(fd, 2)\nassert got == b'1\\n'\n" + STEP)
    assert again["proven"] is True
    assert os.read(fd, 2) == b"2\n" and data.readline() == "2\n"
    os.close(fd)
    data.close()


def test_random_numbers_are_the_same_in_the_proof_and_untouched_by_it(shell: Shell) -> None:
    setup = SETUP + "import numpy as np\nrandom.seed(1); np.random.seed(1)\n"
    cell = "draws = [random.random(), np.random.rand(), torch.rand(1).item()]\nassert os.getpid() == here or draws == known\n" + STEP
    shell.run(setup)
    shell.run("known = [random.random(), np.random.rand(), torch.rand(1).item()]")
    known = shell.names["known"]
    assert proof_of(
        shell, cell, setup + f"known = {known!r}\ntorch.manual_seed(5); known[2] = torch.rand(1).item(); torch.manual_seed(5)\n"
    )["proven"]
    after = [shell.run(f"{source}").value for source in ("random.random()", "np.random.rand()", "torch.rand(1).item()")]
    shell.run(setup + "torch.manual_seed(5)\n")
    shell.run(cell)
    assert after == [shell.run(f"{source}").value for source in ("random.random()", "np.random.rand()", "torch.rand(1).item()")]


def test_the_cell_computes_the_same_bits_with_a_proof_as_without(shell: Shell) -> None:
    weights = []
    for options in ("--prove", ""):
        shell.run(SETUP)
        shell.run(f"%%gradcheck {options}\n" + STEP * 3)
        weights.append([parameter.detach().clone() for parameter in shell.names["head"].parameters()])
    assert all(torch.equal(one, other) for one, other in zip(*weights, strict=True))


def test_what_a_cell_prints_and_displays_is_shown_once(shell: Shell) -> None:
    shell.run(SETUP)
    cell = STEP + "print('printed'); os.write(1, b''); display('displayed'); print('warned', file=sys.stderr)\n!echo shouted\n'value'"
    ran = shell.run("from IPython.display import display\n" + SETUP)
    ran = shell.run("%%gradcheck --prove\n" + cell)
    assert gradnb.last_report().findings[0].proof["proven"] is True  # type: ignore[union-attr, index]
    for word in ("printed", "'displayed'", "'value'"):
        assert ran.out.count(word) == 1 + (word == "'displayed'") * 0, ran.out
    assert ran.err.count("warned") == 1 and ran.error is None


def test_a_cell_that_asks_for_input_gets_none_in_the_proof(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("builtins.input", lambda prompt="": "5")
    asked = proof_of(shell, "steps = int(input('steps? '))\n" + STEP)
    assert asked["proven"] is None and "asks for input" in asked["text"]


def test_a_run_that_takes_too_long_is_given_up(program: Any) -> None:
    source = SETUP + STEP.replace("head(", "head(  # fault\n    ") + "time.sleep(0 if os.getpid() == here else 100)\n"
    code = program(
        source.replace("here = os.getpid()", f"here = {os.getpid()}").replace("loss = head(", "time.sleep(100)\nloss = head(", 1)
    )
    begun = time.monotonic()
    (found,) = code.prove(code.claim("detach", "fault", ("encoder.weight", "encoder.bias")), limit=3.0)
    assert found.proven is None and "took too long" in found.text
    assert time.monotonic() - begun < 30


def test_a_run_that_dies_is_told(program: Any) -> None:
    code = program(SETUP + "os.kill(os.getpid(), 9)\n" + STEP.replace("loss =", "loss =  ").replace("\n", "  # fault\n", 1))
    (found,) = code.prove(code.claim("detach", "fault", ("encoder.weight", "encoder.bias")))
    assert found.proven is None and "ended without a word" in found.text


def test_workers_of_a_data_loader_run_in_the_proof_too(shell: Shell) -> None:
    cell = (
        "from torch.utils.data import DataLoader, TensorDataset\n"
        "for (batch,) in DataLoader(TensorDataset(torch.randn(16, 4)), batch_size=8, num_workers=2):\n" + textwrap.indent(STEP, "    ")
    )
    assert proof_of(shell, cell)["proven"] is True


def test_user_code_that_waits_for_its_children_does_not_wait_for_the_spare() -> None:
    """In a process of its own, which has no other children."""
    cell = (
        STEP + "pid = os.fork()\nif pid == 0:\n    os._exit(0)\ngone = []\ntry:\n    while True:\n        gone.append(os.wait()[0])\n"
        "except ChildProcessError:\n    pass\nassert gone == [pid]\n"
    )
    with _python(cell) as process:
        out, err = process.communicate(timeout=300)
    assert "\nproven: with this line repaired" in "\n" + out.strip().splitlines()[-1], err


def test_where_no_fork_is_possible_the_report_says_why_nothing_is_proven(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(torch.cuda, "is_available", lambda: True)
        patch.setattr(torch.cuda, "is_initialized", lambda: True)
        reason = spare.why_not()
    assert "proof needs fork" in reason and "CUDA is initialised" in reason and not spare.why_not()
    with monkeypatch.context() as patch:
        patch.delattr(os, "fork")
        assert "this system has not got" in spare.why_not()
    monkeypatch.setattr(proof, "why_not", lambda: reason)
    shell.run(SETUP)
    ran = shell.run("%%gradcheck --prove\n" + STEP)
    finding = gradnb.last_report().findings[0]  # type: ignore[union-attr]
    assert ran.error is None and finding.proof == {"proven": None, "text": f"not proven: {reason}"}
    assert "CUDA is initialised" in ran.out


def test_an_interrupt_during_the_proof_ends_it_and_the_report_is_shown(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*args: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(spare.Spare, "prove", interrupted)
    shell.run(SETUP)
    ran = shell.run("%%gradcheck --prove\n" + STEP)
    assert "error[detach]" in ran.out and "the proof was interrupted" in ran.out


SCRIPT = """\
import os, sys, time
import torch
torch.set_num_threads(4)
a = torch.randn(600, 600); (a @ a).sum().item()  # now torch has worker threads, which no fork takes along
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
shell.run_cell("%load_ext gradnb")
shell.run_cell({setup!r})
shell.run_cell("%%gradcheck --prove\\n" + {cell!r})
import gradnb
print(gradnb.last_report().findings[0].proof["text"], flush=True)
"""


def _python(cell: str, **more: Any) -> subprocess.Popen[str]:
    env = {**os.environ, "IPYTHONDIR": os.devnull, "OMP_NUM_THREADS": "4"}
    text = SCRIPT.format(setup=SETUP, cell=cell)
    return subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env, **more)


def test_a_process_with_worker_threads_can_prove() -> None:
    with _python("batch = torch.randn(256, 4)\nbig = torch.randn(600, 600); big = big @ big\n" + STEP) as process:
        out, err = process.communicate(timeout=300)
    assert "\nproven: with this line repaired" in "\n" + out.strip().splitlines()[-1], err


def test_when_the_kernel_is_killed_the_spare_and_what_it_runs_end_with_it(tmp_path: Path) -> None:
    mark = f"marked-{os.getpid()}-{time.monotonic_ns()}"
    cell = f"mark = {mark!r}\n" + STEP + "time.sleep(0 if os.getpid() == here else 300)\n"
    slow = cell.replace("loss = head", "time.sleep(0 if os.getpid() == here else 300)\nloss = head", 1)
    with _python(slow) as process:
        end = time.monotonic() + 120
        while len(_with(mark)) < 3 and time.monotonic() < end:  # the kernel, the spare, and a run
            time.sleep(0.2)
        assert len(_with(mark)) >= 3
        process.kill()
    end = time.monotonic() + 20
    while _with(mark) and time.monotonic() < end:
        time.sleep(0.2)
    assert not _with(mark)


def _with(mark: str) -> list[str]:
    """The running processes with a word on their command line, which a fork inherits."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                if mark.encode() in (folder / "cmdline").read_bytes() and b"Z" not in (folder / "stat").read_bytes().split()[2:3]:
                    found.append(folder.name)
            except OSError:
                continue
    return found
