"""Several processes: one checkpoint of all, committed by rank 0, or none; all go on from the same one."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rank_group import HERE, Group, group

from gradnb.checkpoint import Checkpointer

pytestmark = pytest.mark.slow


def files(folder: Path, slot: int = 0) -> dict[str, int]:
    return {path.name.removeprefix(f"slot-{slot}."): path.stat().st_size for path in folder.glob(f"slot-{slot}.*")}


def manifest(path: Path) -> dict:
    return json.loads(path.read_bytes().partition(b"\n")[0])


@pytest.mark.parametrize("kind", ["ddp", "fsdp1"])
def test_a_training_resumes_bit_for_bit_with_each_process_its_own_random_states(pair: Group, tmp_path: Path, kind: str) -> None:
    said = pair.run(f"""
folder, kind = {str(tmp_path)!r}, {kind!r}
expected = Training(folder + "/whole", kind, rank).run()
first = Training(folder + "/cut", kind, rank).run(cut=8)
second = Training(folder + "/cut", kind, rank, seed=9).run()
say(second.losses == expected.losses), say(second.weights() == expected.weights()), say(second.losses)
""")
    assert said[0][:2] == said[1][:2] == [True, True]
    assert said[0][2] != said[1][2] and len(said[0][2]) == 12


def test_what_all_processes_have_is_written_once(pair: Group, tmp_path: Path) -> None:
    pair.run(f"""
training = Training({str(tmp_path)!r}, "ddp", rank)
training.ckpt.track(large=torch.ones(50_000), own=torch.full((1_000,), float(rank)))
training.run(cut=4)
""")
    written = files(tmp_path)
    assert written["safetensors"] > 204_000
    assert 4_000 < written["rank1.safetensors"] < 8_000
    assert manifest(tmp_path / "slot-0.manifest")["world"] == 2
    said = pair.run(f"""
again = Training({str(tmp_path)!r}, "ddp", rank, seed=9)
large, own = torch.zeros(50_000), torch.zeros(1_000)
again.ckpt.track(large=large, own=own).resume()
say(large.min().item()), say(own.max().item()), say(len(again.losses))
again.ckpt.close()
""")
    assert said == [[1.0, 0.0, 3], [1.0, 1.0, 3]]


def test_a_process_that_dies_in_the_middle_of_a_save_leaves_the_checkpoint_before(tmp_path: Path) -> None:
    with group(2) as pair:
        pair.run(f"""
from rank_training import *
import os, signal
training = Training({str(tmp_path)!r}, "alone", rank, every=None)
training.ckpt._keeper.folder._limit = 1.0  # rank 0 waits ten minutes for the other's files else
for batch in batches(rank)[:3]:
    training.step(batch)
training.ckpt.save()
training.ckpt.flush()
""")
        good = files(tmp_path)
        pair.start(
            """
training.step(batches(rank)[3])
if rank == 1:  # when rank 0 has opened the save, and waits for this one's part
    put = training.ckpt._keeper.folder.put
    training.ckpt._keeper.folder.put = lambda *args: (put(*args), os.kill(os.getpid(), signal.SIGKILL))
training.ckpt.save()
try:
    training.ckpt.flush()
except Exception as error:
    say(f"{type(error).__name__}: {error}")
"""
        )
        said = "The checkpoint was not written: rank 1 did not answer in 1 s: it has ended, or is in another place of the program."
        assert pair.answer(0)["said"] == [f"WriteError: {said}"]
        assert pair.processes[1].wait(10) == -signal.SIGKILL
    assert files(tmp_path) == good
    ckpt = Checkpointer(tmp_path)
    assert [(one.id, one.world) for one in ckpt.list()] == [("000001", 2)]
    ckpt._keeper.folder.open()
    assert {path.name for path in tmp_path.iterdir()} == {f"slot-0.{name}" for name in good}
    ckpt.close()


def test_processes_with_different_folders_are_told_before_the_training(pair: Group, tmp_path: Path) -> None:
    outcomes = pair.outcomes(f"""
import gradnb.checkpoint.ranks as ranks
ranks._TOGETHER = 0.3  # a file system of another machine gets ten seconds
training = Training(f"{tmp_path}/{{rank}}", "alone", rank)
training.run()
""")
    said = r"UsageError: .*rank 1 on \S+ does not see the folder of rank 0 \(.*/0 on \S+\) at .*/1: every process must be given the same"
    for outcome in outcomes:
        assert re.search(said, outcome["error"])
    assert list(tmp_path.glob("*/*")) == []


def test_a_checkpointer_from_before_the_process_group_is_refused(pair: Group, tmp_path: Path) -> None:
    outcomes = pair.outcomes(f"""
from gradnb.checkpoint import processes
here, processes.here = processes.here, processes.Alone  # what it is before init_process_group
try:
    Training("{tmp_path}/" + str(rank), "alone", rank).run()
finally:
    processes.here = here
""")
    for outcome in outcomes:
        assert "make it after init_process_group" in outcome["error"]


def test_a_model_that_does_not_fit_on_one_process_stops_all(pair: Group, tmp_path: Path) -> None:
    outcomes = pair.outcomes(f"""
Training({str(tmp_path)!r}, "alone", rank).run(cut=4)
other = Training({str(tmp_path)!r}, "alone", rank)
if rank == 1:
    other.ckpt.track(model=torch.nn.Linear(2, 2))
other.run()
""")
    assert outcomes[0]["error"].startswith("MismatchError: rank 1: Checkpoint 000001") and outcomes[1]["error"].startswith(
        "MismatchError: Checkpoint"
    )


def test_a_file_of_one_process_that_is_cut_off_stops_all(pair: Group, tmp_path: Path) -> None:
    pair.run(f"Training({str(tmp_path)!r}, 'alone', rank).run(cut=4)")
    for record in tmp_path.glob("slot-*.rank1.json"):
        record.write_bytes(record.read_bytes()[:-1])
    outcomes = pair.outcomes(f"Training({str(tmp_path)!r}, 'alone', rank).run()")
    assert outcomes[0]["error"].startswith("DamagedError: There are checkpoints in") and "rank1.json is cut off" in outcomes[0]["error"]
    assert outcomes[1]["error"].startswith("DamagedError: rank 0: There are checkpoints in")


def test_a_save_of_one_process_alone_is_refused_and_the_next_one_is_good(pair: Group, tmp_path: Path) -> None:
    outcomes = pair.outcomes(f"""
training = Training({str(tmp_path)!r}, "alone", rank, every=None)
for number, batch in enumerate(batches(rank)):
    training.step(batch)
    training.ckpt.step()
    if (rank == 0 and number == 1) or number in (3, 5):
        training.ckpt.save()
training.ckpt.flush()
say(training.ckpt.latest().step), say(len(training.ckpt.list()))
training.ckpt.close()
""")
    assert [outcome["said"] for outcome in outcomes] == [[6, 2]] * 2
    said = "rank 1: it did not save step 2; every process must call save() and step() at the same steps"
    assert f"the checkpoint of step 2 was not written: {said}" in pair.output()


def test_a_wish_of_one_process_is_answered_by_all_after_the_same_step(pair: Group) -> None:
    """Each wishes at moments of its own, while collectives hold the processes together as training does."""
    said = pair.run("""
import random, time
from gradnb.checkpoint.agreement import Agreement
from gradnb.checkpoint.ranks import Rank
agreement, generator, x = Agreement(Rank.here()), random.Random(rank), torch.ones(1)
reasons = []
for number in range(1, 600):
    dist.all_reduce(x), x.div_(world)
    if generator.random() < 0.02:
        agreement.wish("signal" if rank else "every")
    if generator.random() < 0.1:
        time.sleep(0.04 * generator.random())
    reason = agreement.at(number)
    if reason is not None:
        reasons.append((number, reason))
agreement.close()
say(reasons)
""")
    assert said[0] == said[1]
    assert len(said[0][0]) >= 2 and {reason for _, reason in said[0][0]} <= {"signal", "every"}


def test_torchrun_that_is_ended_leaves_one_last_checkpoint_of_the_same_step(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(f"""
import sys
sys.path.insert(0, {str(HERE)!r})
from rank_training import *
dist.init_process_group("gloo")
rank = dist.get_rank()
training = Training("checkpoints", "ddp", rank, every=None)
for epoch, batch in training.ckpt.loop(batches(rank), epochs=10**6):
    training.step(batch)
    if training.ckpt.steps == 20 and rank == 0:
        open("running", "w").close()
""")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "train.py"]
    env = {**os.environ, "PYTHONPATH": str(HERE.parents[1]), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, cwd=tmp_path, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    until = time.monotonic() + 60
    while not (tmp_path / "running").exists():
        assert process.poll() is None and time.monotonic() < until, process.communicate()[0]
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    output = process.communicate(timeout=60)[0]
    ckpt = Checkpointer(tmp_path / "checkpoints")
    (last,) = ckpt.list()
    assert last.world == 2 and last.reason == "signal" and last.step > 20, output
    assert re.search(rf"saved as {last.id}, step {last.step:,}", output), output
    states = [ckpt._keeper.folder.read(last, rank) for rank in range(2)]
    assert [state.tree["position"]["step"] for state in states] == [last.step] * 2
