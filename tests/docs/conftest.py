"""The documentation site, built once for all tests as `make docs` builds it."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import missing

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session", autouse=True)
def sphinx() -> None:
    """What `pip install 'gradnb[docs]'` brings; here it may be missing, in CI it must be there."""
    for name in ("sphinx", "myst_parser", "furo"):
        if importlib.util.find_spec(name) is None:
            missing(name)


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory, sphinx: None) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """The folder with the pages, and how the build ended."""
    made = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-W", "-n", "--keep-going", "-q", "-d", str(made / "doctrees"), "docs", str(made / "html")]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False)
    return made / "html", ended


@pytest.fixture(scope="session")
def site(built: tuple[Path, subprocess.CompletedProcess[str]]) -> Path:
    """The folder with the pages, whether or not there were warnings."""
    return built[0]
