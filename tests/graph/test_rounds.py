"""Where one training step ends and the next begins, when a GradScaler makes the step."""

from __future__ import annotations

import torch
from torch import nn

import gradnb


def test_gradient_accumulation_under_a_scaler_is_one_graph_for_each_optimizer_step() -> None:
    model, scaler = nn.Linear(4, 2), torch.amp.GradScaler("cpu")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with gradnb.check() as report:
        for i in range(4):
            scaler.scale(model(torch.randn(3, 4)).pow(2).mean() / 2).backward()
            if i % 2:
                scaler.step(optimizer)
                scaler.update()
                optimizer.zero_grad()
    graphs = report.graph.graphs
    assert [graph.title for graph in graphs] == ["step 1", "step 2"]
    assert [sum(node.kind == "loss" for node in graph.nodes) for graph in graphs] == [2, 2]
    assert all(node.norm is not None for graph in graphs for node in graph.nodes if node.kind == "parameter")


def test_a_step_that_the_scaler_skipped_ends_its_step_all_the_same() -> None:
    model, scaler = nn.Linear(4, 2), torch.amp.GradScaler("cpu")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with gradnb.check() as report:
        for factor in (float("inf"), 1.0):
            scaler.scale(model(torch.randn(3, 4)).pow(2).mean() * factor).backward()
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
    assert len(report.graph.graphs) == 2
    assert [sum(node.kind == "loss" for node in graph.nodes) for graph in report.graph.graphs] == [1, 1]
