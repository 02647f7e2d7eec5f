"""The failures that users wrote down in their field reports, as notebook cells under the magic, each with its repaired twin.

The marker `# <- here: cause` stands on the line at fault. Of a report, only the failures whose cause gradnb names today have
a cell; 004_a5334a9d62272b51.txt tells of GradScaler steps without gradients alone, and none of its failures is among them.
"""

from __future__ import annotations

import contextlib
import difflib
import io
import re
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

import gradnb

CELLS = Path(__file__).with_name("cells")
MARKER = re.compile(r"# <- here: ([a-z-]+)$")

# cell -> the report it is written from, what PyTorch itself says, and parameters that must be named
REPORTS: dict[str, tuple[str, str, list[str]]] = {
    "maml_item": ("000_afba183dcb613042.txt", "does not require grad", ["net.0.weight", "net.2.bias"]),
    "maml_detach": ("000_afba183dcb613042.txt", "does not require grad", ["net.0.weight", "net.2.bias"]),
    "maml_fresh_tensor": ("000_afba183dcb613042.txt", "does not require grad", ["net.0.weight", "net.2.bias"]),
    "maml_first_order_switch": ("000_afba183dcb613042.txt", "does not require grad", ["net.0.weight", "net.2.bias"]),
    "policy_apply_no_grad": ("001_cee655f4abf89bcb.txt", "", ["lm.embed.weight", "text.weight", "corrections.weight", "choose.bias"]),
    "frozen_language_model": ("002_f0064c6477c2b1e8.txt", "", ["lm.embed.weight", "lm.blocks.1.3.bias", "text.weight"]),
    # Every parameter learns from the rest of the loss: only the term is dead.
    "reward_term_argmax": ("002_f0064c6477c2b1e8.txt", "", []),
    "trpo_vector_kl": ("003_33f86b4548a3c34a.txt", "grad can be implicitly created only for scalar outputs", []),
    "value_net_numpy": ("003_33f86b4548a3c34a.txt", "does not require grad", ["vf_net.0.weight", "vf_final.bias"]),
}


def marked(cell: str) -> set[tuple[str, int]]:
    """The accepted pairs of cause and line; the magic is line 1 of the cell, so the file's first line is line 2."""
    found = ((MARKER.search(line), number) for number, line in enumerate(cell.splitlines(), 2))
    return {(match[1], number) for match, number in found if match}


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A fresh IPython shell with gradnb loaded, which leaves no history and no profile behind."""
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    config = Config()
    config.HistoryManager.enabled = False
    InteractiveShell.clear_instance()
    running = InteractiveShell.instance(config=config)
    running.run_cell("%load_ext gradnb", store_history=True).raise_error()
    yield running
    running.run_cell("%unload_ext gradnb")
    InteractiveShell.clear_instance()


def run(shell: Any, name: str, magic: bool = True) -> tuple[Any, BaseException | None]:
    """The report (None without the magic) and the error of the cell, run as a user runs it."""
    cell = (CELLS / f"{name}.py").read_text(encoding="utf-8")
    with warnings.catch_warnings(), torch.random.fork_rng(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        result = shell.run_cell(("%%gradcheck\n" if magic else "") + cell, store_history=True)
    assert result.error_before_exec is None
    return (gradnb.last_report() if magic else None), result.error_in_exec


def alarms(report: Any) -> list[str]:
    return [f"{f.cause} at {f.location}: {f.title}" for f in report.findings if f.severity in ("error", "warning")]


def test_every_cell_has_its_report_and_its_twin() -> None:
    names = {path.stem for path in CELLS.glob("*.py")}
    assert names == set(REPORTS) | {f"{name}_repaired" for name in REPORTS}


@pytest.mark.parametrize("name", REPORTS)
def test_the_cell_is_named_by_cause_line_and_parameters(shell: Any, name: str) -> None:
    _, message, parameters = REPORTS[name]
    executed = shell.execution_count
    report, error = run(shell, name)
    assert (error is not None) == bool(message) and message in str(error)
    assert report.findings, "nothing found"
    first = report.findings[0]
    assert first.severity in ("error", "warning")
    assert first.location is not None, alarms(report)
    wanted = marked((CELLS / f"{name}.py").read_text(encoding="utf-8"))
    assert wanted and (first.cause, first.location.line) in wanted, alarms(report)
    assert first.location.cell == executed
    for parameter in parameters:
        assert any(affected.endswith(parameter) for affected in first.affected), first.affected


@pytest.mark.parametrize("name", REPORTS)
def test_the_repaired_twin_is_met_with_silence(shell: Any, name: str) -> None:
    report, error = run(shell, f"{name}_repaired")
    assert error is None
    assert alarms(report) == []


@pytest.mark.parametrize("name", REPORTS)
def test_the_repaired_twin_trains(shell: Any, name: str) -> None:
    _, error = run(shell, f"{name}_repaired", magic=False)
    assert error is None
    held = [
        parameter
        for value in list(shell.user_ns.values())
        for optimizer in [value, *getattr(value, "__dict__", {}).values()]
        if isinstance(optimizer, torch.optim.Optimizer)
        for group in optimizer.param_groups
        for parameter in group["params"]
    ]
    assert held
    for parameter in held:
        assert parameter.grad is not None and parameter.grad.isfinite().all() and parameter.grad.abs().max() > 1e-9


@pytest.mark.parametrize("name", REPORTS)
def test_the_repair_is_small(name: str) -> None:
    broken, repaired = ((CELLS / f"{file}.py").read_text(encoding="utf-8").splitlines() for file in (name, f"{name}_repaired"))
    changed = [line for line in difflib.ndiff(broken, repaired) if line[:2] in ("- ", "+ ")]
    assert 0 < len(changed) <= 14 and "# <- here" not in "\n".join(repaired)
