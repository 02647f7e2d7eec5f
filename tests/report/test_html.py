"""What the html form and its two pictures hold, and what they never let through."""

from __future__ import annotations

import base64
import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser

import pytest

from gradnb.report import html, svg
from gradnb.report.report import RaisedRow, Report

from .samples import crowded, healthy, hostile, rich, row

VOID = {"img", "meta", "br"}


class Checker(HTMLParser):
    """Collects tags and visible text, and insists that every tag is closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID and not (self.get_starttag_text() or "").endswith("/>"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)


def read(text: str) -> Checker:
    checker = Checker()
    checker.feed(text)
    checker.close()
    assert not checker.open
    return checker


@pytest.mark.parametrize("make", [rich, healthy, crowded, hostile, Report])
def test_the_report_is_one_well_formed_div_under_60_kb_without_script(make) -> None:  # type: ignore[no-untyped-def]
    text = html.render(make())
    found = read(text)
    assert text.startswith('<div class="gradnb">') and text.endswith("</div>")
    assert len(text.encode()) < 60_000
    assert "script" not in {tag for tag, _ in found.tags}
    assert not [name for _, attrs in found.tags for name in attrs if name.startswith("on")]


def test_overlong_names_code_and_prose_still_fit_into_60_kb() -> None:
    report = crowded()
    for finding in report.findings:
        finding.explanation = "word " * 5000
        finding.fix = "Replace it:\n\n" + "    x = 1\n" * 2000
        finding.title = "`x`" * 1000
        finding.affected = [f"{'deep.' * 80}{i}.{'n' * 200}" for i in range(300)]
        finding.path = finding.path * 30
    report.sources = {name: source + "#" * 5000 for name, source in report.sources.items()}
    report.parameters = [row(f"{'p' * 300}{i}.{'q' * 300}", "none") for i in range(400)]
    report.notes = ["note " * 1000] * 100
    report.environment = {f"key{i}": "v" * 500 for i in range(50)}
    text = html.render(report)
    read(text)
    assert len(text.encode()) < 60_000
    assert len(repr(report).splitlines()) < 400


def test_nothing_is_loaded_from_anywhere() -> None:
    found = read(html.page(rich()))
    sources = [value for _, attrs in found.tags for name, value in attrs.items() if name in ("src", "href", "srcset")]
    assert sources and all(value and value.startswith("data:image/svg+xml;base64,") for value in sources)
    assert "url(" not in html.page(rich()) and "@import" not in html.page(rich())


def test_hostile_names_stay_text() -> None:
    found = read(html.render(hostile()))
    assert "<script>alert(1)</script>" in "".join(found.words)
    assert [attrs for tag, attrs in found.tags if tag == "img" and not (attrs["src"] or "").startswith("data:")] == []


def test_the_style_touches_only_the_report() -> None:
    css = re.sub(r"@media print\{(.*)\}", r"\1", html.CSS, flags=re.DOTALL)
    selectors = [part.strip() for rule in re.findall(r"([^{}]+)\{", css) for part in rule.split(",")]
    assert selectors and all(part.startswith(".gradnb") for part in selectors)


def test_a_card_holds_the_marked_columns_the_fix_and_the_affected_parameters() -> None:
    text = html.render(rich())
    assert "<mark>scores.detach()</mark>" in text
    assert "<pre>adjacency = torch.softmax(scores, dim=-1)</pre>" in text
    assert "blocks.{0,1}.graph.theta (weight, bias: 4 parameters)" in text


def test_without_style_the_words_still_come_in_reading_order() -> None:
    words = "".join(read(html.render(rich())).words)
    order = ["gradcheck: 2 errors", "error: detach", "cell [4], line 16, in forward", "scores.detach()", "Starves:"]
    order += ["The scores go on", "Fix:", "Note:", "error: zero-gradient", "warning: zero", "info: frozen"]
    order += ["Gradient path,", "Parameters (14)", "python 3.13.1"]
    places = [words.find(part) for part in order]
    assert -1 not in places
    assert places == sorted(places)


def test_a_sanitiser_that_strips_style_and_svg_leaves_the_image_and_hides_the_loose_words() -> None:
    """JupyterLab drops an attribute without a value, so ``hidden`` carries one."""
    text = html.render(rich())
    assert text.count('<div class="gradnb-picture" hidden="hidden"><svg') == 2
    assert "img.gradnb-still{display:none}" in text and ".gradnb-picture[hidden]{display:block!important}" in text
    image = re.search(r'<img class="gradnb-still" alt="([^"]+)"[^>]* src="data:image/svg\+xml;base64,([^"]+)"', text)
    assert image and "6 of 13 parameters" in image.group(1)
    drawn = base64.b64decode(image.group(2)).decode()
    ElementTree.fromstring(drawn)
    assert "currentColor" not in drawn and 'fill="#fff"' in drawn


def test_the_raised_error_is_told() -> None:
    report = healthy()
    report.raised = RaisedRow("RuntimeError", "element 0 of tensors does not require grad", None)
    assert "raised RuntimeError: element 0 of tensors does not require grad" in html.render(report)


def test_an_exact_zero_is_told_in_words_and_a_small_norm_keeps_its_digits() -> None:
    text = html.render(Report(parameters=[row("a.weight", "zero", 0.0), row("b.weight", norm=2.34e-4), row("c.weight", norm=1e-30)]))
    assert "exactly zero" in text and "2.34e-04" in text and "1.00e-30" in text
    assert not re.search(r"<td>0(\.0+)?(e[+-]?0+)?</td>", text)


def test_the_page_stands_alone_and_is_written_to_a_file(tmp_path) -> None:  # type: ignore[no-untyped-def]
    file = tmp_path / "report.html"
    text = rich().to_html(str(file))
    assert file.read_text(encoding="utf-8") == text
    assert text.startswith("<!doctype html>") and "<title>gradcheck: 2 errors" in text
    assert "prefers-color-scheme:dark" in text and "@media print" in text


def test_the_picture_shows_the_way_the_cut_and_the_word_lost_with_its_line() -> None:
    drawn = ElementTree.fromstring(svg.path_picture(rich()))
    assert drawn.get("role") == "img" and "6 of 13 parameters get no gradient" in (drawn.get("aria-label") or "")
    assert "lost at detach, cell [4], line 16" in (drawn.get("aria-label") or "")
    name = "{http://www.w3.org/2000/svg}"
    words = [text.text for text in drawn.iter(f"{name}text")]
    assert words.index("blocks.0.graph.theta.weight") < words.index("detach") < words.index("lost here") < words.index("loss")
    titles = [title.text or "" for title in drawn.iter(f"{name}title")]
    assert len(titles) == len(list(drawn.iter(f"{name}g"))) and any("gradient lost here" in title for title in titles)
    edges = [path for path in drawn.findall(f"{name}path") if "V" in (path.get("d") or "")]
    dashed = [path.get("stroke-dasharray") is not None for path in edges]
    assert dashed == sorted(dashed) and dashed[0] is False and dashed[-1] is True


def test_operations_of_one_line_share_a_box_in_the_picture() -> None:
    assert "linear, matmul, relu" in svg.path_picture(rich())


def test_without_a_path_there_is_no_picture_and_without_parameters_no_bars() -> None:
    assert svg.path_picture(healthy()) == "" and svg.norm_bars(Report()) == ""


@pytest.mark.parametrize("make", [rich, healthy, crowded, hostile])
def test_the_bars_are_well_formed_and_tell_each_state_in_words(make) -> None:  # type: ignore[no-untyped-def]
    report = make()
    drawn = svg.norm_bars(report)
    ElementTree.fromstring(drawn)
    if any(r.gradient == "none" and r.trainable for r in report.parameters):
        assert "no gradient" in drawn and "✗" in drawn


def test_bars_survive_a_report_without_any_finite_norm() -> None:
    rows = [row("a.weight", "nan", float("nan")), row("b.weight", "inf", float("inf"))]
    rows += [row("c.weight", "none"), row("d.weight", "zero", 0.0)]
    drawn = svg.norm_bars(Report(parameters=rows))
    ElementTree.fromstring(drawn)
    assert all(word in drawn for word in ("NaN", "Inf", "no gradient", "only zeros"))


def test_the_picture_is_left_out_where_the_reader_asked_for_no_graph() -> None:
    report = rich()
    report.show_graph = False
    assert "gradnb-still" not in html.render(report).split("</style>")[1]
