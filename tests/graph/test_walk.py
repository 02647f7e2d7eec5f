"""The walk along ``grad_fn`` from bare tensors."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import torch
from broken_models import GPT2, HEAD, MLP, RESNET, TRAIN
from in_process import Shell
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

import gradnb
from gradnb.errors import UsageError
from gradnb.graph.export.live import match
from gradnb.graph.model import Graph, Node
from gradnb.graph.walk.autograd import field_name
from gradnb.graph.walk.collect import Behind
from gradnb.graph.walk.walker import walk


def named(graph: Graph, name: str) -> Node:
    return next(node for node in graph.nodes if name in (node.name, node.label))


def labels(graph: Graph, kind: str = "operation") -> list[str]:
    return [node.label for node in graph.nodes if node.kind == kind]


def into(graph: Graph, name: str) -> set[str]:
    """What the data of a node comes from."""
    at = graph.nodes.index(named(graph, name))
    return {graph.nodes[edge.source].name or graph.nodes[edge.source].label for edge in graph.edges if edge.target == at}


def is_sound(graph: Graph) -> bool:
    return all(edge.source < edge.target for edge in graph.edges)


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.fc = nn.LayerNorm(4), nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.relu(self.fc(self.norm(x)))


class Model(nn.Module):
    """Embedding, residual blocks, and a head that shares the embedding's weight."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(10, 4)
        self.blocks = nn.Sequential(Block(), Block(), Block())
        self.head = nn.Linear(4, 10, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.head(self.blocks(self.embed(tokens)))


TOKENS = torch.tensor([1, 2, 3])


def test_operations_have_the_names_of_the_field() -> None:
    names = "MulBackward0 NativeLayerNormBackward0 MaxPool2DWithIndicesBackward0 NllLossBackward0 SigmoidBackwardBackward0 CopyBackwards"
    assert [field_name(name) for name in names.split()] == ["mul", "layer_norm", "max_pool2d", "nll_loss", "sigmoid_backward", "copy"]
    assert field_name("torch::autograd::CopySlices") == "copy_slices"
    assert field_name("ScaledDotProductFlashAttentionForCpuBackward0") == "scaled_dot_product_attention"


def test_every_node_says_what_it_is() -> None:
    x, w = torch.randn(3, 4), nn.Parameter(torch.randn(4))
    product = x * w
    loss = product.sum()
    graph = walk(loss, names={"w": w, "product": product, "loss": loss})
    assert labels(graph) == ["mul", "sum"] and labels(graph, "loss") == ["loss"]
    mul, weight = named(graph, "product"), named(graph, "w")
    assert (mul.grad_fn, mul.shape, mul.dtype, mul.state) == ("MulBackward0", (3, 4), "float32", "flows")
    assert (weight.kind, weight.trainable, weight.shape) == ("parameter", True, (4,))
    assert graph.nodes[-1].value == pytest.approx(loss.item()) and is_sound(graph)


def test_parameters_have_the_names_of_the_model_and_operations_a_module() -> None:
    model = Model()
    graph = walk(model(TOKENS).sum(), model)
    assert {node.name for node in graph.nodes if node.kind == "parameter"} == {name for name, _ in model.named_parameters()}
    assert named(graph, "blocks.1.fc.weight").module == "model.blocks.1.fc" and graph.classes["model.blocks.1"] == "Block"
    modules = [(node.label, node.module) for node in graph.nodes if node.kind == "operation"]
    assert ("layer_norm", "model.blocks.0.norm") in modules and ("addmm", "model.blocks.2.fc") in modules
    # what runs between two parameters belongs to the block around it, in the last block as in the first
    assert [module for label, module in modules if label == "relu"] == [f"model.blocks.{i}" for i in range(3)]
    assert modules[-1] == ("sum", "")


@pytest.mark.parametrize("source", [MLP, RESNET, GPT2], ids=["mlp", "resnet", "gpt2"])
def test_the_guessed_modules_are_those_that_a_recording_sees(shell: Shell, source: str) -> None:
    whole = "\n".join(line for line in source.split("\n") if "@LOSE" not in line and "if self.broken:" not in line)
    shell.run(HEAD.replace("%%gradcheck", "%%gradcheck --quiet") + whole + TRAIN)
    report, loss = gradnb.last_report(), shell.names["loss"]
    assert report is not None and report.recording is not None
    behind = Behind()
    behind.add(loss)
    recorded = match(loss, behind, report.recording, report.graph.graphs)
    assert recorded is not None and recorded.fits == 1.0
    guessed = [node.module for node in walk(loss, names=shell.names).nodes if node.kind == "operation"]
    seen = [recorded.graph.nodes[recorded.node_of[node]].module for node in behind.order()]
    # only a module without parameters, such as a ReLU in a Sequential, cannot be told from what is around it
    assert all(right == guess or not guess or right.startswith(guess + ".") for guess, right in zip(guessed, seen))
    assert sum(right == guess for guess, right in zip(guessed, seen)) > 0.97 * len(seen)


def test_a_module_is_one_stretch_of_the_order() -> None:
    model = Model()
    graph = walk(model(TOKENS).log_softmax(-1).sum(), model)
    blocks = [".".join(node.module.split(".")[:3]) for node in graph.nodes if node.kind == "operation"]
    seen = [name for name, before in zip(blocks, ["", *blocks]) if name != before]
    assert len(seen) == len(set(seen))


def test_a_tied_weight_is_one_node_and_each_use_belongs_to_its_own_module() -> None:
    model = Model()
    graph = walk(model(TOKENS).sum(), model)
    assert sum(node.name == "embed.weight" for node in graph.nodes) == 1
    assert named(graph, "embedding").module == "model.embed" and named(graph, "mm").module == "model.head"


def test_a_weight_decay_term_is_no_part_of_the_layer() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 1))
    loss = model(torch.randn(2, 3)).sum() + sum(p.pow(2).sum() for p in model.parameters())
    graph = walk(loss, model)
    assert {node.module for node in graph.nodes if node.label == "pow"} == {""}


def test_without_a_model_names_come_from_the_variables() -> None:
    encoder, heads = nn.Linear(2, 2), {"a": nn.Linear(2, 1)}
    batch = torch.randn(3, 2, requires_grad=True)
    graph = walk(heads["a"](encoder(batch)).sum(), names=dict(encoder=encoder, heads=heads, batch=batch))
    assert named(graph, "batch").kind == "input"
    assert {"encoder.weight", "heads['a'].bias"} <= {node.name for node in graph.nodes}
    alone = walk(encoder(batch).sum(), names=dict(encoder=encoder, batch=batch))
    assert {node.name for node in alone.nodes if node.kind == "parameter"} == {"weight", "bias"}  # as a report names them
    unnamed = walk(encoder(batch).sum())
    assert labels(unnamed, "parameter") == ["parameter", "parameter"] and labels(unnamed, "input") == ["input"]


def test_leaves_show_what_their_grad_holds() -> None:
    good, zero, bad, none = (torch.ones(2, requires_grad=True) for _ in range(4))
    loss = (good + zero + bad + none).sum()
    before = walk(loss, names=dict(good=good))
    assert named(before, "good").state == "flows" and "no .grad is set yet" in before.notes[0]
    good.grad, zero.grad, bad.grad = torch.tensor([3.0, 4.0]), torch.zeros(2), torch.tensor([float("nan"), 0.0])
    graph = walk(loss, names=dict(good=good, zero=zero, bad=bad, none=none))
    assert [named(graph, name).state for name in ("good", "zero", "bad", "none")] == ["flows", "zero", "nan", "starved"]
    assert named(graph, "good").norm == 5.0
    kinds = {graph.nodes[edge.source].name: edge.kind for edge in graph.edges if graph.nodes[edge.source].kind == "input"}
    assert kinds == {"good": "flows", "zero": "flows", "bad": "flows", "none": "starved"}


def test_sparse_and_half_gradients_have_norms() -> None:
    table, half = nn.Embedding(5, 2, sparse=True), nn.Parameter(torch.ones(2, dtype=torch.bfloat16))
    loss = table(torch.tensor([1])).sum() + half.float().sum()
    loss.backward()
    graph = walk(loss, table, names={"half": half})
    assert named(graph, "weight").norm == pytest.approx(2**0.5) and named(graph, "half").norm == pytest.approx(2**0.5, rel=1e-2)


def test_torchs_own_functions_are_no_functions_of_the_users() -> None:
    layer = nn.Linear(2, 1)
    layer.register_full_backward_hook(lambda *_: None)
    x = torch.ones(3, 2, requires_grad=True)
    node = named(walk(layer(x).sum(), layer), "BackwardHookFunction")
    assert (node.function, node.grad_fn) == ("", "BackwardHookFunctionBackward")


def test_a_dead_weak_reference_among_the_variables_is_passed_by() -> None:
    import weakref

    gone = torch.ones(2)
    proxy, x = weakref.proxy(gone), torch.ones(2, requires_grad=True)
    del gone
    assert named(walk(x.sum(), names={"proxy": proxy, "list": [proxy], "x": x}), "x").kind == "input"


def test_an_intermediate_result_shows_the_gradient_that_it_kept() -> None:
    x = torch.ones(4, requires_grad=True)
    hidden = x * 2
    hidden.retain_grad()
    hidden.sum().backward(retain_graph=True)
    assert named(walk(hidden.sum(), names={"hidden": hidden}), "hidden").norm == 2.0


def test_parameters_that_the_graph_does_not_reach_are_shown_and_counted() -> None:
    model = Model()
    model.blocks[0].requires_grad_(False)
    graph = walk(model.head(model.embed(TOKENS).detach()).sum(), model)
    assert named(graph, "blocks.1.fc.weight").state == "starved" and named(graph, "blocks.0.fc.weight").state == "frozen"
    assert any("8 of the model's 9 trainable parameters are not in this graph" in note and "%%gradcheck" in note for note in graph.notes)
    assert any("4 frozen parameters without edges" in note for note in graph.notes)


def test_a_tensor_without_history_says_so() -> None:
    loss = torch.randn(3).sum()
    graph = walk(loss, names={"loss": loss})
    assert [(node.kind, node.state) for node in graph.nodes] == [("loss", "data")] and not graph.edges
    assert graph.notes[0].startswith("loss has no grad_fn and requires no gradient") and "%%gradcheck" in graph.notes[0]


def test_a_leaf_is_a_graph_of_one_node() -> None:
    w = nn.Parameter(torch.ones(2, 3))
    graph = walk(w, names={"w": w})
    assert [(node.kind, node.name, node.shape) for node in graph.nodes] == [("parameter", "w", (2, 3))]
    assert "w is a leaf: no operation made it" in graph.notes


def test_several_losses_share_what_is_behind_them() -> None:
    x = torch.ones(2, requires_grad=True)
    hidden = x.exp()
    for losses in ([hidden.sum(), hidden.mean()], {"total": hidden.sum(), "average": hidden.mean()}):
        graph = walk(losses)
        assert labels(graph).count("exp") == 1 and len(labels(graph, "loss")) == 2
    assert graph.title == "total, average"


def test_a_graph_of_8500_operations_needs_no_recursion() -> None:
    x = torch.ones(2, requires_grad=True)
    y = x
    for _ in range(8500):
        y = y * 1.0
    limit = sys.getrecursionlimit()
    graph = walk(y.sum(), saved=True)
    assert len(labels(graph)) == 8501 and is_sound(graph) and sys.getrecursionlimit() == limit


def test_in_place_operations_and_views_make_no_cycle() -> None:
    x = torch.ones(3, 4, requires_grad=True)
    y = x.clone()
    y.mul_(2)
    y[0].add_(1)
    view = y.view(4, 3)
    view[1] = 0.0
    graph = walk(y.sum() + view.t().sum())
    assert is_sound(graph) and "copy_slices" in labels(graph) and labels(graph)[:2] == ["clone", "mul"]


def test_a_loop_over_one_cell_is_one_stretch_of_its_module() -> None:
    cell, head = nn.RNNCell(2, 3), nn.Linear(3, 1)
    hidden = torch.zeros(1, 3)
    for x in torch.randn(5, 1, 2):
        hidden = cell(x, hidden)
    graph = walk(head(hidden).sum(), names=dict(cell=cell, head=head))
    inside = [node.module for node in graph.nodes if node.kind == "operation" and node.label in ("addmm", "tanh")]
    assert inside.count("cell") >= 14 and sum(node.name == "cell.weight_ih" for node in graph.nodes) == 1


def test_a_module_that_is_called_twice_has_each_parameter_once() -> None:
    shared = nn.Linear(2, 2)
    graph = walk(shared(torch.relu(shared(torch.randn(1, 2)))).sum(), names={"shared": shared})
    assert len(labels(graph, "parameter")) == 2 and labels(graph).count("addmm") == 2


def test_a_model_without_parameters_and_tensors_on_the_meta_device_work() -> None:
    x = torch.ones(2, requires_grad=True)
    assert labels(walk(nn.ReLU()(x).sum(), nn.ReLU())) == ["relu", "sum"]
    with torch.device("meta"):
        model = nn.Linear(3, 2)
        loss = model(torch.randn(5, 3)).sum()
    graph = walk(loss, model, saved=True)
    assert named(graph, "weight").shape == (2, 3) and graph.nodes[-1].value is None
    assert any(node.label == "saved mat1" and node.shape == (5, 3) for node in graph.nodes)


class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x)
        return x * 2

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        return grad * 2


def test_a_custom_function_has_the_name_of_its_class() -> None:
    x = torch.ones(2, requires_grad=True)
    graph = walk(Doubled.apply(x).sum(), saved=True, names={"x": x})
    node = named(graph, "Doubled")
    assert (node.function, node.grad_fn, node.shape) == ("Doubled", "DoubledBackward", (2,)) and into(graph, "Doubled") == {"x"}


def test_compiled_code_is_one_operation() -> None:
    layer = nn.Linear(2, 2)
    compiled = torch.compile(lambda x: layer(x).relu().sum(), backend="aot_eager")
    graph = walk(compiled(torch.randn(3, 2)), layer)
    assert "compiled" in labels(graph) and named(graph, "compiled").grad_fn == "CompiledFunctionBackward"
    assert {"weight", "bias"} <= into(graph, "compiled")


def test_checkpointed_code_is_not_run_again_for_what_it_saved() -> None:
    layer, calls = nn.Linear(4, 4), []

    def run(x: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        return layer(x).relu()

    loss = checkpoint(run, torch.randn(2, 4), use_reentrant=False).sum()
    graph = walk(loss, layer, saved=True)
    assert len(calls) == 1 and any("kept by a hook" in note for note in graph.notes)
    assert named(graph, "saved result").shape is None
    loss.backward()
    assert len(calls) == 2 and layer.weight.grad is not None


def test_saved_tensors_are_inputs_of_what_saved_them() -> None:
    layer, batch = nn.Linear(10, 5), torch.randn(32, 10)
    hidden = torch.relu(layer(batch))
    loss = hidden.sum()
    graph = walk(loss, layer, saved=True, names={"batch": batch})
    saved = named(graph, "saved mat1")
    assert (saved.kind, saved.name, saved.shape, saved.state) == ("input", "batch", (32, 10), "data")
    assert any(edge.kind == "data" and graph.nodes[edge.source] is saved for edge in graph.edges) and is_sound(graph)
    # mat1 (32 x 10), which is batch, and result (32 x 5) of relu, in float32; the weight is a parameter already
    assert any("1.92 kB in all" in note for note in graph.notes)
    assert "saved mat1" not in {node.label for node in walk(loss, layer).nodes}


def test_saved_tensors_that_are_freed_or_changed_are_told_and_raise_nothing() -> None:
    x = torch.ones(3, requires_grad=True)
    loss = x.exp().sigmoid().sum()
    loss.backward()
    assert any("had been freed" in note for note in walk(loss, saved=True).notes)
    changed = x.exp()
    loss = changed.sum()
    changed.mul_(2)
    assert any("ExpBackward0" in note and "changed in place" in note for note in walk([loss, changed], saved=True).notes)


@pytest.mark.filterwarnings("ignore:Using backward")
def test_double_backward_walks_the_graph_of_the_gradients() -> None:
    layer = nn.Linear(2, 1)
    loss = torch.sigmoid(layer(torch.randn(3, 2))).sum()
    first = walk(loss, layer, double_backward=True)
    assert any("create_graph=True" in note for note in first.notes)
    loss.backward(create_graph=True)
    plain, graph = walk(loss, layer), walk(loss, layer, double_backward=True)
    assert any("double_backward=True" in note for note in plain.notes)
    assert "sigmoid_backward" in labels(graph) and "sigmoid_backward" not in labels(plain)
    assert {"weight.grad", "bias.grad"} <= set(labels(graph)) and is_sound(graph)
    assert layer.weight.grad is not None
    assert "sigmoid_backward" in labels(walk(layer.weight.grad, layer))
    for parameter in layer.parameters():
        parameter.grad = None  # create_graph makes a reference cycle


def test_a_gradient_penalty_is_walked_through_the_gradient() -> None:
    layer, x = nn.Linear(2, 1), torch.randn(3, 2, requires_grad=True)
    (grad,) = torch.autograd.grad(torch.tanh(layer(x)).sum(), x, create_graph=True)
    assert "tanh_backward" in labels(walk(grad.norm(), layer, names={"x": x}))


def test_nothing_changes_and_no_hook_is_left() -> None:
    model = Model()
    loss = F.cross_entropy(model(TOKENS), TOKENS)
    loss.backward(retain_graph=True)
    grads = {name: p.grad for name, p in model.named_parameters()}
    copies = {name: grad.clone() for name, grad in grads.items() if grad is not None}
    random = torch.get_rng_state()
    versions = {name: p._version for name, p in model.named_parameters()}
    walk(loss, model, saved=True, double_backward=True)
    assert torch.equal(torch.get_rng_state(), random)
    for name, p in model.named_parameters():
        assert p.grad is grads[name] and torch.equal(p.grad, copies[name]) and p._version == versions[name]
        assert not p._backward_hooks and not p._post_accumulate_grad_hooks
    loss.backward()
    assert all(torch.allclose(p.grad, 2 * copies[name]) for name, p in model.named_parameters() if p.grad is not None)


def test_no_tensor_is_kept_alive() -> None:
    import weakref

    x = torch.ones(2, requires_grad=True)
    loss = x.exp().sum()
    reference = weakref.ref(loss)
    graph = walk(loss, saved=True)
    del loss
    assert reference() is None and graph.nodes


@pytest.mark.parametrize("wrong", [3, "loss", None, [], [torch.ones(2), 3], {"a": "b"}, nn.Linear(1, 1)])
def test_what_is_no_tensor_is_refused_with_what_was_given(wrong: Any) -> None:
    with pytest.raises(UsageError, match="a tensor, or a list or dict of tensors is expected"):
        walk(wrong)


def test_a_model_that_is_none_is_refused() -> None:
    with pytest.raises(UsageError, match="model is of type Tensor; an nn.Module is expected"):
        walk(torch.ones(2, requires_grad=True), torch.ones(2))  # type: ignore[arg-type]
