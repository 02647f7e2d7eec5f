"""Optimizers go on bit for bit, whatever they keep; other groups, parameters and options than the saved ones are named."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from tracking import equal, load, net, saved, tracking, train, weights

from gradnb.checkpoint.errors import MismatchError
from gradnb.checkpoint.tracked import Tracked


def matrices(model: nn.Module) -> list[nn.Parameter]:
    return [p for p in model.parameters() if p.dim() == 2]


OPTIMIZERS = {
    **{
        name: (lambda model, name=name: getattr(torch.optim, name)(model.parameters(), lr=0.01))
        for name in "ASGD Adadelta Adafactor Adagrad Adam AdamW Adamax NAdam RAdam RMSprop Rprop LBFGS".split()
        if hasattr(torch.optim, name)
    },
    "SGD with momentum": lambda model: torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True),
    "AdamW fused": lambda model: torch.optim.AdamW(model.parameters(), fused=True),
    "Adam foreach, amsgrad": lambda model: torch.optim.Adam(model.parameters(), foreach=True, amsgrad=True),
    "Adam with lr in a tensor": lambda model: torch.optim.Adam(model.parameters(), lr=torch.tensor(0.01)),
    "RMSprop centered": lambda model: torch.optim.RMSprop(model.parameters(), centered=True, momentum=0.5),
    "SGD of two groups": lambda model: torch.optim.SGD(
        [{"params": model[0].parameters(), "lr": 0.5}, {"params": model[3].parameters()}], lr=0.1
    ),
    "AdamW of named parameters": lambda model: torch.optim.AdamW(model.named_parameters()),
    "Muon": lambda model: torch.optim.Muon(matrices(model)) if hasattr(torch.optim, "Muon") else torch.optim.SGD(matrices(model)),
}


@pytest.mark.parametrize("build", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_a_training_goes_on_bit_for_bit_with_any_optimizer(build: Any) -> None:
    model = net(0)
    optimizer = build(model)
    tracked = tracking(model=model, optimizer=optimizer)
    train(model, optimizer, range(3))
    state = saved(tracked)
    train(model, optimizer, range(3, 6))

    other = net(1)
    fresh = build(other)
    memory = [p.data_ptr() for p in other.parameters()]
    load(tracking(model=other, optimizer=fresh), state)
    train(other, fresh, range(3, 6))
    assert equal(weights(model), weights(other)) and [p.data_ptr() for p in other.parameters()] == memory


def test_an_optimizer_for_sparse_gradients_goes_on() -> None:
    def build() -> tuple[nn.Embedding, torch.optim.Optimizer]:
        table = nn.Embedding(10, 3, sparse=True)
        return table, torch.optim.SparseAdam(table.parameters())

    def step(table: nn.Embedding, optimizer: torch.optim.Optimizer, seed: int) -> None:
        optimizer.zero_grad()
        table(torch.tensor([seed % 10, 3])).square().sum().backward()
        optimizer.step()

    table, optimizer = build()
    for seed in range(4):
        step(table, optimizer, seed)
    state = saved(tracking(table=table, optimizer=optimizer))
    other, fresh = build()
    load(tracking(table=other, optimizer=fresh), state)
    step(table, optimizer, 4), step(other, fresh, 4)
    assert torch.equal(table.weight, other.weight)


class MasterAdam(torch.optim.Adam):
    """Keeps float32 moments, a word and a list of arrays beside bfloat16 parameters, as optimizers outside torch do."""

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for p in group["params"]:
                state = self.state[p]
                if not state:
                    state.update(step=torch.tensor(0.0), master=p.detach().float() + 1e-6, mode="warm", history=[np.zeros(2)])
                state["step"] += 1
                state["master"] -= group["lr"] * p.grad.float()
                state["history"][0] += 0.5
                p.data.copy_(state["master"])


def test_state_of_another_dtype_than_the_parameter_is_restored_exactly() -> None:
    model = net(0).bfloat16()
    optimizer = MasterAdam(model.parameters())
    train(model, optimizer, range(3))
    state = saved(tracking(model=model, optimizer=optimizer))
    other = net(1).bfloat16()
    fresh = MasterAdam(other.parameters())
    load(tracking(model=other, optimizer=fresh), state)
    for p, q in zip(model.parameters(), other.parameters()):
        assert fresh.state[q]["master"].dtype is torch.float32 and torch.equal(optimizer.state[p]["master"], fresh.state[q]["master"])
        assert fresh.state[q]["mode"] == "warm" and fresh.state[q]["history"][0].tolist() == [1.5, 1.5]
    train(model, optimizer, range(3, 5)), train(other, fresh, range(3, 5))
    assert equal(weights(model), weights(other))


class Wrapped(torch.optim.SGD):
    """Writes its state in a form of its own."""

    def state_dict(self) -> dict:
        return {"inner": super().state_dict(), "scale": 2.0}

    def load_state_dict(self, state: dict) -> None:
        super().load_state_dict(state["inner"])
        self.scale = state["scale"]


def test_an_optimizer_with_a_form_of_its_own_is_loaded_by_itself() -> None:
    model, other = net(0), net(1)
    optimizer, fresh = (Wrapped(each.parameters(), lr=0.1, momentum=0.9) for each in (model, other))
    train(model, optimizer, range(2))
    load(tracking(model=other, optimizer=fresh), saved(tracking(model=model, optimizer=optimizer)))
    train(model, optimizer, range(2, 4)), train(other, fresh, range(2, 4))
    assert fresh.scale == 2.0 and equal(weights(model), weights(other))


def test_a_second_load_keeps_the_memory_of_the_optimizer_too() -> None:
    model = net(0)
    optimizer = torch.optim.Adam(model.parameters(), lr=torch.tensor(0.01))
    tracked = tracking(model=model, optimizer=optimizer)
    train(model, optimizer, range(2))
    state, before = saved(tracked), weights(model)
    held = [value for values in optimizer.state.values() for value in values.values()] + [optimizer.param_groups[0]["lr"]]
    copies = [value.clone() for value in held]
    held[-1].fill_(0.5)
    train(model, optimizer, range(2, 4))
    load(tracked, state)
    assert equal(weights(model), before) and equal(held, copies)
    now = [value for values in optimizer.state.values() for value in values.values()] + [optimizer.param_groups[0]["lr"]]
    assert all(one is other for one, other in zip(held, now))


def test_groups_and_the_order_of_parameters_must_be_the_same() -> None:
    def build(swap: bool = False, groups: int = 1) -> Tracked:
        model = nn.ModuleDict({"a": nn.Linear(3, 3), "b": nn.Linear(3, 3)})
        parts = [model["b"], model["a"]] if swap else [model["a"], model["b"]]
        optimizer = torch.optim.SGD([p for part in parts[: 1 if groups == 2 else 2] for p in part.parameters()])
        if groups == 2:
            optimizer.add_param_group({"params": parts[1].parameters()})
        return tracking(model=model, optimizer=optimizer)

    with pytest.raises(MismatchError, match="saved with 2 parameter groups, now 1; build the same groups .also those of add_param_group."):
        load(build(), saved(build(groups=2)))
    with pytest.raises(MismatchError, match="optimizer: parameter 0 was model.a.weight, now it is model.b.weight"):
        load(build(swap=True), saved(build()))


def test_another_shape_of_a_parameter_that_no_module_holds_is_named() -> None:
    def build(size: int) -> Tracked:
        p = nn.Parameter(torch.zeros(size))
        return tracking(prompt=p, optimizer=torch.optim.SGD([p]))

    assert build(3).check(*saved(build(2))) == [
        "prompt: saved 2 float32, now 3 float32",
        "optimizer: parameter 0 (prompt): saved 2 float32, now 3 float32",
    ]


def test_options_of_the_cell_that_the_saved_ones_replace_are_told() -> None:
    def build(lr: float, decay: float) -> Tracked:
        model = net(0)
        return tracking(model=model, optimizer=torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=decay))

    other = build(1e-4, 0.0)
    assert load(other, saved(build(1e-3, 0.1))) == [
        "optimizer: lr 0.0001 of your cell is replaced by the saved run's 0.001",
        "optimizer: weight_decay 0.0 of your cell is replaced by the saved run's 0.1",
    ]
