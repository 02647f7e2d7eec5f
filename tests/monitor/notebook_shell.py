"""A notebook's shell in the test's own process: what its cells show, output by output, as a front end would keep it."""

from __future__ import annotations

from typing import Any

from IPython.core.displaypub import DisplayPublisher
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config


class Shown(DisplayPublisher):
    """Keeps outputs by their display_id, and counts what was sent."""

    def reset(self) -> None:
        self.outputs: list[dict[str, Any]] = []
        self.sent = 0
        self.hooks: list[Any] = []

    def register_hook(self, hook: Any) -> None:
        self.hooks.append(hook)

    def unregister_hook(self, hook: Any) -> bool:
        self.hooks.remove(hook)
        return True

    def clear_output(self, wait: bool = False) -> None:
        for hook in self.hooks:
            hook({"header": {"msg_type": "clear_output"}, "content": {"wait": wait}})
        self.outputs.clear()

    def publish(self, data: Any, metadata: Any = None, *, transient: Any = None, update: bool = False, **_: Any) -> None:
        self.sent += 1
        name = (transient or {}).get("display_id")
        if not update:
            self.outputs.append({"id": name, **data})
        for output in self.outputs:
            if update and output["id"] == name:
                output.update(data)


class Notebook:
    """Cells run as in a kernel, where the live panel shows itself."""

    def __init__(self) -> None:
        config = Config()
        config.HistoryManager.enabled = False
        InteractiveShell.clear_instance()
        self.shell = InteractiveShell.instance(config=config)
        self.shell.kernel = object()  # what tells a notebook's shell from a terminal's
        self.shown = Shown()
        self.shown.reset()
        self.shell.display_pub = self.shown

    def run(self, cell: str) -> Any:
        result = self.shell.run_cell(cell, store_history=True)
        return result.error_before_exec or result.error_in_exec

    @property
    def texts(self) -> list[str]:
        return [output["text/plain"] for output in self.shown.outputs]

    @property
    def pages(self) -> list[str]:
        return [output["text/html"] for output in self.shown.outputs]

    def close(self) -> None:
        InteractiveShell.clear_instance()
