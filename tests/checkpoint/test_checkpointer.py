"""The public Checkpointer: what it does, what it says, what it refuses."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset

import gradnb
from gradnb.checkpoint import Checkpointer
from gradnb.checkpoint.errors import DamagedError, MismatchError, NoCheckpointError, WriteError
from gradnb.errors import UsageError


class Training:
    """A small training with everything in it."""

    def __init__(self, width: int = 8):
        torch.manual_seed(0)
        self.model = nn.Linear(4, width)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=0.01)
        self.losses: list[float] = []

    def ckpt(self, place: object, **options: object) -> Checkpointer:
        return Checkpointer(place, **options).track(model=self.model, optimizer=self.optimizer, losses=self.losses)  # type: ignore[arg-type]

    def step(self, batch: torch.Tensor) -> torch.Tensor:
        self.optimizer.zero_grad()
        loss = self.model(batch).pow(2).mean()
        loss.backward()
        self.optimizer.step()
        self.losses.append(loss.item())
        return loss


def batches(count: int = 10) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(2, 4, generator=generator) for _ in range(count)]


def run(folder: Path, epochs: int = 2, stop: int | None = None, **options: object) -> tuple[Training, Checkpointer]:
    """Train; ``stop`` raises in the middle of that step, as a bug of the user's would."""
    training = Training()
    ckpt = training.ckpt(folder, **options)
    for _, batch in ckpt.loop(batches(), epochs=epochs):
        if stop is not None and len(training.losses) == stop - 1:
            raise ZeroDivisionError
        training.step(batch)
    return training, ckpt


def test_the_second_run_goes_on_where_the_first_stopped_and_says_so(tmp_path, capsys):
    whole, _ = run(tmp_path / "whole")
    with pytest.raises(ZeroDivisionError):
        run(tmp_path / "run", stop=14, every=4)
    assert "no checkpoint in" in capsys.readouterr().out
    training, ckpt = run(tmp_path / "run", every=4)
    said = capsys.readouterr().out
    assert f"gradnb: resumed at step 12 (epoch 1, batch 2) from {tmp_path / 'run'}, checkpoint 000003" in said
    assert training.losses == whole.losses and torch.equal(training.model.weight, whole.model.weight)
    assert ckpt.steps == 20 and "20 steps done" in said


def test_a_finished_training_is_not_begun_again(tmp_path, capsys):
    run(tmp_path / "run")
    capsys.readouterr()
    training, _ = run(tmp_path / "run")
    assert len(training.losses) == 20
    assert "are done" in capsys.readouterr().out
    longer, ckpt = run(tmp_path / "run", epochs=3)
    assert len(longer.losses) == 30 and ckpt.steps == 30


def test_the_same_loop_run_again_in_one_session_goes_on(tmp_path):
    whole, _ = run(tmp_path / "whole")
    training = Training()
    ckpt = training.ckpt(tmp_path / "run", every=3)
    with pytest.raises(ZeroDivisionError):
        for _, batch in ckpt.loop(batches(), epochs=2):
            if len(training.losses) == 8:
                raise ZeroDivisionError
            training.step(batch)
    for _, batch in ckpt.loop(batches(), epochs=2):
        training.step(batch)
    assert training.losses == whole.losses


def test_resume_must_raises_where_there_is_nothing(tmp_path):
    with pytest.raises(NoCheckpointError, match='resume="must"'):
        run(tmp_path / "run", resume="must")


def test_resume_false_begins_anew_and_leaves_the_old_ones(tmp_path, capsys):
    run(tmp_path / "run", every=10)
    capsys.readouterr()
    training, ckpt = run(tmp_path / "run", every=10, resume=False)
    assert len(training.losses) == 20 and "resume=False: beginning at step 0; " in capsys.readouterr().out
    assert len(ckpt.list()) == 4 or len(ckpt.list()) == 5


def test_damaged_checkpoints_are_named_and_the_one_before_is_taken(tmp_path, capsys):
    whole, _ = run(tmp_path / "whole")
    with pytest.raises(ZeroDivisionError):
        run(tmp_path / "run", stop=14, every=4)
    newest = Training().ckpt(tmp_path / "run", quiet=True).latest()
    file = tmp_path / "run" / f"slot-{newest.slot}.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    capsys.readouterr()
    training, _ = run(tmp_path / "run", every=4)
    said = capsys.readouterr().out
    assert "resumed at step 8" in said and "left out 1 damaged checkpoint" in said and file.name in said
    assert training.losses == whole.losses


def test_when_none_can_be_read_it_never_begins_at_step_0_silently(tmp_path):
    run(tmp_path / "run", every=4, keep_last=1)
    for file in (tmp_path / "run").glob("slot-*.safetensors"):
        file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(DamagedError, match="none can be read"):
        run(tmp_path / "run")


def test_what_does_not_fit_is_listed_and_nothing_is_loaded(tmp_path):
    run(tmp_path / "run")
    other = Training(width=9)
    before = other.model.weight.clone()
    ckpt = other.ckpt(tmp_path / "run")
    with pytest.raises(MismatchError) as told:
        next(ckpt.loop(batches(), epochs=3))
    assert "model" in str(told.value) and "weight" in str(told.value) and "8" in str(told.value) and "9" in str(told.value)
    assert torch.equal(other.model.weight, before) and other.losses == []


def test_the_best_one_stays_and_can_be_loaded(tmp_path):
    training = Training()
    ckpt = training.ckpt(tmp_path / "run", every=2, keep_last=1, keep_best=("accuracy", "max"))
    weights = {}
    for _, batch in ckpt.loop(batches(), epochs=1):
        training.step(batch)
        ckpt.step(accuracy=[0.1, 0.3, 0.5, 0.9, 0.2, 0.3, 0.4, 0.1, 0.2, 0.3][len(training.losses) - 1])
        weights[ckpt.steps] = training.model.weight.detach().clone()
    best = ckpt.best()
    assert best.step == 4 and best.metrics["accuracy"] == 0.9
    assert {one.step for one in ckpt.list()} == {4, 10}
    ckpt.load(best)
    assert torch.equal(training.model.weight, weights[4])
    with pytest.raises(NoCheckpointError, match="000077"):
        ckpt.load("000077")


def test_a_better_metric_after_an_epoch_is_saved_there(tmp_path):
    training = Training()
    ckpt = training.ckpt(tmp_path / "run", every=None, keep_last=1, keep_best=("accuracy", "max"))
    for epoch in ckpt.epochs(4):
        for batch in ckpt.batches(batches(3)):
            training.step(batch)
        ckpt.step(accuracy=[0.1, 0.7, 0.2, 0.3][epoch])
    assert [(one.step, one.metrics["accuracy"]) for one in ckpt.list()] == [(12, 0.3), (6, 0.7)]
    assert ckpt.best().step == 6


def test_a_loop_of_ones_own_resumes_by_a_call(tmp_path):
    def go(stop: int) -> tuple[Training, list[int]]:
        training = Training()
        ckpt = training.ckpt(tmp_path / "run", every=3)
        seen = []
        for step in range(ckpt.resume(), stop):
            training.step(batches()[step % 10])
            ckpt.step(loss=training.losses[-1])
            seen.append(step)
        ckpt.close()
        return training, seen

    _, seen = go(8)
    assert seen == list(range(8))
    training, seen = go(12)
    assert seen == list(range(6, 12)) and len(training.losses) == 12


def test_a_loop_of_ones_own_that_forgot_to_resume_is_stopped_before_it_loses_anything(tmp_path):
    run(tmp_path / "run")
    training = Training()
    ckpt = training.ckpt(tmp_path / "run")
    with pytest.raises(UsageError, match=r"ckpt\.resume\(\)"):
        ckpt.step(loss=1.0)


def test_a_break_after_step_saves_where_the_loop_was_left_and_a_save_that_cannot_is_told(tmp_path, capsys):
    for name, told, step in (("told", True, 7), ("untold", False, 4)):
        training = Training()
        ckpt = training.ckpt(tmp_path / name, every=4)
        for _, batch in ckpt.loop(batches(), epochs=1):
            training.step(batch)
            if len(training.losses) == 7:
                if told:
                    ckpt.step()
                ckpt.save()
                break
        said = capsys.readouterr().out
        assert ckpt.latest().step == step and ("call step() before break" in said) == (not told)
        assert (run(tmp_path / name, epochs=1)[0].losses) == run(tmp_path / "whole", epochs=1)[0].losses
        ckpt.close()


def test_plain_values_are_read_and_written_as_attributes(tmp_path):
    ckpt = Training().ckpt(tmp_path / "run", every=1).track(best=0.0, name="first")
    for _ in ckpt.epochs(2):
        ckpt.values.best += 0.5
    again = Training().ckpt(tmp_path / "run").track(best=0.0, name="first")
    again.resume()
    assert again.values.best == 1.0 and again.values.name == "first"
    with pytest.raises(AttributeError, match="nothing"):
        print(again.values.nothing)


def test_a_state_without_any_tensor_is_saved_and_comes_back(tmp_path):
    with Checkpointer(tmp_path, every=None, quiet=True).track(best=0.5) as ckpt:
        ckpt.values.best = 0.75
        ckpt.save()
    again = Checkpointer(tmp_path, every=None, quiet=True).track(best=0.0)
    again.load(again.latest())
    assert again.values.best == 0.75


def test_a_writer_that_cannot_start_is_told_and_nobody_waits_for_it(tmp_path, capsys, monkeypatch):
    training = Training()
    ckpt = training.ckpt(tmp_path, every=None)

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        ckpt.save()
    assert "could not be saved: can't start new thread" in capsys.readouterr().out
    ckpt.save()
    assert ckpt.flush(10) and len(ckpt.list()) == 1


def test_what_is_being_written_cannot_be_changed_by_a_later_step(tmp_path):
    model = nn.Linear(1000, 1000)
    ckpt = Checkpointer(tmp_path / "run", every=None, keep_last=3, quiet=True).track(model=model)
    for value in range(6):
        with torch.no_grad():
            model.weight.fill_(value)
        ckpt.save()
        with torch.no_grad():
            model.weight.fill_(-1)
        ckpt.flush()
        ckpt.load(ckpt.latest())
        assert bool((model.weight == value).all())


def test_the_training_goes_on_when_the_disk_fails_and_the_failure_is_told(tmp_path, capsys, monkeypatch):
    training = Training()
    ckpt = training.ckpt(tmp_path / "run", every=2)
    broken = []

    def refuse(*args: object, **options: object) -> None:
        broken.append(1)
        raise WriteError("the disk is full: 3 MB are needed, 1 kB is free")

    for step, (_, batch) in enumerate(ckpt.loop(batches(), epochs=1), 1):
        training.step(batch)
        if step == 4:
            ckpt._keeper.writer.wait()
            monkeypatch.setattr(ckpt._keeper.folder, "write", refuse)
        if step == 8:
            monkeypatch.undo()
    assert len(training.losses) == 10 and broken
    said = capsys.readouterr().out
    assert "the checkpoint of step 4 was not written: the disk is full" in said
    assert ckpt.latest().step == 10


@pytest.mark.parametrize("where", ["disk", "state"])
def test_saves_that_fail_again_and_again_are_told_at_growing_distances(tmp_path, capsys, monkeypatch, where):
    training = Training()
    ckpt = training.ckpt(tmp_path / "run", every=1)
    room = iter(range(100))

    def refuse(*args: object, **options: object) -> None:
        raise WriteError(f"the disk is full: 3 MB are needed, {next(room)} kB are free")

    for step, (_, batch) in enumerate(ckpt.loop(batches(), epochs=4), 1):
        training.step(batch)
        if step == 4:
            ckpt._keeper.writer.wait()
            monkeypatch.setattr(*((ckpt._keeper.folder, "write") if where == "disk" else (ckpt._keeper.tracked, "save")), refuse)
        if step == 30:
            ckpt._keeper.writer.wait()
            monkeypatch.undo()
    lines = [line for line in capsys.readouterr().out.splitlines() if "the disk is full" in line]
    assert len(lines) == 3, lines  # the 1st, the 4th and the 16th of 26
    assert "step 4 " in lines[0] and "in a row" not in lines[0] and lines[1].endswith("(4 in a row)") and lines[2].endswith("(16 in a row)")


def test_when_saving_works_again_it_is_told_once(tmp_path, capsys, monkeypatch):
    training = Training()
    ckpt = training.ckpt(tmp_path / "run", every=1)
    for step, (_, batch) in enumerate(ckpt.loop(batches(), epochs=2), 1):
        training.step(batch)
        if step == 2:
            ckpt._keeper.writer.wait()
            monkeypatch.setattr(ckpt._keeper.tracked, "save", lambda: 1 / 0)
        if step == 8:
            monkeypatch.undo()
    said = capsys.readouterr().out
    assert said.count("saving works again, after 6 saves that failed") == 1 and "20 steps done; saved as" in said


def test_a_run_whose_last_saves_fail_says_which_checkpoint_is_the_newest(tmp_path, capsys, monkeypatch):
    training = Training()
    ckpt = training.ckpt(tmp_path / "run", every=1)
    for step, (_, batch) in enumerate(ckpt.loop(batches(), epochs=1), 1):
        training.step(batch)
        if step == 4:
            ckpt._keeper.writer.wait()
            monkeypatch.setattr(ckpt._keeper.tracked, "save", lambda: 1 / 0)
    said = capsys.readouterr().out
    assert "step 10 could not be saved: division by zero (8 in a row)" in said  # with the save at the end; the last failure is always told
    assert "10 steps done; the newest checkpoint is 000003, step 3, in" in said


def test_flush_raises_where_the_newest_state_is_not_on_the_disk(tmp_path, monkeypatch):
    training = Training()
    ckpt = training.ckpt(tmp_path / "run", quiet=True)
    ckpt.save()
    assert ckpt.flush()

    def refuse(*args: object, **options: object) -> None:
        raise WriteError("full")

    monkeypatch.setattr(ckpt._keeper.folder, "write", refuse)
    ckpt.save()
    with pytest.raises(WriteError):
        ckpt.flush()


class Stream(IterableDataset):
    def __iter__(self):
        return iter(torch.randn(12, 4))


def test_what_cannot_be_restored_exactly_is_said_before_the_training(tmp_path, capsys):
    training = Training()
    extra = torch.optim.SGD(training.model.parameters(), lr=0.1)
    ckpt = training.ckpt(tmp_path / "run")
    loop = ckpt.loop(DataLoader(Stream(), batch_size=2), epochs=1)
    next(loop)
    said = capsys.readouterr().out
    assert "Stream is an iterable dataset without a state" in said
    assert "SGD" in said, "an optimizer of the model that is not tracked"
    loop.close()
    del extra


def test_a_metric_of_every_step_does_not_save_at_every_step(tmp_path):
    training = Training()
    ckpt = training.ckpt(tmp_path / "run", every=5, keep_best=("loss", "min"), quiet=True)
    for _, batch in ckpt.loop(batches(), epochs=2):
        ckpt.step(loss=training.step(batch))
    assert ckpt.latest().serial <= 6


def test_time_and_epochs_say_when_to_save(tmp_path):
    training = Training()
    ckpt = training.ckpt(tmp_path / "a", every="epoch", quiet=True)
    for _, batch in ckpt.loop(batches(), epochs=3):
        training.step(batch)
    assert [one.step for one in ckpt.list()] == [30, 20, 10]
    ckpt = training.ckpt(tmp_path / "b", every="0.001s", quiet=True, keep_last=9)
    for _, batch in ckpt.loop(batches(), epochs=1):
        training.step(batch)
        time.sleep(0.002)
    assert len(ckpt.list()) >= 8


@pytest.mark.parametrize(
    "options",
    [
        {"every": 0},
        {"every": "soon"},
        {"every": True},
        {"keep_last": 0},
        {"keep_best": "accuracy"},
        {"keep_best": ("accuracy", "high")},
        {"resume": "perhaps"},
    ],
)
def test_arguments_that_make_no_sense_are_refused(tmp_path, options):
    with pytest.raises(UsageError):
        Checkpointer(tmp_path / "run", **options)


def test_a_number_without_a_name_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"of type float.*ckpt\.step\(loss=loss\)"):
        Checkpointer(tmp_path / "run").step(0.5)


def test_a_loop_with_nothing_tracked_is_refused(tmp_path):
    with pytest.raises(UsageError, match="Nothing is tracked"):
        next(Checkpointer(tmp_path / "run").loop(batches(), epochs=1))


def test_an_interrupt_finishes_the_step_saves_it_and_then_stops(tmp_path, capsys):
    whole, _ = run(tmp_path / "whole")
    training = Training()
    ckpt = training.ckpt(tmp_path / "run", every=100)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        for _, batch in ckpt.loop(batches(), epochs=2):
            if len(training.losses) == 12:
                os.kill(os.getpid(), signal.SIGINT)
            training.step(batch)
    assert signal.getsignal(signal.SIGINT) is before
    assert len(training.losses) == 13 and ckpt.latest().step == 13
    assert "step 13" in capsys.readouterr().out
    again, _ = run(tmp_path / "run")
    assert again.losses == whole.losses


def test_a_signal_that_the_process_ignores_stays_ignored(tmp_path):
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # as nohup and a shell's background do
    training = Training()
    for _, batch in training.ckpt(tmp_path / "run", quiet=True).loop(batches(), epochs=1):
        os.kill(os.getpid(), signal.SIGINT)
        training.step(batch)
    assert len(training.losses) == 10 and signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_a_second_interrupt_stops_at_once(tmp_path):
    training = Training()
    ckpt = training.ckpt(tmp_path / "run", every=2)
    with pytest.raises(KeyboardInterrupt):
        for _, batch in ckpt.loop(batches(), epochs=2):
            training.step(batch)
            if len(training.losses) == 5:
                os.kill(os.getpid(), signal.SIGINT)
                os.kill(os.getpid(), signal.SIGINT)
                raise AssertionError("it went on")
    assert ckpt.latest().step == 4


def test_a_loop_in_another_thread_installs_no_handler(tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    done = []
    thread = threading.Thread(target=lambda: done.append(run(tmp_path / "run")))
    thread.start()
    thread.join()
    assert len(done[0][0].losses) == 20 and signal.getsignal(signal.SIGTERM) is before


def test_training_is_the_same_with_and_without(tmp_path):
    def plain() -> Training:
        training = Training()
        for _ in range(2):
            for batch in batches():
                training.step(batch)
        training.losses.append(float(torch.rand(())))
        return training

    one = plain()
    other, _ = run(tmp_path / "run", every=1)
    other.losses.append(float(torch.rand(())))
    assert one.losses == other.losses and torch.equal(one.model.weight, other.model.weight)


def test_importing_gradnb_imports_no_checkpoints_until_they_are_used():
    code = (
        "import sys, gradnb; room = lambda: {name for name in sys.modules if name.startswith('gradnb.checkpoint.')}; "
        "assert 'Checkpointer' in dir(gradnb) and not room(), room(); gradnb.Checkpointer; assert 'gradnb.checkpoint.keeper' in room(); "
        "google = [name for name in sys.modules if name.startswith(('google', 'gradnb.checkpoint.drive_api'))]; assert not google, google"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_it_is_part_of_the_public_face():
    assert gradnb.Checkpointer is Checkpointer
