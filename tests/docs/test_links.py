"""Links in the sources lead somewhere where they are read: on GitHub, in a clone, in JupyterLab."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from public_names import ROOT

from gradnb import diagnoses

sys.path.insert(0, str(ROOT / "docs" / "_ext"))

import pages  # noqa: E402

MADE = {ROOT / "docs" / name for name, _ in pages.pages()}
SOURCES = [
    ROOT / "README.md",
    ROOT / "ARCHITECTURE.md",
    ROOT / "CHANGELOG.md",
    *sorted(path for path in (ROOT / "docs").rglob("*.md") if "_build" not in path.parts and path not in MADE),
    *sorted((ROOT / "notebooks").glob("*.ipynb")),
]
_LINK = re.compile(
    r"!?\[(?:[^\[\]]|\[[^\]]*\])*\]\(\s*<?([^()\s>]+(?:\([^()]*\))?)>?[^()]*\)|<(https?://[^>\s]+)>|(?:href|src)=\"([^\"]+)\""
)
_HEADING = re.compile(r"^#{1,6} +(.+?) *#* *$", re.M)


def prose(path: Path) -> str:
    """The Markdown of a file without its code, in which brackets mean something else."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".ipynb":
        text = "\n\n".join("".join(cell["source"]) for cell in json.loads(text)["cells"] if cell["cell_type"] == "markdown")
    text = re.sub(r"^(```|~~~).*?^\1", "", text, flags=re.M | re.S)
    return text


def links(path: Path) -> Iterator[str]:
    for found in _LINK.finditer(re.sub(r"(?<!\[)`[^`\n]*`(?!\])", "", prose(path))):
        yield next(filter(None, found.groups()))


@cache
def anchors(path: Path) -> set[str]:
    """The places of a Markdown file as GitHub names them."""
    found: set[str] = set()
    for heading in _HEADING.findall(prose(path)):
        words = re.sub(r"[^\w\- ]", "", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower().replace("`", ""))
        slug = words.replace(" ", "-")
        found.add(slug if slug not in found else f"{slug}-{sum(one.startswith(slug) for one in found)}")
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_somewhere(path: Path) -> None:
    broken = []
    for link in links(path):
        parts = urlsplit(link)
        if parts.scheme:
            if parts.scheme not in ("http", "https") or "." not in parts.netloc or parts.netloc != parts.netloc.strip("."):
                broken.append(f"{link} is no address")
            continue
        target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
        if target in MADE:
            continue  # there once the site is built
        if not target.exists():
            broken.append(f"{link}: there is no {target.relative_to(ROOT) if target.is_relative_to(ROOT) else target}")
        elif not target.is_relative_to(ROOT):
            broken.append(f"{link} leaves the repository")
        elif parts.fragment and target.suffix == ".md" and unquote(parts.fragment) not in anchors(target):
            broken.append(f"{link}: there is no such heading; there are {', '.join(sorted(anchors(target)))}")
    assert not broken, "\n".join(broken)


def test_the_links_are_found_and_a_broken_one_is_seen(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# A page\n\n[one](two.md#three) and `[x](y)` ![i](i.svg) <https://a.b/c>\n\n```\n[no](link)\n```\n\n[`code`](code.md)\n"
    )
    assert list(links(page)) == ["two.md#three", "i.svg", "https://a.b/c", "code.md"]
    assert anchors(page) == {"a-page"}
    with pytest.raises(AssertionError, match="two.md"):
        test_every_link_leads_somewhere(page)


def test_the_sources_link_at_all() -> None:
    assert sum(1 for path in SOURCES for link in links(path) if not urlsplit(link).scheme) > 30


def test_the_readme_lists_every_cause_and_no_other() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    table = readme[readme.index("| cause |") :].split("\n\n")[0]
    listed = [name for row in table.splitlines()[2:] for name in re.findall(r"`([a-z0-9-]+)`", row.split("|")[1])]
    assert sorted(listed) == diagnoses.slugs()


def test_the_groups_of_the_readme_are_those_of_the_site() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    groups = re.findall(r"^\| \*(.+?)\* \|", readme, re.M)
    assert len(groups) >= 5
    assert [group.lower() for group in groups] == [one.lower() for one in re.findall(r"^## (.+)$", pages.causes_index(readme), re.M)]
