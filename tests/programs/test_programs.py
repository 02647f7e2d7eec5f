"""Real programs with the libraries that train through torch: healthy ones stay silent and the same, broken ones are named.

Each file of ``cells`` is one notebook cell. A line ``# <- here <cause>`` marks what is wrong in it; a cell without one is
healthy. A cell whose library is not installed is skipped: `make test-programs` has an environment with all of them.
"""

from __future__ import annotations

import ast
import importlib.util
import re
import sys
from pathlib import Path

import pytest
import torch

from tests.twice import assert_healthy, twice

CELLS = sorted((Path(__file__).parent / "cells").glob("*.py"))
MARK = re.compile(r"# <- here (\S+)")
BROKEN = [cell for cell in CELLS if MARK.search(cell.read_text())]
HEALTHY = [cell for cell in CELLS if cell not in BROKEN]
IN_A_SHELL = ("transformers_gpt2_loop", "peft_lora", "stable_baselines3_ppo", "torchdiffeq_adjoint", "pyro_vae")

pytestmark = pytest.mark.slow


def needs(cell: Path) -> None:
    """Skip where a library that the cell imports is missing."""
    names = set()
    for node in ast.walk(ast.parse(cell.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names.add((node.module or "").split(".")[0])
    for name in sorted(names - sys.stdlib_module_names):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed: `make test-programs`")


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("cell", HEALTHY, ids=lambda cell: cell.stem)
def test_a_healthy_program_ends_the_same_and_the_check_is_silent(cell: Path) -> None:
    needs(cell)
    found = assert_healthy(cell.read_text(), cell.stem)
    kinds = {step.kind for step in found.report.steps}
    assert kinds & {"backward", "grad"}, "the check saw nothing of the training"
    assert any(p.gradient == "ok" for p in found.report.parameters)


@pytest.mark.parametrize("cell", BROKEN, ids=lambda cell: cell.stem)
def test_a_broken_program_is_named_at_its_line(cell: Path) -> None:
    needs(cell)
    source = cell.read_text()
    found = twice(source, cell.stem)
    assert not found.different
    cause = MARK.search(source)
    first = found.report.findings[0] if found.report.findings else None
    assert first is not None and cause is not None, repr(found.report)
    assert (first.cause, first.location.line if first.location else None) == (cause.group(1), found.line()), repr(found.report)


@pytest.mark.parametrize("name", IN_A_SHELL)
def test_a_healthy_program_as_a_notebook_cell_is_silent(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    from IPython.core.interactiveshell import InteractiveShell

    import gradnb

    cell = next(cell for cell in CELLS if cell.stem == name)
    needs(cell)
    InteractiveShell.clear_instance()
    shell = InteractiveShell.instance()
    try:
        shell.run_line_magic("load_ext", "gradnb")
        result = shell.run_cell("%%gradcheck\n" + cell.read_text())
        assert result.success, result.error_in_exec
    finally:
        shell.run_line_magic("unload_ext", "gradnb")
        InteractiveShell.clear_instance()
        capsys.readouterr()
    report = gradnb.last_report()
    assert report is not None and report.verdict == "ok", repr(report)
    assert not [note for note in report.notes if "internal problem" in note]
