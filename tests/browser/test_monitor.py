"""The live panel in a real JupyterLab: while the cell runs, when it is interrupted, after a reload, in both themes, and on disk."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest

from .conftest import Lab, Watched
from .test_jupyterlab import contrast, wait

pytestmark = [pytest.mark.browser, pytest.mark.slow]

SET_UP = """\
import time

import torch
from torch import nn

import gradnb

torch.manual_seed(0)
agent = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
critic = nn.Linear(8, 1)
optimizer = torch.optim.SGD([*agent.parameters(), *critic.parameters()], lr=0.01)
monitor = gradnb.watch({"agent": agent, "critic": critic})


def train(steps, pause=0.0):
    x = torch.randn(16, 8)
    for _ in range(steps):
        loss = agent(x).square().mean() + 0 * critic(x).mean()  # the critic gets only zeros
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        monitor.log(loss=loss)
        time.sleep(pause)
"""
FAST = "train(10_000)  # as fast as it goes"
SLOW = "train(100_000, pause=0.01)  # until it is interrupted"
TELL = 'import pathlib\npathlib.Path("{}").write_text(str(monitor.history.step))'


def cell(text: str) -> str:
    return f".jp-Notebook .jp-CodeCell:has-text('{text}')"


FAST_CELL, SLOW_CELL = cell("as fast as it goes"), cell("until it is interrupted")


@pytest.fixture(scope="module")
def live(browser: Any, lab: Lab, shots: Path) -> Iterator[Watched]:
    """The notebook with its kernel; the tests below use it one after the other."""
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(text) for text in (SET_UP, SLOW, FAST, TELL.format("monitor.txt"))])
    book.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(book, lab.folder / "monitor.ipynb")
    lab.theme("JupyterLab Light")
    context = browser.new_context(viewport={"width": 1200, "height": 1100})
    context.set_default_timeout(30_000)
    watched = Watched(context.new_page())
    try:
        opened(watched.page, lab)
        watched.page.wait_for_function(
            "() => window.jupyterapp.shell.currentWidget?.context?.sessionContext?.session?.kernel?.status === 'idle'"
        )
        yield watched
    finally:
        context.close()


def opened(page: Any, lab: Lab) -> None:
    page.goto(lab.url("monitor.ipynb"))
    page.wait_for_selector(FAST_CELL)
    page.wait_for_selector("#jupyterlab-splash", state="detached")


def run(page: Any, index: int) -> None:
    """Run the cell with this number, without waiting for it."""
    page.evaluate(
        """index => { const notebook = window.jupyterapp.shell.currentWidget.content; notebook.activeCellIndex = index;
        notebook.deselectAll(); window.jupyterapp.commands.execute('notebook:run-cell'); }""",
        index,
    )


def panel(page: Any, where: str) -> Any:
    return page.locator(f"{where} .gradnb-monitor")


def verdict(page: Any, where: str) -> str:
    text: str = panel(page, where).locator(".gradnb-verdict").inner_text()
    return " ".join(text.split())


def step(page: Any, where: str) -> int:
    found = re.search(r"at step ([\d,]+)", verdict(page, where))
    assert found, verdict(page, where)
    return int(found.group(1).replace(",", ""))


def saved(page: Any, lab: Lab, what: str) -> list[Any]:
    """The cells of the notebook on disk, once ``what`` stands in it."""
    path = lab.folder / "monitor.ipynb"
    page.evaluate("() => window.jupyterapp.commands.execute('docmanager:save')")
    wait(page, lambda: what in json.dumps([c.get("outputs") for c in json.loads(path.read_text())["cells"]], ensure_ascii=False))
    cells: list[Any] = json.loads(path.read_text())["cells"]
    return cells


def test_the_panel_moves_while_the_cell_runs(live: Watched, shots: Path) -> None:
    page = live.page
    run(page, 0)
    run(page, 1)
    panel(page, SLOW_CELL).wait_for(state="visible")
    for _ in range(3):
        before = step(page, SLOW_CELL)
        wait(page, lambda: step(page, SLOW_CELL) > before)  # noqa: B023
    assert page.locator(f"{SLOW_CELL} .jp-OutputArea-child").count() == 1
    page.locator(SLOW_CELL).scroll_into_view_if_needed()
    page.screenshot(path=shots / "monitor-running.png")


def test_an_interrupt_leaves_a_state_that_can_be_read(live: Watched, shots: Path) -> None:
    page = live.page
    page.evaluate("() => window.jupyterapp.commands.execute('notebook:interrupt-kernel')")
    page.locator(f"{SLOW_CELL} .gradnb-verdict:has-text('interrupted at step')").wait_for(state="visible")
    shown = panel(page, SLOW_CELL)
    shown.screenshot(path=shots / "monitor-interrupted.png")
    text = shown.inner_text()
    assert "error: no-gradient" in text or "warning: no-gradient" in text
    assert "Try:" in text
    assert shown.locator("svg:visible").count() == 1
    assert shown.locator("img:visible").count() == 0
    assert contrast(shown) >= 4.5
    assert page.locator(f"{SLOW_CELL} .gradnb-monitor").count() == 1


def test_ten_thousand_steps_keep_one_small_output(live: Watched, lab: Lab, shots: Path) -> None:
    page = live.page
    before = step(page, SLOW_CELL)
    run(page, 2)
    run(page, 3)
    told = lab.folder / "monitor.txt"
    for _ in range(300):
        if told.exists() and told.read_text():
            break
        page.wait_for_timeout(100)
    assert int(told.read_text()) == before + 10_000
    page.locator(f"{FAST_CELL} .gradnb-verdict:has-text('at step {before + 10_000:,}')").wait_for(state="visible")
    assert step(page, SLOW_CELL) == before, "the panel of the cell before stands as it was"
    panel(page, FAST_CELL).screenshot(path=shots / "monitor-light.png")
    outputs = saved(page, lab, f"at step {before + 10_000:,}")[2]["outputs"]
    assert [sorted(output["data"]) for output in outputs] == [["text/html", "text/plain"]]
    assert len(json.dumps(outputs)) < 100_000
    assert "agent.0" in "".join(outputs[0]["data"]["text/plain"])
    assert "widgets" not in json.loads((lab.folder / "monitor.ipynb").read_text())["metadata"]


def test_the_dark_theme_reads_as_well(live: Watched, shots: Path) -> None:
    page = live.page
    page.evaluate("() => window.jupyterapp.commands.execute('apputils:change-theme', {theme: 'JupyterLab Dark'})")
    page.wait_for_selector("body[data-jp-theme-light='false']", state="attached")
    page.wait_for_selector("#jupyterlab-splash", state="detached")
    shown = panel(page, FAST_CELL)
    shown.screenshot(path=shots / "monitor-dark.png")
    assert contrast(shown) >= 4.5


def test_no_request_left_the_machine_and_the_console_is_silent(live: Watched, lab: Lab) -> None:
    own = (f"http://127.0.0.1:{lab.port}/", f"ws://127.0.0.1:{lab.port}/", "data:", "blob:")
    assert not [url for url in live.requests if not url.startswith(own)]
    assert not [text for text in live.complaints if "gradnb" in text.lower() or "svg" in text.lower() or "display" in text.lower()]


def test_without_a_kernel_the_last_frame_stands(live: Watched, page: Any, lab: Lab, shots: Path) -> None:
    live.page.evaluate("() => window.jupyterapp.commands.execute('kernelmenu:shutdown')")
    live.page.evaluate("() => window.jupyterapp.serviceManager.sessions.shutdownAll()")
    lab.theme("JupyterLab Light")
    opened(page, lab)
    panel(page, FAST_CELL).locator("svg").wait_for(state="visible")
    assert "interrupted" in verdict(page, SLOW_CELL)
    assert "agent.0" in panel(page, FAST_CELL).locator("svg").text_content()


def test_in_an_untrusted_notebook_the_picture_is_an_image(live: Watched, page: Any, lab: Lab, shots: Path) -> None:
    book = nbformat.read(lab.folder / "monitor.ipynb", as_version=4)
    book.cells.append(nbformat.v4.new_markdown_cell("A changed notebook has no valid signature."))
    nbformat.write(book, lab.folder / "monitor.ipynb")
    opened(page, lab)
    shown = page.locator(f"{FAST_CELL} .jp-RenderedHTML").first
    shown.locator("img").first.wait_for(state="visible")
    shown.screenshot(path=shots / "monitor-untrusted.png")
    assert shown.locator("style").count() == 0, "the notebook was trusted after all"
    assert shown.locator("svg").count() == 0
    assert shown.locator("img").first.evaluate("img => img.complete && img.naturalWidth > 0")
    assert "no-gradient" in shown.inner_text()
