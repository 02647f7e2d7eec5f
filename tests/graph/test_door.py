"""``gradnb.graph()`` takes what the user has: nothing, a report, tensors, a model."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn

import gradnb
from gradnb.errors import UsageError
from gradnb.graph.picture import Picture
from gradnb.report.report import Report


class Net(nn.Module):
    def __init__(self, cut: bool = False) -> None:
        super().__init__()
        self.cut = cut
        self.encoder = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5))
        self.head = nn.Linear(8, 2)
        self.calls = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        hidden = self.encoder(x)
        if self.cut:
            hidden = hidden.detach()
        return self.head(hidden)


@pytest.fixture(autouse=True)
def no_report_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(sys.modules["gradnb.check"], "_last", None)  # gradnb.check is the function
    yield


def train(model: nn.Module, steps: int = 1) -> Report:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with gradnb.check() as report:
        for _ in range(steps):
            loss = model(torch.randn(6, 4)).pow(2).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return report


def names(picture: Picture, kind: str) -> set[str]:
    return {node.name or node.label for node in picture.graph.nodes if node.kind == kind}


def test_the_package_can_be_called_and_its_parts_can_be_imported() -> None:
    code = (
        "import gradnb, gradnb.graph.model as m, torch; from gradnb.graph.model import Node; import gradnb.graph.door; "
        "assert m.Node is Node and gradnb.graph.model is m; "
        "x = torch.ones(2, requires_grad=True); print(len(gradnb.graph(x.exp().sum()).graph.nodes))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "4\n"


def test_help_says_how_to_call_it() -> None:
    import inspect
    import pydoc

    text = pydoc.plain(pydoc.render_doc(gradnb.graph))
    assert "gradnb.graph(loss, model)" in text and "gradnb.graph(model, inputs=batch)" in text
    assert {"what", "model", "inputs", "depth", "focus", "only", "saved", "double_backward"} <= set(
        inspect.signature(gradnb.graph).parameters
    )


def test_nothing_draws_the_last_report_and_a_report_draws_itself() -> None:
    first, last = train(Net(cut=True)), train(Net())
    assert gradnb.graph() is last.graph and gradnb.graph(first) is first.graph
    assert any(node.mark for node in gradnb.graph(first, only="lost").graph.nodes)
    assert gradnb.graph(first.graph) is first.graph


def test_without_a_report_it_says_how_to_get_one() -> None:
    with pytest.raises(UsageError, match="no report yet: put %%gradcheck on the cell that trains"):
        gradnb.graph()


def test_tensors_are_walked_with_the_names_around_the_call() -> None:
    net, batch = Net(), torch.randn(6, 4, requires_grad=True)
    loss = net(batch).sum()
    picture = gradnb.graph(loss)
    assert {"encoder.0.weight", "head.bias"} <= names(picture, "parameter") and names(picture, "input") == {"batch"}
    assert names(picture, "loss") == {"loss"} and picture.losses()[0] is loss
    assert "saved mat1" in {node.label for node in gradnb.graph([loss], net, saved=True).graph.nodes}


def test_the_call_keeps_no_variable_of_a_function_alive() -> None:
    import weakref

    loss = torch.ones(2, requires_grad=True).exp().sum()
    alive = weakref.ref(loss)
    picture = gradnb.graph(loss)
    del loss
    assert alive() is None and picture.losses() == []


def test_the_options_of_fold_go_through() -> None:
    report = train(Net(), steps=2)
    assert gradnb.graph(report, step=2).step == 2 and gradnb.graph(depth=0).depth == 0
    assert gradnb.graph(focus="encoder").focus == "encoder"
    with pytest.raises(UsageError, match="nowhere"):
        gradnb.graph(focus="nowhere")


def test_a_model_of_the_last_report_is_shown_from_near() -> None:
    model = Net()
    report = train(model)
    assert gradnb.graph(model) is report.graph and gradnb.graph(model=model) is report.graph
    picture = gradnb.graph(model.encoder)
    assert picture.focus == "model.encoder" and picture.graph is report.graph.graph


def test_a_model_that_ran_only_in_an_earlier_step_is_shown_there() -> None:
    first, second = Net(), Net()
    with gradnb.check(namespace={"first": first, "second": second}) as report:
        for name, model in (("first", first), ("second", second)):
            optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
            hidden = model.encoder(torch.randn(2, 4))
            if name == "second":
                hidden = hidden.detach()
            model.head(hidden).sum().backward()
            optimizer.step()
    assert report.graph.step == 2, "the finding is in the second step"
    seen = gradnb.graph(first)
    assert seen.step == 1 and any(node.module.startswith("first") for node in seen.graph.nodes)


def test_a_model_that_did_not_run_is_its_modules_and_parameters() -> None:
    other = Net()
    other.head.weight.requires_grad_(False)
    train(Net())
    picture = gradnb.graph(other)
    assert names(picture, "parameter") == {name for name, _ in other.named_parameters()} and not picture.graph.edges
    assert {node.state for node in picture.graph.nodes if node.name == "head.weight"} == {"frozen"}
    notes = " ".join(picture.graph.notes)
    assert "graph(model, inputs=batch) records a forward pass" in notes and "2 modules without parameters: encoder.2, encoder.3" in notes
    assert "encoder" in repr(picture) and picture.svg().startswith("<svg")


def test_the_modules_of_a_model_that_did_not_run_are_folded_as_those_of_one_that_did() -> None:
    model = nn.Sequential(nn.Embedding(5, 8), *(nn.TransformerEncoderLayer(8, 2, 16) for _ in range(12)), nn.Linear(8, 2))
    model[4].requires_grad_(False)
    tree = gradnb.graph(model).tree
    whole = next(box for box in tree.boxes if (box.kind, box.label) == ("module", "model"))
    labels = [tree.boxes[child].label for child in whole.children]
    assert whole.open and labels[0] == "0" and labels[-1] == "13" and len(labels) == 5
    assert "× 3" in labels[1] and "TransformerEncoderLayer" in labels[1] and "× 8" in labels[3]


def test_a_model_with_inputs_is_run_once_and_nothing_is_left_behind() -> None:
    net = Net().train()
    net.encoder[1].eval()
    state = {name: value.clone() for name, value in net.state_dict().items()}
    random, batch = torch.get_rng_state(), torch.randn(6, 4)
    random = torch.get_rng_state()
    picture = gradnb.graph(net, inputs=batch)
    assert {node.module for node in picture.graph.nodes} >= {"net.encoder.0", "net.encoder.2", "net.encoder.3", "net.head"}
    assert torch.equal(torch.get_rng_state(), random) and net.calls == 0
    assert all(torch.equal(value, net.state_dict()[name]) for name, value in state.items())
    assert all(p.grad is None for p in net.parameters()) and net.training and not net.encoder[1].training
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())
    assert gradnb.last_report() is None and any("a forward pass alone" in note for note in picture.graph.notes)


def test_a_forward_pass_says_what_no_gradient_can_come_back_to() -> None:
    net = Net(cut=True)
    notes = " ".join(gradnb.graph(net, inputs=torch.randn(6, 4)).graph.notes)
    assert "can come back to encoder.0.weight, encoder.0.bias, encoder.1.weight, encoder.1.bias" in notes


def test_the_line_that_asks_for_the_picture_names_nothing_in_it() -> None:
    net = nn.Sequential(nn.Linear(4, 2), nn.ReLU())
    picture = gradnb.graph(net, inputs=torch.randn(6, 4))
    assert [node.label for node in picture.graph.nodes if node.kind == "input"] == ["input"]
    assert all(node.location is None and not node.name for node in picture.graph.nodes if node.kind == "operation")


class Pair(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(2, 2)

    def forward(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        return self.fc(left) * right.mul_(2)


class Dict(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(2, 2)

    def forward(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        return self.fc(batch["x"])


def test_inputs_are_a_tensor_a_tuple_or_a_dict_and_stay_as_they_are() -> None:
    left, right = torch.ones(1, 2), torch.ones(1, 2)
    for inputs in ((left, right), {"left": left, "right": right}):
        assert "mul" in names(gradnb.graph(Pair(), inputs=inputs), "operation")
    assert torch.equal(right, torch.ones(1, 2))
    assert "linear" in {node.label for node in gradnb.graph(Dict(), inputs={"x": left}).graph.nodes}


def test_inside_a_check_it_is_no_part_of_the_recording() -> None:
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with gradnb.check() as report:
        loss = model(torch.randn(6, 4)).mean()
        gradnb.graph(loss, model)
        gradnb.graph(model, inputs=torch.randn(6, 4))
        loss.backward()
        optimizer.step()
    assert report.verdict == "ok" and len(report.graph.graphs) == 1
    assert sum(node.label == "linear" for node in report.graph.graph.nodes) == 2


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (dict(what=3), "an object of type int was given; a tensor, a list of tensors, an nn.Module or a Report is expected"),
        (dict(what=[]), "an empty list was given"),
        (dict(what=[1]), "a list without a tensor was given"),
        (dict(what=Net), "the class Net, not an object of it, was given"),
        (dict(what=Net(), model=torch.ones(6, 4)), r"graph\(model, inputs=x\)"),
        (dict(what=Net(), inputs=torch.ones(6, 5)), "fails on these inputs: RuntimeError: mat1 and mat2"),
        (dict(what=Net(), model=Net()), "type Net and an object of type Net were given"),
        (dict(what=torch.ones(2), inputs=torch.ones(2)), "inputs= goes with a model"),
        (dict(what=nn.ReLU()), "has no parameters and did not run"),
        (dict(what=Net(), saved=True), "saved=True reads the graph behind a living tensor"),
        (dict(what=torch.ones(2), model=3), "model is of type int; an nn.Module is expected"),
        (dict(what=torch.ones(2), depth=-1), "depth=-1 given"),
        (dict(what=torch.ones(2), only="found"), "only"),
    ],
)
def test_what_cannot_be_drawn_is_refused_with_what_was_given_and_what_to_do(given: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        gradnb.graph(**given)


def test_a_picture_of_every_odd_graph_can_be_shown() -> None:
    x = torch.ones(2, requires_grad=True)
    with torch.device("meta"):
        on_meta = nn.Linear(2, 2)
    for given in (torch.ones(()), x, x.exp(), [x.sum(), x.mean()], on_meta(torch.ones(1, 2, device="meta"))):
        picture = gradnb.graph(given, saved=True)
        assert picture.svg().startswith("<svg") and repr(picture) and picture.to_json()["schema"] == 1
    assert "<svg" in gradnb.graph(on_meta).svg()


def test_a_lazy_model_and_a_wrapped_one_are_outlined() -> None:
    lazy = nn.Sequential(nn.LazyLinear(3), nn.Linear(3, 1))
    assert names(gradnb.graph(lazy), "parameter") == {"0.weight", "0.bias", "1.weight", "1.bias"}
    with pytest.raises(UsageError, match="lazy parameters"):
        gradnb.graph(lazy, inputs=torch.ones(2, 2))
    wrapped = nn.DataParallel(nn.Linear(3, 1))
    assert names(gradnb.graph(wrapped), "parameter") == {"weight", "bias"}
