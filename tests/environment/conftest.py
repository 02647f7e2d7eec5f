"""Drivers to order: a probe script of any behaviour, a command named nvidia-smi, a kernel that says it is WSL2."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from gradnb.machine import child, driver, facts

Order = Callable[[str], None]


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No driver and no host of this machine shows through."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin") + os.pathsep + "/usr/bin" + os.pathsep + "/bin")
    monkeypatch.setattr(driver, "PROC", tmp_path / "none")
    monkeypatch.setattr(driver, "WSL", tmp_path / "none")
    monkeypatch.setattr(torch.version, "cuda", None)  # a CPU build, whatever this one is
    for name in (*facts.VARIABLES, *(variable for variables in facts.HOSTS.values() for variable in variables)):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def probe(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Order:
    """Puts a script in the place of the probe; ``say(**facts)`` is there for it."""

    def order(body: str) -> None:
        head = "import ctypes, json, os, sys, time\ndef say(**fact): print('gradnb-probe:', json.dumps(fact), flush=True)\n"
        (tmp_path / "probe.py").write_text(head + textwrap.dedent(body))
        monkeypatch.setattr(child, "PROBE", tmp_path / "probe.py")

    return order


@pytest.fixture
def nvidia_smi(tmp_path: Path) -> Order:
    """A command nvidia-smi that runs a shell script."""

    def order(body: str) -> None:
        command = tmp_path / "bin" / "nvidia-smi"
        command.write_text(f"#!/bin/sh\n{body}\n")
        command.chmod(0o755)

    return order


@pytest.fixture
def wsl2(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "version").write_text("Linux version 5.15.153.1-microsoft-standard-WSL2 (root@941d701f84f1)\n")
    monkeypatch.setattr(facts, "KERNEL", tmp_path / "version")
