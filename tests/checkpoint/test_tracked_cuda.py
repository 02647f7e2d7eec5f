"""On a GPU: steps, scales and captured graphs go on bit for bit, and memory stays where it is."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from torch import nn

from gradnb.checkpoint import random_states
from gradnb.checkpoint.tracked import Tracked

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def build(seed: int, **options: Any) -> tuple[nn.Module, torch.optim.Optimizer, torch.amp.GradScaler, Tracked]:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(), nn.Linear(8, 2)).cuda()
    optimizer, scaler, tracked = (
        torch.optim.AdamW(model.parameters(), **options),
        torch.amp.GradScaler("cuda", growth_interval=2),
        Tracked(),
    )
    tracked.add(model=model, optimizer=optimizer, scaler=scaler, running=torch.zeros(2, device="cuda"))
    return model, optimizer, scaler, tracked


def step(model: nn.Module, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler) -> None:
    optimizer.zero_grad()
    scaler.scale(model(torch.randn(6, 4, device="cuda")).square().mean()).backward()
    scaler.step(optimizer)
    scaler.update()


def saved(tracked: Tracked) -> tuple[Any, dict[str, torch.Tensor]]:
    tree, tensors, _ = tracked.save()
    return json.loads(json.dumps(tree)), {name: tensor.detach().cpu().clone() for name, tensor in tensors.items()}


@pytest.mark.parametrize("options", [{}, {"fused": True}, {"capturable": True}, {"foreach": False}], ids=str)
def test_a_training_goes_on_bit_for_bit(options: dict) -> None:
    model, optimizer, scaler, tracked = build(0, **options)
    for _ in range(3):
        step(model, optimizer, scaler)
    state, random = saved(tracked), json.loads(json.dumps(random_states.capture()))
    for _ in range(3):
        step(model, optimizer, scaler)
    other, fresh, again, resumed = build(1, **options)
    resumed.load(*state)
    random_states.restore(random)
    for p, q in zip(model.parameters(), other.parameters()):
        assert {k: v.device for k, v in optimizer.state[p].items()} == {k: v.device for k, v in fresh.state[q].items()}
    for _ in range(3):
        step(other, fresh, again)
    assert all(map(torch.equal, model.parameters(), other.parameters())) and scaler.state_dict() == again.state_dict()


def test_a_captured_graph_goes_on_after_a_load() -> None:
    model, optimizer, _, tracked = build(0, capturable=True)
    model.eval()
    x = torch.randn(6, 4, device="cuda")

    def work() -> None:
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()

    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        for _ in range(3):
            work()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    state = saved(tracked)
    graph.replay()
    expected = [p.detach().clone() for p in model.parameters()]
    graph.replay()
    tracked.load(*state)
    graph.replay()
    assert all(map(torch.equal, model.parameters(), expected))
