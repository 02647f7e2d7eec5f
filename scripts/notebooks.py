#!/usr/bin/env python3
"""Execute the walkthroughs and save them with their outputs.

    python scripts/notebooks.py [NAME...] [--check]

Each notebook of ``notebooks/`` (or those whose name begins with NAME) runs in a fresh kernel, in an empty folder, and is written back
without what belongs to one run only: timestamps, widget state, names of temporary folders. ``--check`` writes nothing. Exit status 1
where a notebook is not fit to be read: an error, a complaint of gradnb's, too many bytes, a path of this machine.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import queue
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from jupyter_core.utils import run_sync
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "notebooks"
SECONDS = 120
"""What a walkthrough may take of a processor's time: what the clock shows depends on what else the machine does."""
PATIENCE = 900
"""Seconds after which a cell is given up."""
BYTES = 300_000
"""What a saved walkthrough may weigh."""

ERROR_WANTED = "raises-exception"
_WIDGET = "application/vnd.jupyter.widget-view+json"
_WIDGET_TEXT = re.compile(r"^(interactive|VBox|HBox|Button|\w*Slider|Output|Dropdown|ToggleButtons)\(")
_TEMPORARY = re.compile(re.escape(tempfile.gettempdir()) + r"/[\w-]+")
_KERNEL_FILE = re.compile(r"(?:[^\s'\"<>()]*/)?ipykernel_\d+/\d+\.py")
_INSTALLED = re.compile(r"/[^\s'\"<>()\x1b]*/(?=(?:site|dist)-packages/)")
_COLOUR = re.compile(r"\x1b\[[\d;]*m")
# Matched by what comes before them, so that base64 and addresses do not count.
_MACHINE = re.compile("|".join(rf"(?<![\w.:<>/*+=-]){re.escape(path)}\b" for path in {str(ROOT), str(Path.home()), tempfile.gettempdir()}))


@dataclass
class Run:
    """What came of one execution."""

    book: nbformat.NotebookNode
    seconds: float = 0.0
    """Processor time of the kernel and of what it started."""
    reports: list[dict[str, Any]] = field(default_factory=list)
    """``last_report().to_dict()`` after each ``%%gradcheck`` cell."""
    values: dict[str, Any] = field(default_factory=dict)
    """The expressions that were asked for after the last cell; one that fails is its error's text."""
    problems: list[str] = field(default_factory=list)


def execute(path: Path, python: str = sys.executable, values: tuple[str, ...] | list[str] = ()) -> Run:
    """Run every cell in a fresh kernel of this interpreter, in an empty folder; stops at the first error that no tag announces."""
    run = Run(nbformat.read(path, as_version=4))
    with tempfile.TemporaryDirectory(prefix="walkthrough-", ignore_cleanup_errors=True) as home:
        client = _client(run.book, python, Path(home))
        before = _spent()
        with client.setup_kernel(env=_environment(Path(home))):
            _look_again(client)
            for index, cell in enumerate(run.book.cells):
                if cell.cell_type != "code":
                    continue
                client.execute_cell(cell, index)
                run.problems += _complaints(index, cell)
                if run.problems:
                    break
                if cell.source.startswith("%%gradcheck"):
                    run.reports.append(
                        json.loads(_evaluate(client, "__import__('json').dumps(__import__('gradnb').last_report().to_dict())"))
                    )
            else:
                run.values = {text: _evaluate(client, text) for text in values}
        run.seconds = _spent() - before
    if run.seconds > SECONDS:
        run.problems.append(f"took {run.seconds:.0f} s, {SECONDS} s are allowed")
    return run


def _spent() -> float:
    """Of the children that have ended, theirs included."""
    times = os.times()
    return times.children_user + times.children_system


def _client(book: nbformat.NotebookNode, python: str, home: Path) -> NotebookClient:
    """A kernel of its own, not the one that the user's Jupyter has registered under the name."""
    spec = home / "specs" / "python3"
    spec.mkdir(parents=True)
    (home / "files").mkdir()
    argv = [python, "-m", "ipykernel_launcher", "-f", "{connection_file}", "--log-level=ERROR"]
    (spec / "kernel.json").write_text(json.dumps({"argv": argv, "display_name": "Python 3", "language": "python"}))
    manager = AsyncKernelManager(kernel_name="python3", kernel_spec_manager=KernelSpecManager(kernel_dirs=[str(spec.parent)]))
    client = NotebookClient(
        book, km=manager, kernel_name="python3", timeout=PATIENCE, allow_errors=True, record_timing=False, coalesce_streams=True
    )
    client.resources = {"metadata": {"path": str(home / "files")}}
    client.owns_km = True  # so that it ends the kernel
    return client


def _look_again(client: NotebookClient) -> None:
    """Wait for a reply two seconds at a time. A widget's output makes nbclient send while it waits, past asyncio's eyes, and what arrives
    in that moment wakes nobody: seen once in some fifteen runs, kernel idle, reply there, until the time was up."""
    wait = client.kc.shell_channel.get_msg

    async def get_msg(timeout: float | None = None) -> dict[str, Any]:
        end = time.monotonic() + (PATIENCE if timeout is None else timeout)
        while True:
            left = end - time.monotonic()
            try:
                message: dict[str, Any] = await wait(timeout=max(0.0, min(2.0, left)))
                return message
            except queue.Empty:
                if left <= 2.0:
                    raise

    client.kc.shell_channel.get_msg = get_msg


def _environment(home: Path) -> dict[str, str]:
    """One thread: the same numbers on every machine. A backend that is set for scripts would keep plots out of the notebook."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "IPYTHONDIR": str(home / "ipython"), "HOME": str(home)}
    environment.pop("MPLBACKEND", None)
    return environment


def _evaluate(client: NotebookClient, expression: str) -> Any:
    """The value in the kernel's namespace, without a number of a cell being used up."""
    reply = run_sync(client.kc.execute_interactive)("", silent=True, store_history=False, user_expressions={"it": expression}, timeout=30)
    found = reply["content"]["user_expressions"]["it"]
    if found["status"] != "ok":
        return f"{found['ename']}: {found['evalue']}"
    text = found["data"]["text/plain"]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _complaints(index: int, cell: nbformat.NotebookNode) -> Iterator[str]:
    """What should not have happened in this cell. The magic passes errors on; one that it swallowed would be missing here."""
    where = f"cell {index} ({cell.source.strip().splitlines()[0][:50] if cell.source.strip() else 'empty'})"
    errors = [output for output in cell.outputs if output.output_type == "error"]
    wanted = ERROR_WANTED in cell.metadata.get("tags", [])
    if wanted and not errors:
        yield f"{where} is tagged {ERROR_WANTED} and raised nothing"
    for error in errors:
        if not wanted:
            yield f"{where} raised {error.ename}: {error.evalue}"
    for output in cell.outputs:
        if output.output_type == "stream" and output.name == "stderr":
            if "Traceback (most recent call last)" in output.text or re.search(r"^gradnb: .*(problem|fault|failed)", output.text, re.M):
                yield f"{where} said {output.text.strip()[-500:]}"


def clean(book: nbformat.NotebookNode) -> None:
    """Take out what belongs to one run, one machine, or a kernel that is gone."""
    book.metadata = nbformat.from_dict(
        {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python", "file_extension": ".py", "mimetype": "text/x-python", "pygments_lexer": "ipython3"},
        }
    )
    for index, cell in enumerate(book.cells):
        cell.id = f"cell-{index:02d}"  # random ones would make every new version differ everywhere
        tags = cell.metadata.get("tags")
        cell.metadata = nbformat.from_dict({"tags": tags} if tags else {})
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if _kept(output)]
    for container, key in _texts(book):
        # A warning names the file that the kernel keeps a cell in, by its process number; a traceback, where a library is installed.
        container[key] = _INSTALLED.sub("…/", _TEMPORARY.sub("…", _KERNEL_FILE.sub("cell", container[key])))


def _kept(output: nbformat.NotebookNode) -> bool:
    """Drop the view of a widget; what stands beside it (a report's html) stays. False when nothing is left."""
    data = output.get("data")
    if data is None:
        return True
    if data.pop(_WIDGET, None) is not None or _WIDGET_TEXT.match(data.get("text/plain", "")):
        if set(data) <= {"text/plain"}:
            return False
    output.metadata = nbformat.from_dict({})
    return True


def _texts(book: nbformat.NotebookNode) -> Iterator[tuple[Any, Any]]:
    """Every text of every output, as (container, key)."""
    for cell in book.cells:
        for output in cell.get("outputs", []):
            if output.output_type == "stream":
                yield output, "text"
            elif output.output_type == "error":
                yield output, "evalue"
                yield from ((output.traceback, number) for number in range(len(output.traceback)))
            else:
                yield from ((output.data, kind) for kind, text in output.data.items() if isinstance(text, str) and kind != "image/png")


def unfit(book: nbformat.NotebookNode) -> list[str]:
    """Why this notebook, as it is, should not be saved or published."""
    found = []
    try:
        nbformat.validate(book)
    except nbformat.ValidationError as error:
        found.append(f"is no valid notebook: {str(error).splitlines()[0]}")
    size = len(nbformat.writes(book).encode())
    if size > BYTES:
        found.append(f"weighs {size:,} bytes, {BYTES:,} are allowed")
    if "widgets" in book.metadata or any(_WIDGET in output.get("data", {}) for cell in book.cells for output in cell.get("outputs", [])):
        found.append("holds widget state: GitHub refuses to show it")
    if any(cell.cell_type == "code" and cell.source.strip() and cell.execution_count is None for cell in book.cells):
        found.append("has cells that did not run")
    for container, key in _texts(book):
        text = _COLOUR.sub(" ", container[key])
        if match := _MACHINE.search(text):
            found.append(f"names a path of this machine: {text[max(0, match.start() - 60) : match.end() + 60]!r}")
    return found


def paths(names: list[str]) -> list[Path]:
    """The notebooks whose names begin so; all of them without names."""
    everything = sorted(FOLDER.glob("*.ipynb"))
    chosen = [path for path in everything if not names or any(path.stem.startswith(Path(name).stem) for name in names)]
    if not chosen:
        raise SystemExit(
            f"no notebook is called {' or '.join(names) or '*.ipynb'} in {FOLDER}; there are {', '.join(p.stem for p in everything)}"
        )
    return chosen


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--check", action="store_true", help="write nothing")
    args = parser.parse_args()
    bad = False
    for path in paths(args.names):
        run = execute(path)
        clean(run.book)
        problems = run.problems or unfit(run.book)
        text = nbformat.writes(run.book) + "\n"
        print(f"{path.stem}: {run.seconds:.1f} s of processor time, {len(text.encode()) / 1000:.0f} kB")
        for problem in problems:
            print(f"    {problem}")
        bad = bad or bool(problems)
        if not args.check and not problems:
            path.write_text(text, encoding="utf-8")
    return int(bad)


if __name__ == "__main__":
    sys.exit(main())
