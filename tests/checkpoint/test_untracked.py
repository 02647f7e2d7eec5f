"""What takes part in the training and is not tracked is said before it begins, and nothing else is."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from gradnb.checkpoint.tracked import Tracked


@pytest.fixture(autouse=True)
def quiet() -> Any:
    """Nothing of an earlier test lives on."""
    gc.collect()
    yield


def said(**things: Any) -> list[str]:
    tracked = Tracked()
    tracked.add(**things)
    return tracked.warnings()


def test_a_whole_training_is_tracked_in_silence() -> None:
    model = nn.Linear(3, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    parts = [torch.optim.lr_scheduler.LinearLR(optimizer), torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)]
    scheduler = torch.optim.lr_scheduler.SequentialLR(optimizer, parts, [3])
    scheduler.another = torch.optim.lr_scheduler.StepLR(optimizer, 3)  # type: ignore[attr-defined]
    ema, scaler = AveragedModel(model), torch.amp.GradScaler("cpu")
    assert said(model=model, optimizer=optimizer, scheduler=scheduler, ema=ema, scaler=scaler) == []
    assert said(models=[model, ema], optimizers={"main": optimizer}, schedulers=[scheduler], scalers=[scaler]) == []


def test_each_that_is_forgotten_is_named_with_its_variable() -> None:
    model = nn.Linear(3, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    second = torch.optim.Adam([model.bias])
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 3)
    ema, scaler = AveragedModel(model), torch.amp.GradScaler("cpu")
    end = "and is not tracked: it would begin anew after a resume; ckpt.track({0}={0})"
    assert sorted(said(model=model, optimizer=optimizer)) == [
        f"ema (AveragedModel) averages model {end.format('ema')}",
        f"scaler (GradScaler) scales the loss {end.format('scaler')}",
        f"scheduler (StepLR) sets the learning rate of optimizer {end.format('scheduler')}",
        f"second (Adam) moves model.bias {end.format('second')}",
    ]
    del second, scheduler, ema, scaler


def test_looking_keeps_nothing_alive_that_the_user_deletes() -> None:
    model, big = nn.Linear(3, 2), nn.Linear(9, 9)
    alive = weakref.ref(big)
    second = torch.optim.SGD(model.parameters(), lr=0.1)
    assert len(said(model=model)) == 1
    del big, second
    assert alive() is None and said(model=model) == []


def test_one_that_hides_in_an_object_is_named_by_its_class() -> None:
    class Trainer:
        pass

    trainer = Trainer()
    model = nn.Linear(3, 2)
    trainer.hidden = torch.optim.Adam(model.parameters())  # type: ignore[attr-defined]
    (text,) = said(model=model)
    assert text.startswith("an unnamed Adam moves model.weight, model.bias and is not tracked")


def test_those_of_other_models_and_of_earlier_runs_of_a_cell_are_passed_over() -> None:
    model, other = nn.Linear(3, 2), nn.Linear(3, 3)
    elsewhere = torch.optim.Adam(other.parameters())
    disabled = torch.amp.GradScaler("cpu", enabled=False)
    apart = AveragedModel(other)
    gc.disable()
    for _ in range(2):  # the first round's live on in a cycle: an optimizer and its scheduler
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        optimizer.cycle = scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 3)  # type: ignore[attr-defined]
    assert said(model=model, optimizer=optimizer, scheduler=scheduler) == []
    gc.enable()
    del elsewhere, disabled, apart


def test_parameters_that_nothing_tracked_holds_are_counted() -> None:
    model, head = nn.Linear(3, 2), nn.Linear(2, 5)
    optimizer = torch.optim.SGD([*model.parameters(), *head.parameters()], lr=0.1)
    assert said(model=model, optimizer=optimizer) == [
        "optimizer moves 2 parameters (5x2, 5) that nothing tracked holds: track the module, or the tensors, too"
    ]
    assert said(model=model, parts=[head.weight, head.bias], optimizer=optimizer) == []


def test_a_wrapper_with_a_state_dict_of_its_own_speaks_for_what_it_wraps() -> None:
    class Lookahead:
        def __init__(self, inner: torch.optim.Optimizer):
            self.inner = inner

        def state_dict(self) -> dict:
            return self.inner.state_dict()

        def load_state_dict(self, state: dict) -> None:
            self.inner.load_state_dict(state)

    model = nn.Linear(3, 2)
    assert said(model=model, optimizer=Lookahead(torch.optim.SGD(model.parameters(), lr=0.1))) == []


class Wrapper(torch.optim.Optimizer):
    """Holds another optimizer, as accelerate's does; with ``apart``, as SAM does, which saves a state of its own only."""

    def __init__(self, inner: torch.optim.Optimizer, apart: bool):
        self.inner, self.param_groups, self.defaults = inner, inner.param_groups, inner.defaults
        self.state = {} if apart else inner.state  # type: ignore[assignment]


def test_an_optimizer_that_wraps_another_speaks_for_it_where_both_have_one_state() -> None:
    model = nn.Linear(3, 2)
    inner = torch.optim.SGD(model.parameters(), lr=0.1)
    assert said(model=model, optimizer=Wrapper(inner, False)) == []
    (text,) = said(model=model, optimizer=Wrapper(inner, True))
    assert text.startswith("inner (SGD) moves model.weight, model.bias and is not tracked")


def test_looking_touches_no_property_of_the_users() -> None:
    class Loud:
        def __getattr__(self, name: str) -> Any:
            raise AssertionError(f"{name} was read")

        @property
        def __class__(self) -> Any:  # type: ignore[override]
            raise AssertionError("the class was asked for")

    loud = Loud()
    model = nn.Linear(3, 2)
    assert said(model=model, optimizer=torch.optim.SGD(model.parameters(), lr=0.1)) == []
    del loud


def test_locals_that_the_user_keeps_stay_whole():
    def cell() -> tuple[dict[str, object], list[str]]:
        model = nn.Linear(2, 1)
        forgotten = torch.optim.SGD(model.parameters(), lr=0.1)
        mine = locals()
        tracked = Tracked()
        tracked.add(model=model)
        return mine, [text for text in tracked.warnings() if "forgotten" in text and forgotten is not None]

    mine, said = cell()
    assert said and isinstance(mine["model"], nn.Linear) and "forgotten" in mine
