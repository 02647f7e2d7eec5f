"""Every badge and link to this project names the address that pyproject.toml gives, and what is there."""

from __future__ import annotations

import re

import pytest

from tests.conftest import address

from .test_project import ROOT, TEXT, project_files

OWNER = r"([\w.-]+/gradnb)\b"
WAYS = {
    "GitHub": rf"github\.com/{OWNER}(?!\.io)(?:/(?:blob|tree|raw)/main/([\w./-]+))?",
    "Colab": rf"colab\.research\.google\.com/github/{OWNER}/blob/main/([\w./-]+)",
    "Binder": rf"mybinder\.org/v2/gh/{OWNER}/main\?(?:lab|url)path=([\w./-]+)",
}


@pytest.mark.parametrize("way", WAYS)
def test_every_link_has_the_address_and_leads_to_a_file(way: str) -> None:
    wanted = address().removeprefix("https://github.com/")
    wrong, right = [], 0
    for path in project_files():
        if path.suffix not in TEXT:
            continue
        for found in re.finditer(WAYS[way], path.read_text(encoding="utf-8", errors="replace")):
            if found[1] == wanted and (not found[2] or (ROOT / found[2]).exists()):
                right += 1
            else:
                wrong.append(f"{path.relative_to(ROOT)}: {found[0]}")
    assert not wrong, "\n".join(wrong)
    assert right
