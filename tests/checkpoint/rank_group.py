"""A group of gloo processes for a test: snippets of code run in all of them at the same time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent


class Group:
    """Processes that stay alive between snippets: torch is loaded once."""

    def __init__(self, world: int, store: Path):
        env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(HERE.parents[1])}
        self.log = tempfile.TemporaryFile("w+")
        self.processes = [
            subprocess.Popen(
                [sys.executable, str(HERE / "rank_worker.py"), str(rank), str(world), str(store)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self.log,
                text=True,
                env=env,
            )
            for rank in range(world)
        ]

    def start(self, code: str, ranks: list[int] | None = None) -> None:
        for rank in range(len(self.processes)) if ranks is None else ranks:
            self.processes[rank].stdin.write(json.dumps(code) + "\n")
            self.processes[rank].stdin.flush()

    def answer(self, rank: int) -> dict[str, Any]:
        line = self.processes[rank].stdout.readline()
        assert line, f"rank {rank} has ended:\n{self.output()[-3000:]}"
        return json.loads(line)

    def run(self, code: str) -> list[list[Any]]:
        """What each rank said; the test fails where one of them raised."""
        answers = self.outcomes(code)
        for rank, answer in enumerate(answers):
            assert "error" not in answer, f"rank {rank}: {answer['trace']}"
        return [answer["said"] for answer in answers]

    def outcomes(self, code: str) -> list[dict[str, Any]]:
        """The same where errors are expected: ``said``, and ``error``."""
        self.start(code)
        return [self.answer(rank) for rank in range(len(self.processes))]

    def output(self) -> str:
        """What all of them have printed."""
        self.log.seek(0)
        return self.log.read()

    def close(self) -> None:
        for process in self.processes:
            process.stdin.close()
        for process in self.processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            process.stdout.close()
        self.log.close()


@contextmanager
def group(world: int) -> Iterator[Group]:
    with tempfile.TemporaryDirectory() as folder:
        made = Group(world, Path(folder) / "store")
        try:
            yield made
        finally:
            made.close()
