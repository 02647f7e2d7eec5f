"""Parameters have the names of the user's own model, however it is wrapped or called."""

from __future__ import annotations

import torch
from torch import nn

import gradnb
from gradnb.report.report import Report

NAMES = ["encoder.weight", "encoder.bias", "head.weight", "head.bias"]


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.head = nn.Linear(4, 3), nn.Linear(3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.encoder(x))


def train(model: nn.Module) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model(torch.randn(2, 4)).sum().backward()
    optimizer.step()


def names(report: Report) -> list[str]:
    return [row.name for row in report.parameters]


def test_a_wrapper_that_adds_a_name_in_front_is_seen_through() -> None:
    with gradnb.check(namespace={}) as report:
        train(nn.DataParallel(Net()))
    assert names(report) == NAMES
    net = Net()
    with gradnb.check(namespace={"net": net, "model": torch.compile(net, backend="eager")}) as report:
        train(net)
    assert names(report) == NAMES


def test_parts_called_by_themselves_are_named_after_the_model_they_belong_to() -> None:
    def step(model: Net, optimizer: torch.optim.Optimizer) -> None:
        model.head(model.encoder(torch.randn(2, 4)).detach()).sum().backward()
        optimizer.step()

    net = Net()
    with gradnb.check(namespace={}) as report:
        step(net, torch.optim.SGD(net.parameters(), lr=0.1))
    assert names(report) == NAMES
    assert report.findings[0].affected == NAMES[:2]


def test_a_model_that_was_thrown_away_unused_is_not_in_the_table() -> None:
    with gradnb.check(namespace={}) as report:
        assert sum(p.numel() for p in Net().parameters()) == 19
        train(Net())
    assert len(report.parameters) == 4


def test_locals_that_the_user_keeps_stay_whole() -> None:
    def kept() -> tuple[dict[str, object], Report]:
        net = Net()
        mine = locals()
        with gradnb.check() as report:
            train(net)
        return mine, report

    mine, report = kept()
    assert isinstance(mine["net"], Net)
    assert names(report) == NAMES
