"""From a run to its graph: what stands in it, which way the gradient took, and that nothing is missing without a word."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import gradnb
from gradnb.errors import UsageError
from gradnb.graph.model import Edge, Graph, Node
from gradnb.report.report import Report


def recorded(run: Callable[[], object]) -> Report:
    with gradnb.check() as report:
        run()
    return report


def graphs(run: Callable[[], object]) -> list[Graph]:
    return recorded(run).graph.graphs


def step_of(model: nn.Module, x: torch.Tensor, loss: Callable[[torch.Tensor], torch.Tensor] = lambda y: y.pow(2).mean()) -> Graph:
    """The graph of one training step of a model."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def run() -> None:
        loss(model(x)).backward()
        optimizer.step()

    return graphs(run)[0]


def node(graph: Graph, label: str, number: int = 0) -> Node:
    return [n for n in graph.nodes if n.label == label][number]


def into(graph: Graph, target: Node) -> dict[str, Edge]:
    return {graph.nodes[e.source].label: e for e in graph.edges if graph.nodes[e.target] is target}


def check_sound(graph: Graph) -> None:
    """Edges lead forward in time, each node but an unused parameter hangs on another one, the ends are losses."""
    for edge in graph.edges:
        assert graph.nodes[edge.source].order < graph.nodes[edge.target].order
    sources = {e.source for e in graph.edges}
    touched = sources | {e.target for e in graph.edges}
    for number, found in enumerate(graph.nodes):
        assert number in touched or found.state == "unused" or len(graph.nodes) == 1, found
        assert number in sources or found.kind == "loss" or found.state == "unused" or found.mark is not None, found


def test_a_step_shows_parameters_operations_inputs_and_the_loss_with_their_facts() -> None:
    torch.manual_seed(0)
    x = torch.randn(5, 4)
    graph = step_of(nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 1)), x)
    check_sound(graph)
    assert [n.label for n in graph.nodes if n.kind == "operation"] == ["linear", "relu", "linear", "pow", "mean"]
    weight = next(n for n in graph.nodes if n.name == "2.weight")
    assert (weight.kind, weight.shape, weight.trainable, weight.state, weight.module) == ("parameter", (1, 3), True, "flows", "model.2")
    assert weight.norm is not None and weight.norm > 0
    linear = node(graph, "linear", 1)
    assert (linear.module, linear.shape, linear.dtype, linear.requires_grad) == ("model.2", (5, 1), "float32", True)
    assert linear.grad_fn == "AddmmBackward0" and linear.norm is not None
    assert node(graph, "x").state == "data" and node(graph, "loss").value == pytest.approx(float(node(graph, "loss").value or 0))
    assert {e.kind for e in graph.edges} == {"flows", "data"} and into(graph, node(graph, "linear"))["x"].kind == "data"
    assert graph.classes["model.2"] == "Linear" and not graph.notes


def test_a_cut_marks_its_operation_and_the_ways_before_and_behind_it() -> None:
    encoder, head = nn.Linear(4, 3), nn.Linear(3, 1)
    optimizer = torch.optim.SGD([*encoder.parameters(), *head.parameters()], lr=0.1)

    def run() -> None:
        hidden = encoder(torch.ones(2, 4))
        kept = hidden.detach()
        out = head(torch.tanh(kept))
        out.sum().backward()
        optimizer.step()

    (graph,) = graphs(run)
    check_sound(graph)
    cut = node(graph, "detach")
    assert cut.mark is not None and cut.mark.root and cut.mark.word == "lost" and cut.mark.text.endswith(": .detach()")
    assert cut.name == "kept" and cut.state == "lost" and node(graph, "tanh").state == "lost"
    assert into(graph, cut)["linear"].cut and into(graph, cut)["linear"].kind == "lost"
    assert into(graph, node(graph, "tanh"))["detach"].kind == "lost" and into(graph, node(graph, "linear", 1))["tanh"].kind == "lost"
    assert into(graph, node(graph, "linear"))["weight"].kind == "starved"
    assert into(graph, node(graph, "linear", 1))["weight"].kind == "flows"
    assert [n.state for n in graph.nodes if n.name.startswith("encoder.")] == ["starved", "starved"]


def test_a_number_that_left_torch_and_came_back_is_followed_through_python() -> None:
    layer, head = nn.Linear(4, 3), nn.Linear(3, 1)
    optimizer = torch.optim.SGD([*layer.parameters(), *head.parameters()], lr=0.1)

    def run() -> None:
        rows = [row.sum().item() * 2 for row in layer(torch.ones(3, 4))]
        again = torch.tensor(rows)
        head(again).sum().backward()
        optimizer.step()

    (graph,) = graphs(run)
    check_sound(graph)
    assert sum(n.label == "item" for n in graph.nodes) == 3
    assert sum(n.mark is not None and n.mark.root for n in graph.nodes) == 1
    assert set(into(graph, node(graph, "tensor"))) == {"item"} and all(
        e.kind == "lost" for e in into(graph, node(graph, "tensor")).values()
    )


def test_a_number_that_comes_back_as_a_leaf_that_requires_grad_is_no_parameter_of_its_own() -> None:
    layer = nn.Linear(4, 1)

    def run() -> None:
        loss = torch.tensor(layer(torch.ones(2, 4)).sum().item(), requires_grad=True)
        loss.backward()
        optimizer.step()

    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    (graph,) = graphs(run)
    check_sound(graph)
    marked = node(graph, "item").mark
    assert marked is not None and marked.root and node(graph, "weight").state == "starved"


def test_an_innocent_detach_and_a_logged_number_are_neither_marked_nor_called_lost() -> None:
    generator, critic = nn.Linear(2, 2), nn.Linear(2, 1)
    optimizer = torch.optim.SGD(critic.parameters(), lr=0.1)

    def run() -> None:
        fake = generator(torch.ones(3, 2))
        loss = critic(fake.detach()).mean()
        loss.item()
        loss.backward()
        optimizer.step()

    (graph,) = graphs(run)
    check_sound(graph)
    assert not any(n.mark for n in graph.nodes) and {e.kind for e in graph.edges} == {"flows", "data"}
    assert node(graph, "detach").state == "data"
    assert graph.notes == ["+ 1 operation that no loss of this step depends on"]


def test_each_step_has_its_own_graph_and_tells_what_came_from_the_one_before() -> None:
    cell = nn.Linear(3, 3)
    optimizer = torch.optim.SGD(cell.parameters(), lr=0.1)

    def run() -> None:
        state = torch.zeros(2, 3)
        for _ in range(3):
            state = torch.tanh(cell(state.detach() + 1))
            state.sum().backward()
            optimizer.step()
            optimizer.zero_grad()

    found = graphs(run)
    assert [g.title for g in found] == ["step 1", "step 2", "step 3"]
    for graph in found:
        check_sound(graph)
    carried = next(n for n in found[1].nodes if n.region == "earlier step")
    assert carried.label == "state" and carried.kind == "input"
    assert found[1].notes == ["1 tensor comes from an earlier step, whose operations are not drawn here"]
    assert [n.grad_fn for n in found[0].nodes] == [n.grad_fn for n in found[1].nodes] and any(n.grad_fn for n in found[0].nodes)


def test_two_optimizers_give_a_graph_each_with_their_names() -> None:
    a, b = nn.Linear(2, 2), nn.Linear(2, 1)
    first, second = torch.optim.SGD(a.parameters(), lr=0.1), torch.optim.Adam(b.parameters())

    with gradnb.check() as report:
        a(torch.ones(1, 2)).sum().backward()
        first.step()
        b(torch.ones(1, 2)).sum().backward()
        second.step()
    assert [g.title for g in report.graph.graphs] == ["step 1 of first", "step 1 of second"]


def test_in_place_operations_make_versions_and_no_cycle() -> None:
    layer = nn.Linear(3, 3)

    def run() -> None:
        y = layer(torch.ones(2, 3))
        y.mul_(2)
        y += 1
        y[0] = 5.0
        y.relu_()
        y.sum().backward()

    (graph,) = graphs(run)
    check_sound(graph)
    assert [n.label for n in graph.nodes if n.kind == "operation"] == ["linear", "mul_", "add_", "index put", "relu_", "sum"]


def test_a_write_through_a_view_reaches_what_reads_the_base_afterwards() -> None:
    layer = nn.Linear(3, 3)

    def run() -> None:
        base = torch.zeros(2, 3)
        base[0].copy_(layer(torch.ones(3)))
        base.sum().backward()

    (graph,) = graphs(run)
    check_sound(graph)
    assert node(graph, "weight").state == "flows" and "copy_" in {n.label for n in graph.nodes}


def test_a_module_that_is_called_often_stands_with_each_call_and_its_weights_once() -> None:
    cell, head = nn.LSTMCell(2, 4), nn.Linear(4, 1)
    optimizer = torch.optim.SGD([*cell.parameters(), *head.parameters()], lr=0.1)

    def run() -> None:
        h = c = torch.zeros(1, 4)
        for x in torch.randn(12, 1, 2):
            h, c = cell(x, (h, c))
        head(h).sum().backward()
        optimizer.step()

    (graph,) = graphs(run)
    check_sound(graph)
    assert sum(n.label == "lstm_cell" for n in graph.nodes) == 12
    assert len([n for n in graph.nodes if n.kind == "parameter"]) == 6
    assert all(n.state == "flows" for n in graph.nodes if n.kind == "parameter")


def test_tied_weights_are_one_node_with_two_users() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(7, 3)
            self.out = nn.Linear(3, 7, bias=False)
            self.out.weight = self.embed.weight

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.out(self.embed(x))

    graph = step_of(Tied(), torch.tensor([1, 2]))
    check_sound(graph)
    (weight,) = [n for n in graph.nodes if n.kind == "parameter"]
    users = [graph.nodes[e.target].label for e in graph.edges if graph.nodes[e.source] is weight]
    assert users == ["embedding", "linear"]


def test_a_shared_module_has_its_operations_twice_and_its_weights_once() -> None:
    shared = nn.Linear(3, 3)
    graph = step_of(nn.Sequential(shared, nn.ReLU(), shared), torch.ones(2, 3))
    check_sound(graph)
    assert sum(n.label == "linear" for n in graph.nodes) == 2 and sum(n.kind == "parameter" for n in graph.nodes) == 2


def test_a_module_that_two_blocks_hold_runs_under_the_path_of_the_block_that_calls_it() -> None:
    class Block(nn.Module):
        def __init__(self, shared: nn.Module) -> None:
            super().__init__()
            self.first, self.shared = nn.Linear(3, 3), shared

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.shared(self.first(x))

    shared = nn.Sequential(nn.Tanh(), nn.Linear(3, 3))
    graph = step_of(nn.Sequential(Block(shared), Block(shared)), torch.ones(2, 3))
    check_sound(graph)
    assert [n.module for n in graph.nodes if n.label == "tanh"] == ["model.0.shared.0", "model.1.shared.0"]


def test_buffers_are_named_and_are_no_history() -> None:
    graph = step_of(nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1)), torch.randn(6, 3))
    check_sound(graph)
    assert node(graph, "running_mean").name == "model.1.running_mean" and node(graph, "running_mean").kind == "input"
    assert {e.kind for e in graph.edges} == {"flows", "data"}


def test_frozen_and_unused_parameters_are_told_apart() -> None:
    class Half(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.base, self.head, self.spare = nn.Linear(3, 3), nn.Linear(3, 1), nn.Linear(3, 1)
            self.base.requires_grad_(False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.base(x))

    model = Half()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def run() -> None:
        model(torch.ones(2, 3)).sum().backward()
        optimizer.step()

    (graph,) = graphs(run)
    check_sound(graph)
    states = {n.name: (n.state, n.trainable) for n in graph.nodes if n.kind == "parameter"}
    assert states["base.weight"] == ("frozen", False) and states["head.weight"] == ("flows", True)
    assert states["spare.weight"] == ("unused", True)


def test_a_model_on_the_meta_device_has_a_graph() -> None:
    with torch.device("meta"):
        model, x = nn.Sequential(nn.Linear(4, 4), nn.Tanh()), torch.ones(2, 4)

    def run() -> None:
        model(x).sum().backward()

    (graph,) = graphs(run)
    check_sound(graph)
    assert [n.label for n in graph.nodes if n.kind == "operation"] == ["linear", "tanh", "sum"]


def test_a_run_without_a_parameter_and_one_of_a_single_operation_have_a_graph() -> None:
    (graph,) = graphs(lambda: torch.ones(3) + 1)
    assert [n.kind for n in graph.nodes] == ["input", "operation", "loss"]
    assert graph.nodes[-1].label == "output"
    (single,) = graphs(lambda: torch.ones(3))
    assert [n.label for n in single.nodes] == ["ones", "output"]


def test_a_run_of_nothing_has_no_graph_and_says_so() -> None:
    report = recorded(lambda: None)
    with pytest.raises(UsageError, match="no recording|no operation was recorded"):
        _ = report.graph


def test_a_failing_operation_ends_the_partial_graph_with_a_mark() -> None:
    layer, wrong = nn.Linear(4, 3), nn.Linear(5, 1)
    with pytest.raises(RuntimeError, match="shapes"), gradnb.check() as report:
        wrong(F.relu(layer(torch.ones(2, 4))))
    (graph,) = report.graph.graphs
    failed = next(n for n in graph.nodes if n.mark is not None)
    assert failed.label == "linear" and failed.mark is not None and (failed.mark.word, failed.mark.severity) == ("raised", "error")
    assert "relu" in into(graph, failed)


def test_a_loss_without_history_is_marked_where_it_was_lost() -> None:
    layer = nn.Linear(4, 1)
    with pytest.raises(RuntimeError, match="does not require grad"), gradnb.check() as report:
        with torch.no_grad():
            loss = layer(torch.ones(2, 4)).mean()
        loss.backward()
    (graph,) = report.graph.graphs
    check_sound(graph)
    (marked,) = [n for n in graph.nodes if n.mark is not None and n.mark.root]
    assert marked.label == "linear" and "torch.no_grad()" in (marked.mark.text if marked.mark else "")
    assert node(graph, "loss").state == "lost"


def test_a_custom_function_is_one_operation_and_says_what_it_holds() -> None:
    class Twice(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):  # type: ignore[no-untyped-def]
            return x.clone().mul(2)

        @staticmethod
        def backward(ctx, g):  # type: ignore[no-untyped-def]
            return 2 * g

    layer = nn.Linear(2, 2)
    (graph,) = graphs(lambda: Twice.apply(layer(torch.ones(1, 2))).sum().backward())
    check_sound(graph)
    assert node(graph, "Twice").state == "flows" and node(graph, "Twice").function.endswith("Twice")
    assert "+ 2 operations inside custom autograd Functions, each drawn as one" in graph.notes


def test_gradients_of_gradients_are_part_of_the_graph() -> None:
    layer = nn.Linear(3, 1)

    def run() -> None:
        x = torch.ones(2, 3, requires_grad=True)
        (slope,) = torch.autograd.grad(torch.tanh(layer(x)).sum(), x, create_graph=True)
        slope.norm(dim=1).mean().backward()

    graph = graphs(run)[-1]
    check_sound(graph)
    assert {"tanh", "norm", "mean"} <= {n.label for n in graph.nodes} and node(graph, "weight").state == "flows"


def test_a_finding_about_the_loop_stands_at_its_loss_or_is_told_beside_the_picture() -> None:
    layer = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)

    def cleared_too_early() -> None:
        for _ in range(3):
            loss = layer(torch.ones(1, 2)).sum()
            loss.backward()
            optimizer.zero_grad()
            optimizer.step()

    def never_cleared() -> None:
        for _ in range(4):
            layer(torch.ones(1, 2)).sum().backward()
            optimizer.step()

    for run, cause in ((cleared_too_early, "zero-grad-misplaced"), (never_cleared, "zero-grad-missing")):
        report = recorded(run)
        assert [f.cause for f in report.findings] == [cause]
        graph = report.graph.graphs[0]
        assert not any(n.mark for n in graph.nodes if n.kind != "loss")
        assert node(graph, "loss").mark is not None or any(cause in note for note in graph.notes)


def test_a_report_is_copied_and_pickled_with_its_graph() -> None:
    layer = nn.Linear(2, 1)
    report = recorded(lambda: layer(torch.ones(1, 2)).sum().backward())
    labels = [n.label for n in report.graph.graph.nodes]
    for twin in (copy.deepcopy(report), pickle.loads(pickle.dumps(report))):
        assert [n.label for n in twin.graph.graph.nodes] == labels


def test_the_losses_of_the_run_are_at_hand_while_the_user_keeps_them() -> None:
    layer = nn.Linear(2, 1)
    kept: list[torch.Tensor] = []

    def run() -> None:
        kept.append(layer(torch.ones(1, 2)).sum())
        kept[0].backward()

    report = recorded(run)
    assert report.graph.losses() and report.graph.losses()[-1] is kept[0]
    kept.clear()
    assert report.graph.losses() == []


@pytest.mark.parametrize(("given", "said"), [({"step": 3}, "only step 1"), ({"step": 0}, "step=0"), ({"depth": -1}, "depth=-1")])
def test_a_choice_that_is_not_there_is_refused_with_what_is(given: dict, said: str) -> None:
    layer = nn.Linear(2, 1)
    report = recorded(lambda: layer(torch.ones(1, 2)).sum().backward())
    with pytest.raises(UsageError, match=said):
        report.graph.fold(**given)


def test_building_the_graph_changes_nothing_of_the_user() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(2, 1)
    report = recorded(lambda: layer(torch.ones(1, 2)).sum().backward())
    before = [p.clone() for p in layer.parameters()], [p.grad.clone() for p in layer.parameters() if p.grad is not None]
    state = torch.get_rng_state()
    _ = report.graph.graphs
    after = [p.detach() for p in layer.parameters()], [p.grad for p in layer.parameters() if p.grad is not None]
    assert all(torch.equal(a, b) for x, y in zip(before, after) for a, b in zip(x, y)) and torch.equal(state, torch.get_rng_state())
