"""A real kernel, driven the way a front end does it."""

from __future__ import annotations

import json
import os
import re
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty
from typing import Any

from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import KernelManager

ESCAPES = re.compile(r"\x1b\[[0-9;]*m")
ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Ran:
    """What one cell gave: the status of the reply, and its outputs in the order in which they came."""

    status: str = ""
    count: int | None = None
    outputs: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def _of(self, kind: str) -> list[dict[str, Any]]:
        return [content for found, content in self.outputs if found == kind]

    def _stream(self, name: str) -> str:
        return "".join(content["text"] for content in self._of("stream") if content["name"] == name)

    @property
    def kinds(self) -> list[str]:
        return [kind for kind, _ in self.outputs]

    @property
    def stdout(self) -> str:
        return self._stream("stdout")

    @property
    def stderr(self) -> str:
        return ESCAPES.sub("", self._stream("stderr"))

    @property
    def results(self) -> list[str]:
        return [content["data"]["text/plain"] for content in self._of("execute_result")]

    @property
    def reports(self) -> list[dict[str, str]]:
        return [content["data"] for content in self._of("display_data")]

    @property
    def errors(self) -> list[dict[str, Any]]:
        return self._of("error")

    @property
    def traceback(self) -> str:
        return ESCAPES.sub("", "\n".join(self.errors[0]["traceback"]))


class Kernel:
    """``python`` is the interpreter of the environment whose kernel it is."""

    def __init__(self, python: str):
        self._folder = tempfile.TemporaryDirectory(prefix="gradnb-kernel-")
        specs = Path(self._folder.name) / "specs"
        (specs / "under_test").mkdir(parents=True)
        spec = {"argv": [python, "-m", "ipykernel_launcher", "-f", "{connection_file}"], "display_name": "under test", "language": "python"}
        (specs / "under_test" / "kernel.json").write_text(json.dumps(spec))
        self.manager = KernelManager(kernel_name="under_test", kernel_spec_manager=KernelSpecManager(kernel_dirs=[str(specs)]))
        self.manager.start_kernel(env={**os.environ, "PYTHONPATH": str(ROOT), "IPYTHONDIR": self._folder.name})
        self.client = self.manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=120)

    def close(self) -> None:
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)
        self._folder.cleanup()

    def run(self, cell: str) -> Ran:
        ran = self.run_all(cell)[0]
        while ran.status == "aborted":  # it came while the kernel was still clearing its queue after the error before
            time.sleep(0.05)
            ran = self.run_all(cell)[0]
        return ran

    def run_all(self, *cells: str) -> list[Ran]:
        """Hand over every cell at once, as Run All does."""
        ids = [self.client.execute(cell) for cell in cells]
        return self._collect(ids)

    def run_interrupted(self, cell: str, at: str) -> Ran:
        """Run a cell, and press the stop button when it prints ``at``."""
        pressed = False

        def press(ran: Ran) -> None:
            nonlocal pressed
            if not pressed and at in ran.stdout:
                pressed = True
                self.manager.interrupt_kernel()

        return self._collect([self.client.execute(cell)], press)[0]

    def _collect(self, ids: list[str], watch: Callable[[Ran], None] | None = None, timeout: float = 120) -> list[Ran]:
        found = {identity: Ran() for identity in ids}
        waiting = set(ids)
        deadline = time.monotonic() + timeout
        while waiting:
            assert time.monotonic() < deadline, f"the kernel did not finish: {found}"
            try:
                message = self.client.get_iopub_msg(timeout=1)
            except Empty:
                continue
            identity = message["parent_header"].get("msg_id")
            if identity not in found:
                continue
            kind, content = message["msg_type"], message["content"]
            if kind == "status" and content["execution_state"] == "idle":
                waiting.discard(identity)
            elif kind in ("stream", "error", "execute_result", "display_data"):
                found[identity].outputs.append((kind, content))
                if watch is not None:
                    watch(found[identity])
        while not all(ran.status for ran in found.values()):
            reply = self.client.get_shell_msg(timeout=timeout)
            ran = found.get(reply["parent_header"].get("msg_id"), Ran())  # a late answer to wait_for_ready is none of ours
            ran.status, ran.count = reply["content"]["status"], reply["content"].get("execution_count")
        return list(found.values())
