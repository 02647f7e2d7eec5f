"""A shell to run cells in, as the notebook tests have it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "notebook"))

from in_process import Shell  # noqa: E402


@pytest.fixture(scope="module")
def module_shell() -> Iterator[Shell]:
    shell = Shell()
    yield shell
    shell.close()


@pytest.fixture
def shell(module_shell: Shell, capsys: pytest.CaptureFixture[str]) -> Shell:
    """A shell with gradnb loaded and an empty namespace."""
    module_shell.fresh(capsys)
    return module_shell
