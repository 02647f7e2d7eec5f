"""torchviz's own picture of a loss, with what autograd forgot."""

from __future__ import annotations

import builtins
import re
from typing import Any

import pytest
import torch
from broken_models import WAYS, setting
from in_process import Shell
from torch import nn

import gradnb
from gradnb.errors import UsageError
from gradnb.report.report import Report


def ran(shell: Shell, cell: str) -> tuple[Report, dict[str, Any]]:
    """The report on a cell, and the names that it made."""
    assert shell.run(cell).error is None
    report = gradnb.last_report()
    assert report is not None
    return report, shell.names


def labels(source: str) -> dict[str, str]:
    """Node -> its label."""
    return dict(re.findall(r'^\t(\w+) \[label="?(.*?)"?(?= \w+=|\])', source, re.M | re.S))


def edges(source: str) -> list[tuple[str, str]]:
    return re.findall(r"^\t(\w+) -> (\w+)", source, re.M)


@pytest.mark.parametrize("way", list(WAYS))
@pytest.mark.parametrize("model", ["mlp", "resnet", "gpt2"])
def test_the_lost_nodes_are_added_and_lead_to_the_node_that_took_their_data(shell: Shell, model: str, way: str) -> None:
    place = setting(model, way)
    report, names = ran(shell, place.cell)
    drawing = report.graph.to_torchviz()
    found, links = labels(drawing.source), edges(drawing.source)
    marked = [label for label in found.values() if label.startswith("✗ lost here")]
    assert len(marked) == 1 and place.operation in marked[0] and f"line {place.line}" in marked[0]
    # every parameter of the model is there, those that lost their gradient too
    shown = " ".join(found.values())
    assert all(re.search(rf"(?<![\w.]){re.escape(name)}(?![\w.])", shown) for name, _ in names["model"].named_parameters())
    # from the added nodes an edge leads into torchviz's own ones, and nothing leads nowhere
    assert any(source.startswith("gradnb") and not target.startswith("gradnb") for source, target in links)
    assert {end for link in links for end in link} <= set(found)


def test_the_data_goes_into_the_node_that_used_it_not_into_its_weight(shell: Shell) -> None:
    place = setting("mlp", "detach")
    report, _ = ran(shell, place.cell)
    source = report.graph.to_torchviz().source
    found = labels(source)
    ends = [found[target] for begin, target in edges(source) if begin.startswith("gradnb") and not target.startswith("gradnb")]
    assert ends == ["AddmmBackward0"]


def test_a_later_loss_of_the_same_code_is_drawn_too(shell: Shell) -> None:
    report, names = ran(shell, setting("mlp", "detach").cell)
    loss = nn.functional.cross_entropy(names["model"](names["batch"]), names["targets"])
    assert "✗ lost here" in report.graph.to_torchviz(loss).source


def test_the_loss_has_to_live_or_to_be_given(shell: Shell) -> None:
    import gc

    report, names = ran(shell, setting("mlp", "detach").cell)
    for refused, given in (("belongs to none of the recorded steps", names["model"](names["batch"]).std()), ("of type int", 3)):
        with pytest.raises(UsageError, match=refused):
            report.graph.to_torchviz(given)
    del names["loss"]
    gc.collect()  # torchviz leaves a reference cycle
    with pytest.raises(UsageError, match=r"pass the loss: to_torchviz\(loss\)"):
        report.graph.to_torchviz()


GAN = """\
%%gradcheck --quiet
import torch
from torch import nn
G, D = nn.Linear(2, 3), nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1))
of_g, of_d = torch.optim.SGD(G.parameters(), lr=0.1), torch.optim.SGD(D.parameters(), lr=0.1)
for _ in range(2):
    z = torch.randn(4, 2)
    d_loss = D(G(z).detach()).mean() - D(torch.randn(4, 3)).mean()
    of_d.zero_grad()
    d_loss.backward()
    of_d.step()
    g_loss = -D(G(z).detach()).mean()
    of_g.zero_grad()
    g_loss.backward()
    of_g.step()
"""


def test_the_living_loss_of_the_drawn_step_is_taken(shell: Shell) -> None:
    report, names = ran(shell, GAN)
    for step, (title, lost) in enumerate([("of_d", False), ("of_g", True)] * 2, 1):
        picture = report.graph.fold(step=step)
        source = picture.to_torchviz().source
        assert title in picture.graph.title and ("NegBackward0" in source) == lost == ("✗ lost here" in source)
    assert "NegBackward0" in report.graph.to_torchviz(names["g_loss"]).source


def test_a_walked_tensor_has_its_names_and_the_parameters_that_it_does_not_reach() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    loss = model[1](model[0](torch.randn(2, 3)).detach()).sum()
    found = labels(gradnb.graph(loss, model).to_torchviz().source)
    assert any(label.startswith("1.weight") for label in found.values())
    assert any(label.startswith("0.weight") and "no gradient" in label for label in found.values())


def test_a_graph_that_is_too_deep_for_torchviz_points_to_dot() -> None:
    y = torch.ones(2, requires_grad=True)
    for _ in range(3000):
        y = y * 1.0
    loss = y.sum()
    with pytest.raises(UsageError, match=r"too deep for torchviz.*to_dot\(\)"):
        gradnb.graph(loss).to_torchviz()


class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x)
        return x * 2

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        return grad * 2


def test_freed_tensors_of_a_custom_function_are_told() -> None:
    loss = Doubled.apply(torch.ones(2, requires_grad=True)).sum()
    assert "DoubledBackward" in gradnb.graph(loss).to_torchviz().source
    loss.backward()
    with pytest.raises(UsageError, match="retain_graph=True"):
        gradnb.graph(loss).to_torchviz()


@pytest.mark.parametrize(("missing", "said"), [("distutils.version", "pip install setuptools"), ("torchviz", "pip install torchviz")])
def test_where_it_cannot_be_imported_one_sentence_says_what_to_install(missing: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    for name in [name for name in sys.modules if name.split(".")[0] == "torchviz"]:
        monkeypatch.delitem(sys.modules, name)
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == missing:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    picture = gradnb.graph(torch.ones(2, requires_grad=True).sum())
    with pytest.raises(UsageError, match=said):
        picture.to_torchviz()
