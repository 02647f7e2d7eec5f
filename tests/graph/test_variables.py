"""Which variable an operation's result is given to, when modules of a library stand between it and the user's line."""

from __future__ import annotations

import torch
from torch import nn

import gradnb


class Adapter(nn.Module):
    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base, self.scale = base, nn.Parameter(torch.ones(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.base(x) * self.scale


class Cell(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.a(x) + self.b(h))


def test_what_is_inside_a_librarys_module_does_not_take_the_name_of_its_result() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
    layer.linear1 = Adapter(layer.linear1)
    encoder = nn.TransformerEncoder(layer, 2)
    with gradnb.check() as report:
        features = encoder(torch.randn(2, 3, 8))
        features.mean().backward()
    named = [node.label for node in report.graph.graph.nodes if node.name == "features"]
    assert named == ["layer_norm"]


def test_what_the_users_own_module_returns_in_a_loop_has_the_name() -> None:
    cell, h = Cell(), torch.zeros(2, 4)
    with gradnb.check() as report:
        for _ in range(3):
            h = cell(torch.randn(2, 4), h)
        h.mean().backward()
    assert [node.label for node in report.graph.graph.nodes if node.name == "h" and node.kind == "operation"] == ["tanh"] * 3
