"""The explorer in a real JupyterLab: run, opened, searched, saved, and looked at again without a kernel."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest

from .conftest import Lab, Watched
from .test_jupyterlab import BROKEN, LINE, opened, run_all, wait

pytestmark = [pytest.mark.browser, pytest.mark.slow]

EXPLORE = "gradnb.last_report().explore()  # explored here"
TELL = 'import json, pathlib\npathlib.Path("{}").write_text(json.dumps(gradnb.last_report().to_dict()))'
CELL = ".jp-Notebook .jp-CodeCell:has-text('explored here')"


def written(folder: Path, name: str) -> Path:
    """A notebook that has not run yet; returns where its last cell writes that all ran."""
    texts = ("%load_ext gradnb\nimport gradnb", BROKEN, EXPLORE, TELL.format(f"{name}.json"))
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(text) for text in texts])
    book.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(book, folder / f"{name}.ipynb")
    return folder / f"{name}.json"


@pytest.fixture(scope="module")
def live(browser: Any, lab: Lab) -> Iterator[Watched]:
    """The notebook after Run All, saved, with its kernel alive; the tests below use it one after the other."""
    told = written(lab.folder, "explore")
    lab.theme("JupyterLab Light")
    context = browser.new_context(viewport={"width": 1280, "height": 1100})
    context.set_default_timeout(45_000)
    watched = Watched(context.new_page())
    try:
        opened(watched.page, lab, "explore")
        run_all(watched.page, told)
        watched.page.wait_for_selector(f"{CELL} .gx-chosen")
        save(watched.page, lab.folder / "explore.ipynb")
        yield watched
    finally:
        context.close()


def save(page: Any, path: Path) -> None:
    page.evaluate("() => window.jupyterapp.commands.execute('docmanager:save')")
    wait(page, lambda: "gradnb-twin" in json.dumps([c.get("outputs") for c in json.loads(path.read_text())["cells"]]))


def seen(page: Any, selector: str) -> int:
    return page.locator(f"{CELL} {selector}").locator("visible=true").count()


def test_the_explorer_takes_the_place_of_the_static_picture(live: Watched, shots: Path) -> None:
    page = live.page
    page.locator(f"{CELL} .gradnb-explorer").scroll_into_view_if_needed()
    page.screenshot(path=shots / "explorer-light.png")
    assert seen(page, ".gradnb-explorer") == 1
    assert seen(page, "[class^=gradnb-twin]") == 0


def test_click_search_and_keys_work_inside_the_notebook(live: Watched) -> None:
    page = live.page
    cells = page.locator(".jp-Notebook .jp-Cell").count()
    explorer = page.locator(f"{CELL} .gradnb-explorer")
    assert explorer.locator(".gx-source li[aria-current] .gx-number").inner_text() == str(LINE)
    head = explorer.locator(".gx-box[aria-label^='head, module']")
    head.click()
    assert explorer.locator(".gx-box[aria-label^='head, module']").get_attribute("aria-expanded") == "true"
    for key in ("ArrowDown", "ArrowUp", "Enter", "Enter", "0", "Escape", "a", "x"):  # in command mode these would move and cut cells
        page.keyboard.press(key)
    assert page.locator(".jp-Notebook .jp-Cell").count() == cells
    assert "gx-box" in page.evaluate("document.activeElement.className.baseVal || ''")
    page.keyboard.press("/")
    page.keyboard.type("cross")
    page.keyboard.press("Enter")
    assert explorer.locator(".gx-hits").inner_text().startswith("1 / ")
    assert "cross_entropy(" in explorer.locator(".gx-source li[aria-current]").inner_text()


def test_the_page_saved_from_the_notebook_works_alone(live: Watched, browser: Any, tmp_path: Path) -> None:
    with live.page.expect_download() as loaded:
        live.page.locator(f"{CELL}").get_by_title("Save one HTML page").click()
    saved = tmp_path / "saved.html"
    loaded.value.save_as(saved)
    context = browser.new_context()
    try:
        alone = Watched(context.new_page())
        alone.page.goto(saved.as_uri())
        alone.page.wait_for_selector(".gx-chosen")
        assert not alone.complaints
        assert all(url.startswith("file:") for url in alone.requests)
    finally:
        context.close()


def test_the_dark_theme_reaches_the_explorer(live: Watched, shots: Path) -> None:
    page = live.page
    page.evaluate("() => window.jupyterapp.commands.execute('apputils:change-theme', {theme: 'JupyterLab Dark'})")
    page.wait_for_selector("body[data-jp-theme-light='false']", state="attached")
    page.wait_for_selector("#jupyterlab-splash", state="detached")
    explorer = page.locator(f"{CELL} .gradnb-explorer")
    page.screenshot(path=shots / "explorer-dark.png")
    ink, paper = explorer.evaluate("""element => [getComputedStyle(element).color, getComputedStyle(element).backgroundColor]
        .map(colour => colour.match(/[\\d.]+/g).slice(0, 3).reduce((sum, v) => sum + Number(v), 0) / 3)""")
    assert ink > 180 and paper < 60


def test_the_saved_notebook_is_small_and_holds_no_widget_state(live: Watched, lab: Lab) -> None:
    text = (lab.folder / "explore.ipynb").read_text()
    assert "widgets" not in json.loads(text)["metadata"]
    assert "gradnbExplorer" not in text
    outputs = next(cell for cell in json.loads(text)["cells"] if EXPLORE in "".join(cell["source"]))["outputs"]
    assert [sorted(output["data"]) for output in outputs] == [
        ["text/html", "text/plain"],
        ["application/vnd.jupyter.widget-view+json", "text/plain"],
    ]
    assert len(json.dumps(outputs)) < 60_000


def test_no_request_left_the_machine_and_the_console_is_silent(live: Watched, lab: Lab) -> None:
    """After all that was done above in the running notebook."""
    away = [
        url
        for url in live.requests
        if not url.startswith((f"http://127.0.0.1:{lab.port}/", f"ws://127.0.0.1:{lab.port}/", "data:", "blob:"))
    ]
    assert not away
    ours = [text for text in live.complaints if "gradnb" in text.lower() or "anywidget" in text.lower()]
    assert not ours


def test_a_page_that_is_loaded_again_finds_the_explorer_in_the_living_kernel(live: Watched) -> None:
    live.page.reload()
    live.page.wait_for_selector(f"{CELL} .gx-chosen")
    assert seen(live.page, ".gradnb-explorer") == 1
    assert seen(live.page, "[class^=gradnb-twin]") == 0


def test_without_a_kernel_the_static_picture_stands_and_no_error_is_seen(live: Watched, page: Any, lab: Lab, shots: Path) -> None:
    """Reopened after the kernel is gone, in a notebook that is trusted."""
    lab.theme("JupyterLab Light")
    book = nbformat.read(lab.folder / "explore.ipynb", as_version=4)
    live.page.evaluate("() => window.jupyterapp.commands.execute('kernelmenu:shutdown')")
    live.page.evaluate("() => window.jupyterapp.serviceManager.sessions.shutdownAll()")
    assert book.cells
    opened(page, lab, "explore")
    page.locator(f"{CELL} [class^=gradnb-twin]").first.wait_for(state="visible")
    page.wait_for_timeout(1500)  # time for the front end to say that it finds no model
    page.locator(CELL).scroll_into_view_if_needed()
    page.screenshot(path=shots / "explorer-no-kernel.png")
    assert seen(page, "[class^=gradnb-twin] svg") >= 1
    outputs = page.locator(f"{CELL} .jp-OutputArea-child")
    assert [outputs.nth(i).is_visible() for i in range(outputs.count())] == [True, False]
    assert "model not found" not in page.locator(CELL).inner_text()
    assert "Loading widget" not in page.locator(CELL).inner_text()


def test_in_an_untrusted_notebook_the_picture_stands_as_an_image(live: Watched, page: Any, lab: Lab, shots: Path) -> None:
    book = nbformat.read(lab.folder / "explore.ipynb", as_version=4)
    book.cells.append(nbformat.v4.new_markdown_cell("A changed notebook has no valid signature."))
    nbformat.write(book, lab.folder / "explore-untrusted.ipynb")
    opened(page, lab, "explore-untrusted")
    page.locator(f"{CELL} img").first.wait_for(state="visible")
    page.locator(CELL).scroll_into_view_if_needed()
    page.wait_for_timeout(1500)
    page.screenshot(path=shots / "explorer-untrusted.png")
    assert page.locator(f"{CELL} .gradnb-explorer").count() == 0
    assert page.locator(f"{CELL} img").first.evaluate("img => img.complete && img.naturalWidth > 0")
