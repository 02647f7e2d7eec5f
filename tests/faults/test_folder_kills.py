"""Writers that are killed at random moments, on two file systems, with many checkpoints and with one.

``GRADNB_FAULTS=full`` kills 200 times each instead of 25.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from gradnb.checkpoint.folder import Folder
from gradnb.checkpoint.tensors import FormatError, read
from tests.checkpoint.states import content, newest_good
from tests.faults.nursery import whole

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork, no SIGKILL on this system")
ROOT = Path(__file__).resolve().parents[2]
KILLS = 200 if os.environ.get("GRADNB_FAULTS") == "full" else 25


class Nursery:
    """The process that forks the writers."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.nursery"],
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def fork(self, path: Path, keep_last: int) -> int:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"path": str(path), "keep_last": keep_last}) + "\n")
        word, pid = self.line().split()
        assert word == "pid"
        return int(pid)

    def rest(self) -> list[int]:
        """The steps that were still announced; returns when the child has ended."""
        return [int(line) for line in iter(self.line, "gone")]


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    made = Nursery()
    yield made
    made.process.communicate()


@pytest.fixture(params=["same file system", "another file system"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    if request.param == "same file system":
        yield tmp_path / "run"
        return
    here = os.stat(tempfile.gettempdir()).st_dev
    others = [
        Path(name) for name in ("/dev/shm", "/run/shm", str(Path.home()), str(ROOT)) if os.path.isdir(name) and os.access(name, os.W_OK)
    ]
    other = next((path for path in others if path.stat().st_dev != here), None)
    if other is None:
        pytest.skip("no second file system that can be written")
    with tempfile.TemporaryDirectory(dir=other) as name:
        yield Path(name) / "run"


def phase(path: Path, last: int) -> str:
    """Where the kill has hit, by what lies there. `last` is the step that was announced last."""
    folder = Folder(path)
    if not (unfinished := [damage.what for damage in folder.damaged() if damage.what.startswith("slot")]):
        found = folder.manifests()
        return "between two saves" if not found or found[0].step <= last else "committed, not announced"
    named = {record.name for manifest in folder.manifests() for record in manifest.files}
    slot = unfinished[0].replace(" ", "-")
    with contextlib.suppress(OSError, ValueError, KeyError):
        tree = json.loads((path / f"{slot}.json").read_bytes())["tree"]
        if tree["position"]["step"] == last + 1:
            return "before the manifest"
    try:
        tensors = read(path / f"{slot}.safetensors")[0]
        steps = {int(number) for name, tensor in tensors.items() if name != "model/base" for number in tensor.flatten().unique()}
    except FileNotFoundError:
        steps = set()
    except FormatError:
        return "in the tensors"
    if last + 1 in steps:
        return "before the JSON" if steps == {last + 1} else "in the tensors"
    return "in a shared file" if any(name.startswith("shared-") and name not in named for name in content(path)) else "manifest emptied"


@pytest.mark.slow
@pytest.mark.parametrize("keep", [[5], [1], [5, 1, 3]], ids=["keep 5", "keep 1", "keep 5, 1, 3 in turn"])
def test_a_writer_killed_at_any_moment_leaves_the_last_checkpoint_whole_and_nothing_else(
    nursery: Nursery, place: Path, keep: list[int]
) -> None:
    randomly = random.Random(sum(keep))
    phases: Counter[str] = Counter()
    last, pace = 0, 0.1
    for kill in range(KILLS):
        keep_last = keep[kill % len(keep)]
        pid = nursery.fork(place, keep_last)
        times = []
        for _ in range(5 if kill == 0 else randomly.randrange(3)):
            last = int(nursery.line())
            times.append(time.monotonic())
        if kill == 0:
            pace = statistics.median(after - before for before, after in zip(times, times[1:]))
        time.sleep(randomly.uniform(0, 2 * pace))  # the random moment itself
        os.kill(pid, signal.SIGKILL)
        last = max([last, *nursery.rest()])
        phases[phase(place, last)] += 1

        folder = Folder(place, keep_last=keep_last)
        folder.open()
        found = newest_good(folder)
        assert found is not None, "silently at step 0"
        manifest, state = found
        assert state.step in (last, last + 1)
        assert whole(state), "a mixture of two steps"
        assert manifest == folder.manifests()[0], "the newest one was damaged"
        assert folder.damaged() == []
        assert all(not folder.verify(one) for one in folder.manifests())
        ours = {f"slot-{one.slot}.manifest" for one in folder.manifests()} | {
            folder.file(one, record).name for one in folder.manifests() for record in one.files
        }
        assert set(content(place)) == ours, "files were left behind"
        assert len(folder.manifests()) <= max(keep) + 1
        folder.close()
        last = state.step
    print(f"\n{KILLS} kills, {keep=}, a save takes {pace * 1000:.1f} ms: {dict(phases)}")
    half_written = set(phases) - {"between two saves", "committed, not announced"}
    assert len(half_written) >= 2 and sum(phases[name] for name in half_written) >= KILLS / 10
