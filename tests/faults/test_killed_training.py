"""A whole training that is killed at random moments, as often as it takes, ends as if nothing had happened."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "checkpoint"))
from cut_off_training import Plan, end, run, same, start, stop_server  # noqa: E402

KILLS = 40 if os.environ.get("GRADNB_FAULTS") == "full" else 8
OTHER = Path("/dev/shm")


@pytest.fixture(scope="module", autouse=True)
def server():
    """Torch is imported once for all trainings; the process that holds it ends with them."""
    yield
    stop_server()


@pytest.mark.slow
@pytest.mark.parametrize("elsewhere", [False, True], ids=["same file system", "another file system"])
@pytest.mark.parametrize("keep", [5, 1])
def test_kills_at_random_moments_change_nothing(tmp_path, keep, elsewhere):
    if elsewhere and (not OTHER.is_dir() or os.stat(OTHER).st_dev == os.stat(tmp_path).st_dev):
        pytest.skip(f"{OTHER} is no other file system")
    whole = Plan(str(tmp_path / "whole" / "run"), every=1, keep_last=keep)
    base = OTHER / f"gradnb-{os.getpid()}" if elsewhere else tmp_path / "cut"
    cut = whole.but(folder=str(base / "run"), pause=0.01)
    (tmp_path / "whole").mkdir()
    base.mkdir()
    try:
        assert run(whole)[0] == 0
        moments, reached = random.Random(keep), 0
        for _ in range(KILLS):
            training = start(cut)
            while training.is_alive() and training.first() is None:
                time.sleep(0.002)
            first = training.first()
            # the save of a step waits for the one before it, so all but the last two steps are safe
            assert first is None or reached - 1 <= first <= reached + 1 or first == 1 >= reached, "it went on from the newest checkpoint"
            time.sleep(moments.uniform(0, 0.12))
            if not training.is_alive():
                break
            os.kill(training.pid, signal.SIGKILL)
            training.join()
            reached = max(reached, training.last())
        assert run(cut.but(pause=0.0))[0] == 0
        assert same(end(whole.folder), end(cut.folder))
        files = sorted(path.name for path in (base / "run").iterdir())
        slots = keep + 1
        assert len(files) <= 3 * slots and all(name.startswith("slot-") for name in files), "nothing is left behind"
    finally:
        if elsewhere:
            import shutil

            shutil.rmtree(base, ignore_errors=True)
