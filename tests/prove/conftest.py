"""Two doors to a proof: a shell for whole cells, and a spare process that can be asked with any claim."""

from __future__ import annotations

import ast
import linecache
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch._dynamo  # noqa: F401  # a spare would import it for each test anew

from gradnb.prove.claim import Claim
from gradnb.prove.judge import Proof
from gradnb.prove.rerun import Cell
from gradnb.prove.spare import Spare
from gradnb.recorder.recorder import Recorder
from gradnb.recorder.recording import Location

sys.path.insert(0, str(Path(__file__).parents[1] / "notebook"))  # in_process

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


class Program:
    """Source that runs, and runs again in a spare, like a cell. A line is found by the comment behind it."""

    def __init__(self, source: str):
        self.name, self.source = f"<ipython-input-{id(source)}-prove>", source
        linecache.cache[self.name] = (len(source), None, source.splitlines(True), self.name)
        self.names: dict[str, Any] = {"__name__": "__main__"}
        self.statements = ast.parse(source).body

    def line(self, mark: str) -> int:
        return next(number for number, line in enumerate(self.source.splitlines(), 1) if f"# {mark}" in line)

    def claim(self, cause: str, mark: str, affected: tuple[str, ...] = (), **more: Any) -> Claim:
        line = self.line(mark)
        place = Location(2, None, line, "", self.source.splitlines()[line - 1].strip(), filename=self.name)
        return replace(Claim(cause, place, affected, inert=False), **more)

    def run(self) -> BaseException | None:
        try:
            for node in self.statements:
                exec(compile(ast.Module([node], []), self.name, "exec"), self.names)
        except BaseException as error:
            return error
        return None

    def recorder(self) -> Recorder:
        return Recorder(steps=5, namespace=self.names, cells={self.name: 2})

    def prove(self, *claims: Claim, raised: str | None = None, limit: float = 60.0) -> list[Proof]:
        spare = Spare(Cell(self.run, self.recorder, {self.name: self.statements}))
        try:
            return [proof for _, proof in spare.prove(list(claims), raised, limit, 300.0)]
        finally:
            spare.dismiss()


@pytest.fixture
def program() -> Callable[[str], Program]:
    return Program
