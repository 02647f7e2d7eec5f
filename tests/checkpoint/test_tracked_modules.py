"""Modules come back in the user's own tensors, with their flags, extra state and ties."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from tracking import equal, load, net, saved, tracking, weights

from gradnb.checkpoint.errors import MismatchError
from gradnb.errors import UsageError


class Extra(nn.Module):
    """With extra state, a buffer that is None, one that is not saved, and a version that an older state would be upgraded by."""

    _version = 3

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)
        self.register_buffer("nothing", None)
        self.register_buffer("cache", torch.zeros(3), persistent=False)
        self.seen: dict[Any, Any] = {}
        self.upgraded = False

    def get_extra_state(self) -> Any:
        return {"seen": self.seen, "table": torch.tensor([len(self.seen)])}

    def set_extra_state(self, state: Any) -> None:
        self.seen, self.table = state["seen"], state["table"]

    def _load_from_state_dict(self, state_dict: Any, prefix: str, metadata: Any, *rest: Any) -> None:
        self.upgraded = metadata.get("version") != 3
        super()._load_from_state_dict(state_dict, prefix, metadata, *rest)


def test_extra_state_and_versions_of_modules_are_kept() -> None:
    module, other = Extra(), Extra()
    module.seen = {1: ("a", 2.0)}
    load(tracking(model=other), saved(tracking(model=module)))
    assert (
        other.seen == {1: ("a", 2.0)}
        and other.table.item() == 1
        and not other.upgraded
        and torch.equal(module.layer.weight, other.layer.weight)
    )


def test_what_only_its_own_class_could_read_is_refused_in_extra_state() -> None:
    module = Extra()
    module.seen = {"inner": nn.Linear(1, 1)}
    with pytest.raises(UsageError, match=r"tracked 'model'\['_extra_state'\]\['seen'\]\['inner'\] is an object of torch"):
        tracking(model=module).save()


def test_a_module_without_memory_is_named() -> None:
    with torch.device("meta"):
        empty = nn.Linear(2, 2)
    found = tracking(model=empty).check(*saved(tracking(model=nn.Linear(2, 2))))
    assert len(found) == 2 and "model.weight: is on the meta device" in found[0]


def test_lazy_modules_take_their_shapes_from_the_checkpoint() -> None:
    module = nn.Sequential(nn.LazyLinear(3), nn.LazyBatchNorm1d())
    with pytest.raises(UsageError, match="run one batch"):
        tracking(model=module).save()
    module(torch.randn(4, 5))
    other = nn.Sequential(nn.LazyLinear(3), nn.LazyBatchNorm1d())
    load(tracking(model=other), saved(tracking(model=module)))
    assert equal(weights(module), weights(other))


class Tied(nn.Module):
    def __init__(self, tied: bool = True) -> None:
        super().__init__()
        self.table = nn.Embedding(5, 3)
        self.head = nn.Linear(3, 5, bias=False)
        if tied:
            self.head.weight = self.table.weight


def test_tied_weights_are_stored_once_and_must_still_be_tied() -> None:
    state = saved(tracking(model=Tied()))
    assert len(state[1]) == 1
    other = Tied()
    load(tracking(model=other), state)
    assert other.head.weight is other.table.weight and torch.equal(other.head.weight, next(iter(state[1].values())))
    with pytest.raises(MismatchError, match=r"model: head.weight, table.weight were one tied tensor, and are separate now"):
        load(tracking(model=Tied(False)), state)
    with pytest.raises(MismatchError, match="were separate tensors, and are one tied tensor now"):
        load(tracking(model=Tied()), saved(tracking(model=Tied(False))))


def test_flags_are_restored_and_told_only_where_they_differ() -> None:
    model, other = net(0), net(1)
    model[0].requires_grad_(False)
    model[1].eval()
    state = saved(tracking(model=model))
    notes = load(tracking(model=other), state)
    assert [p.requires_grad for p in other.parameters()] == [False, False, True, True, True, True]
    assert other.training and not other[1].training and other[3].training
    assert notes == [
        "requires_grad is False as saved, it was True here: model.0.weight, model.0.bias",
        "eval mode as saved, it was the other one here: model.1",
    ]
    assert load(tracking(model=other), state) == []
    assert tracking(model=model).save()[2] == {"model/0.weight", "model/0.bias"}


def test_a_wrapper_that_only_puts_a_name_in_front_makes_no_difference() -> None:
    model, other = net(0), torch.compile(net(1))
    load(tracking(model=other), saved(tracking(model=model)))
    assert equal(weights(model), weights(other._orig_mod))
