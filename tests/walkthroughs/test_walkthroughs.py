"""Every walkthrough runs in a fresh kernel, here and with Colab's versions, and does what ``claims/`` says: causes, lines, numbers.

A file of claims: ``reports`` has one entry for each ``%%gradcheck`` cell, in order, with its errors and warnings as
``[cause, text that the blamed line contains]``; ``values`` are expressions that hold after the last cell, as ``[">=", 0.9]``.
"""

from __future__ import annotations

import json
import operator
import os
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest

from scripts.notebooks import ERROR_WANTED, FOLDER, ROOT, Run, execute, unfit
from tests.conftest import address, missing

CLAIMS = Path(__file__).with_name("claims")
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
COMPARE = {">=": operator.ge, "<=": operator.le, "==": operator.eq, ">": operator.gt, "<": operator.lt}

each = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def claims(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((CLAIMS / f"{path.stem}.json").read_text(encoding="utf-8"))
    return found


def book(path: Path) -> nbformat.NotebookNode:
    return nbformat.read(path, as_version=4)


def check(path: Path, python: str) -> None:
    claimed = claims(path)
    run = execute(path, python, list(claimed["values"]))
    assert not run.problems, "\n".join(run.problems)
    assert_as_claimed(run, claimed)


def assert_as_claimed(run: Run, claimed: dict[str, Any]) -> None:
    assert len(run.reports) == len(claimed["reports"]), "one entry for each %%gradcheck cell is expected"
    for number, (report, wanted) in enumerate(zip(run.reports, claimed["reports"])):
        alarms = [finding for finding in report["findings"] if finding["severity"] in ("error", "warning")]
        said = [(finding["cause"], (finding["location"] or {}).get("code", "")) for finding in alarms]
        assert len(said) == len(wanted["findings"]), f"report {number}: {said}"
        for (cause, code), (wanted_cause, part) in zip(said, wanted["findings"]):
            assert cause == wanted_cause and part in code, f"report {number}: {cause} at {code!r}, not {wanted_cause} at {part!r}"
    for expression, (sign, bound) in claimed["values"].items():
        value = run.values[expression]
        assert not isinstance(value, str) or isinstance(bound, str), f"{expression}: {value}"
        assert COMPARE[sign](value, bound), f"{expression} is {value}, not {sign} {bound}"


def test_there_are_walkthroughs_and_each_has_its_claims() -> None:
    assert NOTEBOOKS
    assert {path.stem for path in CLAIMS.glob("*.json")} == {path.stem for path in NOTEBOOKS}


@each
def test_the_saved_notebook_is_fit_to_be_read_anywhere(path: Path) -> None:
    assert not unfit(book(path))


@each
def test_it_begins_with_a_title_and_a_cell_that_makes_it_run_on_colab(path: Path) -> None:
    title, start, *rest = book(path).cells
    assert title.cell_type == "markdown" and title.source.startswith("# ")
    assert start.cell_type == "code" and '"google.colab" in sys.modules' in start.source and "%load_ext gradnb" in start.source
    assert not start.outputs, "nothing is printed elsewhere"
    assert any("<details>" in cell.source for cell in rest if cell.cell_type == "markdown"), "an exercise has its answer folded away"


@each
def test_its_badges_open_this_notebook_on_colab_and_on_binder(path: Path) -> None:
    owner_and_name = address().removeprefix("https://github.com/")
    colab = f"https://colab.research.google.com/github/{owner_and_name}/blob/main/notebooks/{path.name}"
    binder = f"https://mybinder.org/v2/gh/{owner_and_name}/main?labpath=notebooks/{path.name}"
    badges = f"[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]({colab})"
    badges += f" [![Binder](https://mybinder.org/badge_logo.svg)]({binder})"
    assert book(path).cells[0].source.split("\n")[1:4] == ["", badges, ""], "below the title"


@each
def test_on_colab_it_installs_the_package_that_it_was_saved_with(path: Path) -> None:
    """From the repository that Colab has the notebook from: there is nothing to be uploaded first, and the two cannot differ."""
    wanted = f'import sys\n\nif "google.colab" in sys.modules:\n    %pip install -q git+{address()}\n%load_ext gradnb'
    assert book(path).cells[1].source == wanted


@each
def test_the_saved_reports_are_those_of_the_claims(path: Path) -> None:
    """The text of each saved report names the causes: the file was saved by the program that stands in it."""
    checked = [cell for cell in book(path).cells if cell.cell_type == "code" and cell.source.startswith("%%gradcheck")]
    assert len(checked) == len(claims(path)["reports"])
    for cell, wanted in zip(checked, claims(path)["reports"]):
        text = "".join(output.get("data", {}).get("text/plain", "") for output in cell.outputs)
        for cause, part in wanted["findings"]:
            assert f"[{cause}]" in text and part in cell.source + "".join(other.source for other in book(path).cells)


@each
def test_it_uses_what_is_installed_and_not_a_clone(path: Path) -> None:
    for cell in book(path).cells:
        assert "sys.path" not in cell.source and "git clone" not in cell.source


@pytest.mark.walkthrough
@each
def test_it_runs_and_does_what_it_claims(path: Path) -> None:
    check(path, sys.executable)


@pytest.mark.walkthrough
@pytest.mark.colab
@each
def test_it_does_so_with_colabs_versions_too(path: Path, colab_python: str) -> None:
    check(path, colab_python)


@pytest.fixture(scope="module")
def colab_python() -> str:
    found = Path(os.environ.get("GRADNB_COLAB_PYTHON") or ROOT / ".venv-colab" / "bin" / "python")
    if not found.exists():
        missing(f"the environment with Colab's versions ({found})")
    return str(found)


class TestTheHarness:
    """It would be worth little if it let a broken notebook pass."""

    @staticmethod
    def written(folder: Path, *cells: str, tags: tuple[str, ...] = ()) -> Path:
        made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(text) for text in cells])
        made.cells[-1].metadata["tags"] = list(tags)
        path = folder / "made.ipynb"
        nbformat.write(made, path)
        return path

    def test_an_error_stops_it(self, tmp_path: Path) -> None:
        run = execute(self.written(tmp_path, "1 / 0", "reached = True"))
        assert len(run.problems) == 1 and "ZeroDivisionError" in run.problems[0] and run.book.cells[1].execution_count is None

    def test_an_announced_error_that_does_not_come_was_swallowed(self, tmp_path: Path) -> None:
        assert not execute(self.written(tmp_path, "1 / 0", tags=(ERROR_WANTED,))).problems
        assert "raised nothing" in execute(self.written(tmp_path, "1 / 1", tags=(ERROR_WANTED,))).problems[0]

    def test_a_fault_of_gradnb_counts_though_the_cell_went_well(self, tmp_path: Path) -> None:
        said = "import sys; print('gradnb: internal problem (KeyError: 1); your cell is untouched.', file=sys.stderr)"
        assert "internal problem" in execute(self.written(tmp_path, said)).problems[0]

    def test_a_wrong_claim_fails(self, tmp_path: Path) -> None:
        cell = "%%gradcheck\nimport torch\nw = torch.nn.Linear(2, 1)\no = torch.optim.SGD(w.parameters(), 1)\n"
        cell += "loss = w(torch.ones(3, 2)).sum() + 0\nloss.backward()\no.step()\no.zero_grad()\nkept = loss.item()"
        run = execute(self.written(tmp_path, "%load_ext gradnb", cell), values=["w.in_features", "nothing"])
        assert run.values["w.in_features"] == 2 and "NameError" in run.values["nothing"]
        assert_as_claimed(run, {"reports": [{"findings": []}], "values": {"w.in_features": ["==", 2]}})
        for wrong in (
            {"reports": [{"findings": [["detach", "loss"]]}], "values": {}},
            {"reports": [], "values": {}},
            {"reports": [{"findings": []}], "values": {"w.in_features": [">", 2]}},
            {"reports": [{"findings": []}], "values": {"nothing": ["==", 2]}},
        ):
            with pytest.raises(AssertionError):
                assert_as_claimed(run, wrong)
