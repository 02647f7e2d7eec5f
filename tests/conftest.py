"""What all tests share: the order (fast ones first) and the rule that a test may be skipped here but never in CI."""

from __future__ import annotations

import os
import shutil
import tomllib
from pathlib import Path
from typing import NoReturn

import pytest

os.environ.setdefault("MPLBACKEND", "Agg")

_LAST = ("slow", "colab", "browser", "walkthrough")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Fast tests first: a mistake shows in seconds."""
    items.sort(key=lambda item: max((1 + i for i, name in enumerate(_LAST) if item.get_closest_marker(name)), default=0))


def address() -> str:
    """Of the repository, from the one place that tells it."""
    project = tomllib.loads((Path(__file__).resolve().parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found: str = project["urls"]["Repository"]
    return found


def missing(what: str) -> NoReturn:
    """Skip because `what` is not installed; in CI everything is, so there it is a failure."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{what} is missing, and in CI it must be there")
    pytest.skip(f"{what} is missing: `make test` installs it")


@pytest.fixture(scope="session")
def chromium() -> str:
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if path := shutil.which(name):
            return path
    missing("Chromium")
