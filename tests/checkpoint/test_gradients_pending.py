"""Gradients are in a checkpoint exactly while they matter: a training that is cut off in mid-accumulation goes on bit for bit."""

from __future__ import annotations

import json
from typing import Any, Callable

import pytest
import torch
from torch import nn

from gradnb.checkpoint.tracked import Tracked

Loop = Callable[[int, list[nn.Module], list[torch.optim.Optimizer]], None]


def loss(model: nn.Module, step: int) -> torch.Tensor:
    return model(torch.randn(5, 3, generator=torch.Generator().manual_seed(step))).square().mean()


def usual(step: int, models: Any, optimizers: Any) -> None:
    optimizers[0].zero_grad()
    loss(models[0], step).backward()
    optimizers[0].step()


def cleared_after(step: int, models: Any, optimizers: Any) -> None:
    loss(models[0], step).backward()
    optimizers[0].step()
    optimizers[0].zero_grad()


def zeroed_in_place(step: int, models: Any, optimizers: Any) -> None:
    optimizers[0].zero_grad(set_to_none=False)
    loss(models[0], step).backward()
    optimizers[0].step()


def of_four(step: int, models: Any, optimizers: Any) -> None:
    (loss(models[0], step) / 4).backward()
    if step % 4 == 3:
        optimizers[0].step()
        optimizers[0].zero_grad()


def of_four_zeroed_first(step: int, models: Any, optimizers: Any) -> None:
    if step % 4 == 0:
        optimizers[0].zero_grad(set_to_none=False)
    (loss(models[0], step) / 4).backward()
    if step % 4 == 3:
        optimizers[0].step()


def never(step: int, models: Any, optimizers: Any) -> None:
    loss(models[0], step).backward()
    optimizers[0].step()


def every_second(step: int, models: Any, optimizers: Any) -> None:
    """Steps twice before it resets."""
    if step % 2 == 0:
        optimizers[0].zero_grad()
    loss(models[0], step).backward()
    optimizers[0].step()


def adversarial(step: int, models: Any, optimizers: Any) -> None:
    """The second model's gradients are polluted by the first one's loss, and reset before they are used."""
    optimizers[1].zero_grad()
    loss(models[1], step).backward()
    optimizers[1].step()
    optimizers[0].zero_grad()
    (loss(models[0], step) - loss(models[1], step + 1)).backward()
    optimizers[0].step()


def alternating(step: int, models: Any, optimizers: Any) -> None:
    which = step % 3 != 0
    loss(models[which], step).backward()
    optimizers[which].step()
    if step % 2:
        optimizers[which].zero_grad()


def frozen_later(step: int, models: Any, optimizers: Any) -> None:
    models[0][0].requires_grad_(step < 3)
    usual(step, models, optimizers)


LOOPS = [usual, cleared_after, zeroed_in_place, of_four, of_four_zeroed_first, never, every_second, adversarial, alternating, frozen_later]


def build(seed: int) -> tuple[list[nn.Module], list[torch.optim.Optimizer], Tracked]:
    torch.manual_seed(seed)
    models: list[nn.Module] = [nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)) for _ in range(2)]
    optimizers = [torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9) for model in models]
    tracked = Tracked()
    tracked.add(first=models[0], second=models[1], optimizer=optimizers[0], other=optimizers[1])
    return models, optimizers, tracked


def saved(tracked: Tracked) -> tuple[Any, dict[str, torch.Tensor]]:
    tree, tensors, _ = tracked.save()
    return json.loads(json.dumps(tree)), {name: tensor.detach().clone() for name, tensor in tensors.items()}


def state(models: list[nn.Module]) -> list[torch.Tensor]:
    return [p.detach().clone() for model in models for p in model.parameters()]


@pytest.mark.parametrize("loop", LOOPS, ids=lambda loop: loop.__name__)
def test_a_training_cut_off_after_any_batch_goes_on_bit_for_bit(loop: Loop) -> None:
    models, optimizers, tracked = build(0)
    cuts = []
    for step in range(13):
        loop(step, models, optimizers)
        cuts.append(saved(tracked))
    end = state(models)
    for done, cut in enumerate(cuts, start=1):
        again, fresh, other = build(1)
        other.load(*cut)
        for step in range(done, 13):
            loop(step, again, fresh)
        assert all(map(torch.equal, end, state(again))), f"differs when it was cut off after batch {done}"


def test_gradients_are_saved_only_while_they_matter() -> None:
    def names(loop: Loop, steps: int) -> list[int]:
        models, optimizers, tracked = build(0)
        found = []
        for step in range(steps):
            loop(step, models, optimizers)
            found.append(len(tracked.save()[0]["gradients"]))
        return found

    assert names(usual, 6) == [4, 4, 4, 4, 0, 0]  # in the first rounds it is not known yet
    assert names(cleared_after, 3) == [0, 0, 0]
    assert names(of_four, 8) == [4, 4, 4, 0, 4, 4, 4, 0]
    assert names(zeroed_in_place, 4) == names(never, 4) == [4, 4, 4, 4]


def test_gradients_come_back_as_they_were_and_none_stays_none() -> None:
    models, optimizers, tracked = build(0)
    loss(models[0], 0).backward()
    models[0][0].bias.grad = None
    cut = saved(tracked)
    again, _, other = build(1)
    loss(again[1], 0).backward()
    held = again[0][2].weight.grad = torch.ones(2, 4)
    other.load(*cut)
    assert again[0][0].bias.grad is None and again[1][0].weight.grad is None
    assert again[0][2].weight.grad is held and torch.equal(held, models[0][2].weight.grad)
    assert torch.equal(again[0][0].weight.grad, models[0][0].weight.grad)


@pytest.mark.filterwarnings("ignore:Using backward")
def test_a_second_order_loop_that_piles_up_is_not_taken_for_one_that_resets() -> None:
    models, optimizers, tracked = build(0)
    for step in range(7):
        loss(models[0], step).backward(create_graph=True)  # adds out of place
        optimizers[0].step()
        assert len(tracked.save()[0]["gradients"]) == 4


def test_an_optimizer_that_is_no_longer_tracked_keeps_no_hook() -> None:
    models, optimizers, tracked = build(0)
    assert optimizers[0]._optimizer_step_post_hooks and optimizers[0]._optimizer_step_pre_hooks
    tracked.close()
    assert not any(each._optimizer_step_post_hooks or each._optimizer_step_pre_hooks for each in optimizers)
    usual(0, models, optimizers)
    assert len(tracked.save()[0]["gradients"]) == 4 and optimizers[0]._optimizer_step_post_hooks
    del tracked
    usual(1, models, optimizers)  # hooks of one that is gone do nothing


def test_an_optimizer_that_is_replaced_keeps_no_hook() -> None:
    _, optimizers, tracked = build(0)
    tracked.add(optimizer=[], other=optimizers[1])
    assert not optimizers[0]._optimizer_step_post_hooks and optimizers[1]._optimizer_step_post_hooks
    tracked.add(optimizer=[optimizers[0]])
    assert optimizers[0]._optimizer_step_post_hooks


def test_the_gradients_of_tracked_tensors_are_among_them() -> None:
    def build_one() -> tuple[torch.Tensor, Tracked]:
        alpha = torch.zeros(2, requires_grad=True)
        tracked = Tracked()
        tracked.add(alpha=alpha, parts=[nn.Parameter(torch.ones(1))])
        return alpha, tracked

    alpha, tracked = build_one()
    (alpha * 3).sum().backward()
    other, again = build_one()
    again.load(*saved(tracked))
    assert torch.equal(other.grad, torch.full((2,), 3.0))


@pytest.mark.filterwarnings("ignore:Sparse")
def test_sparse_gradients_come_back_sparse() -> None:
    def table() -> tuple[nn.Embedding, Tracked]:
        made, tracked = nn.Embedding(5, 2, sparse=True), Tracked()
        tracked.add(table=made)
        return made, tracked

    one, tracked = table()
    one(torch.tensor([1, 1, 3])).sum().backward()
    other, again = table()
    again.load(*saved(tracked))
    assert other.weight.grad.is_sparse and torch.equal(other.weight.grad.to_dense(), one.weight.grad.to_dense())
