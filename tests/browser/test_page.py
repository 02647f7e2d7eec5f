"""The self-contained page in a real browser, opened from a file: no kernel, no server, no network."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import gradnb
from gradnb.graph.draw.place import place
from gradnb.graph.explore import assets
from gradnb.graph.explore.payload import payload

from .conftest import Watched

pytestmark = [pytest.mark.browser]

PROGRAM = """\
import torch
from torch import nn


class Tagger(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 16))
        self.blocks = nn.Sequential(*(nn.Sequential(nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 16)) for _ in range(4)))
        self.head = nn.Linear(16, 3)

    def features(self, x):
        return self.encoder(x).detach()  # <b>not markup</b> </script>

    def forward(self, x):
        return self.head(self.blocks(self.features(x)))


torch.manual_seed(0)
model = Tagger()
optimizer = torch.optim.Adam(model.parameters())
for _ in range(3):
    loss = nn.functional.cross_entropy(model(torch.randn(32, 8)), torch.randint(3, (32,)))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""
LOST = 1 + PROGRAM[: PROGRAM.index(".detach()")].count("\n")
HEAD = 1 + PROGRAM[: PROGRAM.index("self.head(self")].count("\n")
LOSS = 1 + PROGRAM[: PROGRAM.index("loss = ")].count("\n")


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Any:
    script = tmp_path_factory.mktemp("program") / "train.py"
    script.write_text(PROGRAM)
    with gradnb.check() as report:
        exec(compile(PROGRAM, str(script), "exec"), {"__name__": "__main__"})
    return report


@pytest.fixture(scope="module")
def file(report: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "graph.html"
    report.graph.to_html(str(path))
    return path


@pytest.fixture(scope="module")
def window(browser: Any) -> Iterator[Watched]:
    """One tab for all tests, watched to the end."""
    context = browser.new_context(viewport={"width": 1200, "height": 950}, reduced_motion="reduce")
    context.set_default_timeout(10_000)
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    yield Watched(context.new_page())
    context.close()


@pytest.fixture
def page(window: Watched, file: Path) -> Any:
    """The page, opened afresh: the lost node is chosen."""
    window.page.goto(file.as_uri())
    window.page.wait_for_selector(".gx-chosen")
    return window.page


def box(page: Any, label: str) -> Any:
    return page.locator(f".gx-box[aria-label^={label!r}]").first


def boxes(page: Any) -> dict[int, list[float]]:
    """What is drawn: x, y, width and height of each box by its number."""
    drawn = page.evaluate("""() => [...document.querySelectorAll(".gx-box")].map(box => {
        const [x, y] = box.getAttribute("transform").match(/[\\d.-]+/g).map(Number), frame = box.querySelector("rect");
        return [Number(box.dataset.box), [x, y, Number(frame.getAttribute("width")), Number(frame.getAttribute("height"))]];
    })""")
    return dict(drawn)


def marked_line(page: Any) -> int:
    return int(page.locator(".gx-source li[aria-current] .gx-number").inner_text())


def focused(page: Any) -> str:
    return page.evaluate("document.activeElement.getAttribute('aria-label')")


def same_places(page: Any, graph: Any, tree: Any, opened: set[int]) -> None:
    expected = {one.box: [one.x, one.y, one.w, one.h] for one in place(graph, tree, opened).boxes if one.box}
    drawn = boxes(page)
    assert drawn.keys() == expected.keys()
    assert all(drawn[name] == pytest.approx(expected[name], abs=0.051) for name in expected)


def test_boxes_stand_where_the_static_picture_has_them(page: Any, report: Any) -> None:
    graph = report.graph.graph
    tree = report.graph.fold_of(graph)
    opened = {i for i, one in enumerate(tree.boxes) if one.open}
    same_places(page, graph, tree, opened)
    closed = next(i for i in boxes(page) if tree.boxes[i].children and i not in opened)
    page.locator(f"[data-box='{closed}']").press("Enter")
    same_places(page, graph, tree, opened | {closed})


def test_any_choice_of_open_boxes_is_laid_out_as_in_python(page: Any, report: Any) -> None:
    """Boxes and lines, to the hundredth of a pixel: the two layouts are one algorithm written twice."""
    graph = report.graph.graph
    tree = report.graph.fold_of(graph)
    folds, chance = [i for i, one in enumerate(tree.boxes) if one.children], random.Random(0)
    choices = [{0}, set(folds), *({0, *chance.sample(folds, len(folds) // 2)} for _ in range(8))]
    source = assets.script().replace("return explorer_js;", "return { model_js, layout_js };")
    drawn = page.evaluate(
        f"""([data, choices]) => {{
            const {{ model_js, layout_js }} = ({source})(), graph = model_js.read(data).at(data.first);
            return choices.map(open => layout_js.place(graph, new Set(open)));
        }}""",
        [payload(report.graph), [sorted(choice) for choice in choices]],
    )
    for choice, scene in zip(choices, drawn):
        expected = place(graph, tree, choice)
        assert [(b["id"], b["open"], b["depth"]) for b in scene["boxes"]] == [(b.box, b.open, b.depth) for b in expected.boxes]
        assert [b[k] for b in scene["boxes"] for k in "xywh"] == pytest.approx(
            [v for b in expected.boxes for v in (b.x, b.y, b.w, b.h)], abs=0.01
        )
        assert [(line["box"], line["number"]) for line in scene["lines"]] == [(line.box, line.link) for line in expected.lines]
        points = [[v for point in line.points for v in point] for line in expected.lines]
        assert [[v for point in line["points"] for v in point] for line in scene["lines"]] == [
            pytest.approx(way, abs=0.01) for way in points
        ]


def test_a_click_opens_a_box_which_stays_where_it_is_and_a_second_one_closes_it(page: Any) -> None:
    head = box(page, "head, module")
    before, count = head.bounding_box(), len(boxes(page))
    assert head.get_attribute("aria-expanded") == "false"
    head.click()
    head = box(page, "head, module")
    assert head.get_attribute("aria-expanded") == "true"
    assert len(boxes(page)) > count
    assert box(page, "weight, trainable").is_visible()
    after = head.bounding_box()
    assert (after["x"], after["y"]) == pytest.approx((before["x"], before["y"]), abs=6)
    head.locator(".gx-head").click(position={"x": 30, "y": 8})
    assert box(page, "head, module").get_attribute("aria-expanded") == "false"
    assert len(boxes(page)) == count


def test_the_lost_node_is_chosen_first_with_its_line_its_finding_and_the_fix(page: Any) -> None:
    assert "lost" in page.locator(".gx-chosen").get_attribute("aria-label")
    assert marked_line(page) == LOST
    assert ".detach()" in page.locator(".gx-source li[aria-current] mark").inner_text()
    panel = page.locator(".gx-panel").inner_text()
    assert "Fix:" in panel and "error: detach" in panel
    assert "<b>not markup</b> </script>" in page.locator(".gx-source").inner_text()


def test_a_click_on_a_node_leads_to_its_line_and_a_line_number_back_to_a_node(page: Any) -> None:
    box(page, "cross_entropy").click()
    assert marked_line(page) == LOSS
    assert "requires_grad" in page.locator(".gx-panel").inner_text()
    page.locator("button.gx-number", has_text=re.compile(f"^{LOST}$")).click()
    assert "encoder" in page.locator(".gx-panel").inner_text() or "detach" in page.locator(".gx-panel h4").inner_text()
    assert marked_line(page) == LOST


def test_a_pointer_or_the_keyboard_on_a_box_shows_its_facts(page: Any) -> None:
    box(page, "cross_entropy").hover()
    hint = page.locator(".gx-hint")
    hint.wait_for(state="visible")
    told = hint.inner_text()
    assert "null" not in told and "NllLossBackward0" in told and f"line {LOSS}" in told and "float32" in told
    page.mouse.move(5, 5)
    hint.wait_for(state="hidden")


def test_search_counts_its_hits_and_enter_goes_to_the_next_and_opens_the_boxes_around_it(page: Any) -> None:
    field = page.get_by_placeholder("Find a name")
    field.fill("tanh")
    hits = page.locator(".gx-hits")
    total = int(hits.inner_text())
    assert total >= 4
    field.press("Enter")
    assert hits.inner_text() == f"1 / {total}"
    assert "tanh" in page.locator(".gx-chosen").get_attribute("aria-label").lower()
    field.press("Enter")
    assert hits.inner_text() == f"2 / {total}"
    field.press("Shift+Enter")
    assert hits.inner_text() == f"1 / {total}"
    assert focused(page).startswith("Find")
    field.fill("no such thing")
    assert hits.inner_text() == "no hit"


def test_a_filter_dims_the_rest_and_says_how_many(page: Any, report: Any) -> None:
    chip = page.locator("[data-filter=lost]")
    count = int(chip.locator("b").inner_text())
    assert count == sum(1 for node in report.graph.graph.nodes if node.state in ("lost", "starved") or node.mark)
    chip.click()
    assert f"Lost: {count} of {len(report.graph.graph.nodes)} nodes" in page.locator(".gx-told").inner_text()
    assert box(page, "cross_entropy").get_attribute("opacity") is not None
    assert page.locator(".gx-chosen").get_attribute("opacity") is None
    chip.click()
    assert page.locator(".gx-told").is_hidden()
    assert box(page, "cross_entropy").get_attribute("opacity") is None


def test_colour_by_norm_has_a_legend(page: Any) -> None:
    fill = "document.querySelector(\".gx-box[aria-label^='head, module'] .gx-frame\").getAttribute('fill')"
    assert page.evaluate(fill) == "currentColor"
    page.get_by_role("button", name="Norms").click()
    assert page.evaluate(fill).startswith("rgb(")
    assert page.locator(".gx-scale").is_visible()


def test_the_slider_goes_through_the_recorded_steps_and_keeps_what_was_chosen(page: Any, report: Any) -> None:
    box(page, "loss, loss").click()
    slider = page.get_by_label("Recorded step")
    assert page.locator(".gx-step").inner_text().strip() == "step 1 of 3"
    values = []
    for title in ("step 1 of 3", "step 2 of 3", "step 3 of 3"):
        assert page.locator(".gx-step").inner_text().strip() == title
        values.append(page.locator(".gx-facts dt:text-is('value') + dd").inner_text())
        slider.press("ArrowRight")
    told = [node.value for graph in report.graph.graphs for node in graph.nodes if node.kind == "loss"]
    assert [float(value) for value in values] == pytest.approx(told, rel=0.01)


def test_steps_of_different_structure_are_shown_each_with_its_own_graph(page: Any, tmp_path: Path) -> None:
    """The third step divides by zero: only there is a division, and only there is anything NaN."""
    with gradnb.check() as report:
        torch.manual_seed(0)
        head = torch.nn.Linear(4, 2)
        optimizer = torch.optim.SGD(head.parameters(), 0.1)
        for turn in range(3):
            loss = head(torch.randn(8, 4)).square().mean()
            if turn == 2:
                loss = loss / 0
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    report.graph.to_html(str(tmp_path / "steps.html"))
    page.goto((tmp_path / "steps.html").as_uri())
    slider, chip = page.get_by_label("Recorded step"), page.locator("[data-filter=nan]")
    slider.press("Home")
    assert box(page, "div").count() == 0 and chip.is_disabled()
    slider.press("End")
    assert box(page, "div").is_visible() and chip.is_enabled()
    assert page.locator(".gx-chosen").get_attribute("aria-label").startswith("div")
    page.get_by_role("button", name="Play the steps").press("Enter")
    page.locator(".gx-step", has_text="step 1 of 3").wait_for()
    page.get_by_role("button", name="Stop").press("Enter")


def test_everything_can_be_reached_by_keyboard(page: Any) -> None:
    page.locator("body").press("Tab")
    seen = []
    for _ in range(30):
        seen.append(page.evaluate("document.activeElement.className.baseVal ?? document.activeElement.className"))
        if "gx-box" in seen[-1]:
            break
        page.keyboard.press("Tab")
    assert "gx-box" in seen[-1], seen
    first = focused(page)
    page.keyboard.press("ArrowDown")
    assert focused(page) != first
    page.keyboard.press("ArrowUp")
    assert focused(page) == first
    page.keyboard.press("End")
    assert focused(page).startswith("loss")
    page.keyboard.press("Enter")
    assert page.locator(".gx-panel h4").inner_text() == "loss"
    page.keyboard.press("/")
    page.keyboard.type("head")
    page.keyboard.press("Enter")
    page.keyboard.press("Escape")
    assert focused(page).startswith("head")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.getAttribute('aria-expanded')") in ("true", "false", None)
    ring = page.evaluate("getComputedStyle(document.activeElement.querySelector('.gx-ring')).visibility")
    assert ring == "visible"


def test_dragging_pans_ctrl_and_wheel_zoom_and_the_plain_wheel_scrolls_the_page(page: Any) -> None:
    page.evaluate("document.body.style.minHeight = '3000px'")
    transform = "document.querySelector('.gx-layer').getAttribute('transform')"
    before = page.evaluate(transform)
    page.mouse.move(120, 500)
    page.mouse.wheel(0, 200)
    page.wait_for_function("window.scrollY > 100")
    assert page.evaluate(transform) == before
    page.evaluate("window.scrollTo(0, 0)")
    page.mouse.move(120, 500)
    page.mouse.down()
    page.mouse.move(160, 530, steps=4)
    page.mouse.up()
    moved = page.evaluate(transform)
    assert moved != before
    page.keyboard.down("Control")
    page.mouse.wheel(0, -100)
    page.keyboard.up("Control")
    page.wait_for_function(f"{transform} !== {moved!r}")
    assert page.evaluate("window.scrollY") == 0
    page.get_by_role("button", name="Fit (0)").click()


def test_copy_svg_gives_a_picture_that_stands_alone(page: Any) -> None:
    page.get_by_role("button", name="Copy SVG").click()
    page.locator(".gx-told", has_text="clipboard").wait_for()
    text = page.evaluate("navigator.clipboard.readText()")
    assert text.startswith("<svg") and "lost here" in text and "class=" not in text
    assert page.evaluate("text => new DOMParser().parseFromString(text, 'image/svg+xml').querySelector('parsererror')", text) is None


def test_copy_svg_without_the_clipboard_selects_the_text(page: Any) -> None:
    page.evaluate("() => { navigator.clipboard.writeText = () => Promise.reject(new Error('forbidden')); }")
    page.get_by_role("button", name="Copy SVG").click()
    field = page.locator(".gx-copy textarea")
    field.wait_for()
    assert page.evaluate("document.activeElement.selectionEnd") == len(field.input_value()) > 500
    page.keyboard.press("Escape")
    assert page.locator(".gx-copy").count() == 0


def test_the_saved_page_works_again(page: Any, tmp_path: Path) -> None:
    with page.expect_download() as loaded:
        page.get_by_role("button", name="Save HTML").click()
    saved = tmp_path / "saved.html"
    loaded.value.save_as(saved)
    page.goto(saved.as_uri())
    page.wait_for_selector(".gx-chosen")
    assert page.locator(".gradnb-explorer").count() == 1
    assert marked_line(page) == LOST


def test_a_narrow_window_puts_the_panel_below_the_graph(page: Any, shots: Path) -> None:
    page.screenshot(path=shots / "page-light.png", full_page=True)
    page.set_viewport_size({"width": 700, "height": 950})
    try:
        page.reload()
        graph, panel = page.locator(".gx-stage").bounding_box(), page.locator(".gx-panel").bounding_box()
        page.screenshot(path=shots / "page-narrow.png", full_page=True)
        assert panel["y"] >= graph["y"] + graph["height"] - 1
        assert page.evaluate("document.documentElement.scrollWidth") <= 700
    finally:
        page.set_viewport_size({"width": 1200, "height": 950})


def test_the_report_stands_above_and_a_dark_system_gets_a_dark_page(page: Any, report: Any, tmp_path: Path, shots: Path) -> None:
    path = tmp_path / "report.html"
    report.to_html(str(path))
    page.emulate_media(color_scheme="dark")
    try:
        page.goto(path.as_uri())
        page.wait_for_selector(".gx-chosen")
        page.screenshot(path=shots / "page-dark.png", full_page=True)
        assert "gradcheck: 1 error" in page.locator(".gradnb").first.inner_text()
        light = page.evaluate("""() => [".gradnb-explorer", "body"].map(name => {
            const part = colour => colour.match(/[\\d.]+/g).slice(0, 3).reduce((sum, v) => sum + Number(v), 0) / 3;
            const style = getComputedStyle(document.querySelector(name));
            return [part(style.color), part(style.backgroundColor)];
        })""")
        assert all(ink > 200 and paper < 60 for ink, paper in light)
    finally:
        page.emulate_media(color_scheme="light")


def test_without_script_the_static_picture_is_read(browser: Any, file: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    try:
        page = context.new_page()
        page.goto(file.as_uri())
        assert page.locator("svg:visible").count() >= 1
        assert "lost here" in page.locator("svg").first.inner_html()
    finally:
        context.close()


def test_nothing_was_asked_of_the_network_and_nothing_was_said_in_the_console(window: Watched) -> None:
    """Runs last: over all that the tests above did."""
    assert window.requests and all(url.startswith(("file:", "data:", "blob:")) for url in window.requests), window.requests
    assert not window.complaints
