"""The documentation site builds without a warning, and holds what it promises: a page for every cause, rule and public name."""

from __future__ import annotations

import html
import re
import subprocess
import sys
import zlib
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from public_names import ROOT, public

from gradnb import diagnoses
from gradnb.diagnoses._program import MARK, program
from gradnb.monitor import rules

pytestmark = pytest.mark.slow


class _Page(HTMLParser):
    """What a page can be linked at, and what it links to."""

    def __init__(self, path: Path):
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("id", "name") and value:
                self.ids.add(value)
            if name in ("href", "src") and value and not (tag == "link" and ":" in value):
                self.links.append(value)


@cache
def parsed(path: Path) -> _Page:
    return _Page(path)


def text_of(path: Path) -> str:
    return html.unescape(re.sub(r"<[^>]+>", "", path.read_text(encoding="utf-8")))


def test_it_builds_without_a_warning(built: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    site, ended = built
    assert ended.returncode == 0 and ended.stderr.strip() == "", ended.stdout + ended.stderr
    for name in ("index", "walkthroughs", "causes/index", "rules/index", "api/index", "api/magics", "add-a-diagnosis", "architecture"):
        assert (site / f"{name}.html").is_file(), name


def test_a_warning_fails_the_build(tmp_path: Path) -> None:
    (tmp_path / "conf.py").write_text('extensions = ["myst_parser"]\n')
    (tmp_path / "index.md").write_text("# Start\n\n[nowhere](nothing.md)\n")
    command = [sys.executable, "-m", "sphinx", "-W", "-n", "--keep-going", "-q", str(tmp_path), str(tmp_path / "out")]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode != 0 and "nothing.md" in built.stderr


def test_every_link_of_every_page_leads_somewhere(site: Path) -> None:
    broken, pages = [], sorted(site.rglob("*.html"))
    assert len(pages) > 80
    for path in pages:
        if path.name in ("search.html", "genindex.html"):
            continue
        for link in parsed(path).links:
            parts = urlsplit(link)
            if parts.scheme in ("http", "https", "mailto", "data"):
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not target.exists():
                broken.append(f"{path.relative_to(site)}: {link}")
            elif parts.fragment and target.suffix == ".html" and unquote(parts.fragment) not in parsed(target).ids:
                broken.append(f"{path.relative_to(site)}: {link} (no such place on the page)")
    assert not broken, "\n".join(broken)


@pytest.mark.parametrize("slug", diagnoses.slugs())
def test_every_cause_has_its_page_with_the_line_at_fault(site: Path, slug: str) -> None:
    path = site / "causes" / f"{slug}.html"
    source = path.read_text(encoding="utf-8")
    marked = re.findall(r'<span class="hll">(.*?)\n', source)
    assert marked and all(MARK in html.unescape(re.sub(r"<[^>]+>", "", line)) for line in marked)
    said = text_of(path)
    module = diagnoses._find(slug)
    for name in ("bad", "good"):
        body, _ = program(module, name)
        assert body.strip() in said
    for heading in ("What happens", "The broken program", "The repaired program", "Why it matters", "Fix", "References"):
        assert f"{heading}<" in source
    assert "https://" in source and diagnoses.summary(slug).replace("`", "") in said


@pytest.mark.parametrize("slug", rules.slugs())
def test_every_rule_has_its_page_with_its_threshold(site: Path, slug: str) -> None:
    said = text_of(site / "rules" / f"{slug}.html")
    assert rules.summary(slug).replace("`", "") in said
    for heading in ("Severity:", "Threshold:", "Source:", "What happens", "Why it matters", "Try", "References"):
        assert heading in said


def test_the_table_of_causes_links_each_to_its_page(site: Path) -> None:
    index = parsed(site / "causes" / "index.html")
    table = re.search(r"<article.*?</article>", (site / "causes" / "index.html").read_text(encoding="utf-8"), re.S)
    assert table and {f"{slug}.html" for slug in diagnoses.slugs()} <= set(re.findall(r'href="([a-z0-9-]+\.html)"', table[0]))
    assert {"history-lost-between-the-parameters-and-the-loss", "numbers", "mixed-precision"} <= index.ids


def test_every_public_name_stands_in_the_reference(site: Path) -> None:
    inventory = (site / "objects.inv").read_bytes().split(b"\n", 4)[4]
    listed = {line.split()[0] for line in zlib.decompress(inventory).decode().splitlines()}
    wanted = [one for one in public().values() if one.kind != "magic"]
    absent = []
    for one in wanted:
        name = f"{one.owner.__module__}.{one.owner.__qualname__}.{one.name.rpartition('.')[2]}" if one.owner else one.name
        if name not in listed and one.name not in listed:
            absent.append(one.name)
    assert not absent, f"{len(absent)} of {len(wanted)}: {absent}"
    said = text_of(site / "api" / "magics.html")
    for one in public().values():
        if one.kind == "magic":
            assert one.name in said


def test_every_walkthrough_is_listed(site: Path) -> None:
    said = text_of(site / "walkthroughs.html")
    for path in (ROOT / "notebooks").glob("[0-9]*.ipynb"):
        assert path.name in said
