"""An IPython shell in the test's own process, and what a cell did in it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

ESCAPES = re.compile(r"\x1b\[[0-9;]*m")


@dataclass
class Ran:
    value: Any
    error: BaseException | None
    out: str
    err: str


class Shell:
    def __init__(self) -> None:
        config = Config()
        config.HistoryManager.enabled = False  # in memory only
        # Some magics ask for the shell of the process, so it has to be that one.
        InteractiveShell.clear_instance()
        self.ip = InteractiveShell.instance(config=config)
        self.ip.run_line_magic("load_ext", "gradnb")
        self._first_names = set(self.ip.user_ns)
        self.capsys: pytest.CaptureFixture[str]

    def fresh(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys
        for name in set(self.ip.user_ns) - self._first_names:
            del self.ip.user_ns[name]
        self.ip.ast_node_interactivity = "last_expr"
        self.ip.compile.reset_compiler_flags()

    def close(self) -> None:
        self.ip.run_line_magic("unload_ext", "gradnb")
        InteractiveShell.clear_instance()

    @property
    def names(self) -> dict[str, Any]:
        return self.ip.user_ns

    def run(self, cell: str) -> Ran:
        self.capsys.readouterr()
        result = self.ip.run_cell(cell, store_history=True)
        out, err = self.capsys.readouterr()
        error = result.error_before_exec or result.error_in_exec
        return Ran(result.result, error, ESCAPES.sub("", out), ESCAPES.sub("", err))
