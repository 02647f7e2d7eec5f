"""The report as a person sees it: in a real JupyterLab, light and dark, and in a notebook that is not trusted."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest

from .conftest import Lab

pytestmark = [pytest.mark.browser, pytest.mark.slow]

BROKEN = """\
%%gradcheck
import torch
from torch import nn

torch.manual_seed(0)


class Tagger(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 16))
        self.head = nn.Linear(16, 3)

    def features(self, x):
        return self.encoder(x).detach()

    def forward(self, x):
        return self.head(self.features(x))


model = Tagger()
optimizer = torch.optim.Adam(model.parameters())
for _ in range(2):
    loss = nn.functional.cross_entropy(model(torch.randn(32, 8)), torch.randint(3, (32,)))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""
CULPRIT = "return self.encoder(x).detach()"
LINE = 1 + BROKEN[: BROKEN.index(CULPRIT)].count("\n")
# The last cell tells the test what the report says, and that Run All came to the end.
TELL = 'import gradnb, json, pathlib\npathlib.Path("{}").write_text(json.dumps(gradnb.last_report().to_dict()))'

CHECKED_CELL = ".jp-Notebook .jp-CodeCell:has-text('%%gradcheck')"


def notebook(folder: Path, name: str) -> Path:
    """A notebook that has not run yet; returns where its last cell writes the report's data."""
    cells = [nbformat.v4.new_code_cell(text) for text in ("%load_ext gradnb", BROKEN, TELL.format(f"{name}.json"))]
    book = nbformat.v4.new_notebook(cells=cells)
    book.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(book, folder / f"{name}.ipynb")
    return folder / f"{name}.json"


def opened(page: Any, lab: Lab, name: str) -> None:
    page.goto(lab.url(f"{name}.ipynb"))
    page.wait_for_selector(CHECKED_CELL)
    # The splash screen and the first layout lie over the cells for a moment.
    page.wait_for_selector("#jupyterlab-splash", state="detached")


def run_all(page: Any, told: Path) -> dict[str, Any]:
    """Run All Cells, then wait for the last cell's file. A command does nothing while its kernel is still starting."""
    page.wait_for_function("() => window.jupyterapp.shell.currentWidget?.context?.sessionContext?.session?.kernel?.status === 'idle'")
    page.evaluate("() => { window.jupyterapp.commands.execute('notebook:run-all-cells'); }")
    for _ in range(300):
        if told.exists() and told.stat().st_size:
            return json.loads(told.read_text())
        page.wait_for_timeout(200)
    outputs = "\n".join(page.locator(".jp-OutputArea-output").all_inner_texts())
    raise AssertionError(f"the last cell did not run within a minute; the outputs are:\n{outputs}")


def output(page: Any) -> Any:
    """The report under the checked cell."""
    found = page.locator(f"{CHECKED_CELL} .jp-OutputArea-output.jp-RenderedHTMLCommon, {CHECKED_CELL} .jp-RenderedHTML").first
    found.wait_for(state="visible")
    found.scroll_into_view_if_needed()
    return found


def squeezed(text: str) -> str:
    return " ".join(text.split())


def says_it_all(shown: str, report: dict[str, Any]) -> None:
    """The verdict and the first finding are there to read: what, where, and the user's own line."""
    shown, first = squeezed(shown), report["findings"][0]
    assert "gradcheck: 1 error" in shown
    assert squeezed(first["title"].replace("`", "")) in shown  # what stands in backticks is shown as code
    assert first["cause"] in shown
    assert f"line {LINE}" in shown
    assert CULPRIT in shown


def contrast(output: Any) -> float:
    """The WCAG contrast of the report's text with what lies under it."""
    return output.evaluate("""element => {
        const parse = text => (text.match(/[\\d.]+/g) || [0, 0, 0, 0]).map(Number);
        let under = element;
        while (under && [0, undefined].includes(parse(getComputedStyle(under).backgroundColor).concat(1)[3])) under = under.parentElement;
        const light = ([r, g, b]) => [r, g, b].map(v => v / 255).map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
            .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
        const lights = [light(parse(getComputedStyle(element).color)), under ? light(parse(getComputedStyle(under).backgroundColor)) : 1];
        return (Math.max(...lights) + 0.05) / (Math.min(...lights) + 0.05);
    }""")


@pytest.fixture(scope="module")
def ran(browser: Any, lab: Lab, shots: Path) -> dict[str, Any]:
    """The broken notebook, opened in the light theme, run and saved once; the report's data, with what was on the screen."""
    told = notebook(lab.folder, "broken")
    lab.theme("JupyterLab Light")
    context = browser.new_context(viewport={"width": 1200, "height": 1500})
    context.set_default_timeout(45_000)
    page = context.new_page()
    try:
        opened(page, lab, "broken")
        report = run_all(page, told)
        shown = output(page)
        shown.screenshot(path=shots / "report-light.png")
        page.screenshot(path=shots / "notebook-light.png")
        seen = {"report": report, "text": shown.inner_text(), "contrast": contrast(shown), "pictures": pictures(shown)}
        page.evaluate("() => window.jupyterapp.commands.execute('docmanager:save')")
        saved = lab.folder / "broken.ipynb"
        wait(page, lambda: CULPRIT in json.dumps([c.get("outputs") for c in json.loads(saved.read_text())["cells"]]))
        return seen
    finally:
        context.close()


def wait(page: Any, condition: Callable[[], bool]) -> None:
    for _ in range(100):
        if condition():
            return
        page.wait_for_timeout(100)
    raise AssertionError("nothing happened within ten seconds")


def pictures(output: Any) -> dict[str, int]:
    """How many pictures a person sees: drawn in place, and as an image."""
    return {name: output.locator(f"{name}:visible").count() for name in ("svg", "img")}


def test_the_report_of_a_broken_cell_is_on_the_screen(ran: dict[str, Any]) -> None:
    assert ran["report"]["verdict"] == "error"
    assert ran["report"]["findings"][0]["cause"] == "detach"
    assert ran["report"]["findings"][0]["location"]["line"] == LINE
    says_it_all(ran["text"], ran["report"])
    assert ran["contrast"] >= 4.5


def test_the_picture_is_shown_once_in_a_trusted_notebook(ran: dict[str, Any]) -> None:
    assert ran["pictures"]["svg"] >= 1
    assert ran["pictures"]["img"] == 0


def test_the_saved_report_reads_as_well_in_the_dark_theme(ran: dict[str, Any], page: Any, lab: Lab, shots: Path) -> None:
    lab.theme("JupyterLab Dark")
    opened(page, lab, "broken")
    page.wait_for_selector("body[data-jp-theme-light='false']", state="attached")
    shown = output(page)
    shown.screenshot(path=shots / "report-dark.png")
    page.screenshot(path=shots / "notebook-dark.png")
    says_it_all(shown.inner_text(), ran["report"])
    assert contrast(shown) >= 4.5


def test_an_untrusted_notebook_shows_the_text_and_the_image(ran: dict[str, Any], page: Any, lab: Lab, shots: Path) -> None:
    """As when a colleague opens the file: the sanitiser strips our style and svg."""
    book = nbformat.read(lab.folder / "broken.ipynb", as_version=4)
    book.cells.append(nbformat.v4.new_markdown_cell("A changed notebook has no valid signature."))
    nbformat.write(book, lab.folder / "untrusted.ipynb")
    lab.theme("JupyterLab Light")
    opened(page, lab, "untrusted")
    shown = output(page)
    shown.screenshot(path=shots / "report-untrusted.png")
    page.screenshot(path=shots / "notebook-untrusted.png")
    assert shown.locator("style").count() == 0, "the notebook was trusted after all"
    says_it_all(shown.inner_text(), ran["report"])
    assert pictures(shown) == {"svg": 0, "img": 1}
    image = shown.locator("img").first
    assert image.evaluate("img => img.complete && img.naturalWidth > 0")
