"""A training that is killed and run again gives the same losses and the same weights, bit for bit, as one that was not."""

from __future__ import annotations

import signal

import pytest
from cut_off_training import Plan, end, run, same, stop_server


@pytest.fixture(scope="module", autouse=True)
def server():
    """Torch is imported once for all trainings; the process that holds it ends with them."""
    yield
    stop_server()


def compare(tmp_path, plan: Plan, *deaths: int, at_least: int = 14) -> None:
    """Run it whole; run it killed at each step of ``deaths`` and again; all that follows each resume must be equal."""
    whole = Plan(**{**plan.__dict__, "folder": str(tmp_path / "whole" / "run")})
    cut = Plan(**{**plan.__dict__, "folder": str(tmp_path / "cut" / "run")})
    (tmp_path / "whole").mkdir()
    (tmp_path / "cut").mkdir()
    status, expected = run(whole)
    assert status == 0
    reference = {step: (epoch, loss) for step, epoch, loss in expected}
    for death in deaths:
        status, before = run(cut.but(die_at=death))
        assert status == -plan.signal
        assert all(reference[step] == (epoch, loss) for step, epoch, loss in before)
    status, after = run(cut)
    assert status == 0
    steps = [step for step, _, _ in after]
    assert steps == list(range(steps[0], len(reference) + 1)) and steps[0] > 1, "it went on from a checkpoint, batch by batch"
    assert len(steps) >= at_least
    assert [(epoch, loss) for _, epoch, loss in after] == [reference[step] for step in steps]
    assert same(end(whole.folder), end(cut.folder))


@pytest.mark.parametrize("augment", [True, False], ids=["augmented", "plain"])
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("stateful", [False, True], ids=["DataLoader", "StatefulDataLoader"])
def test_losses_and_weights_after_a_kill_in_mid_epoch_are_the_same(tmp_path, stateful, workers, augment):
    if stateful:
        pytest.importorskip("torchdata.stateful_dataloader")
    compare(tmp_path, Plan("", stateful=stateful, workers=workers, augment=augment), 9)


@pytest.mark.parametrize("set_to_none", [True, False])
def test_a_kill_in_mid_accumulation_loses_no_gradient(tmp_path, set_to_none):
    compare(tmp_path, Plan("", accumulate=4, every=7, set_to_none=set_to_none), 10, 24)


def test_a_training_that_is_killed_again_and_again_is_still_the_same(tmp_path):
    compare(tmp_path, Plan("", every=3, epochs=3), 5, 8, 23, 24, 43, at_least=10)


def test_a_nested_loop_with_code_between_epochs_goes_on_there(tmp_path):
    compare(tmp_path, Plan("", nested=True, every=4, epochs=3), 22, 39)


def test_a_checkpoint_at_the_end_of_each_epoch_is_enough(tmp_path):
    compare(tmp_path, Plan("", every="epoch", epochs=3), 27)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_termination_saves_the_step_it_came_in(tmp_path, workers):
    """Nothing else is saved here: what the second run goes on from is the checkpoint of the signal."""
    compare(tmp_path, Plan("", every=None, workers=workers, signal=signal.SIGTERM), 13)
    assert "SIGTERM" in (tmp_path / "cut" / "output").read_text()
