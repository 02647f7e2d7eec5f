"""Folding: boxes by module, function and line; what each says; where parameters stand; equal things once."""

from __future__ import annotations

import math
import random

import pytest
from sketch import Sketch, box, check_tree, labels, shown

from gradnb.graph.fold.tree import fold
from gradnb.graph.model import Edge, Graph, Node


def tower(blocks: int, marked: int = -1) -> Sketch:
    """A model of equal blocks, each a norm and a layer with a residual; the gradient is lost in one of them."""
    s = Sketch(net="Net", net__h="ModuleList", net__head="Linear")
    x = s.input("x")
    for i in range(blocks):
        path = f"net.h.{i}"
        s.graph.classes |= {path: "Block", f"{path}.ln": "LayerNorm", f"{path}.fc": "Linear"}
        state = "starved" if i <= marked else "flows"
        h = s.layer(f"{path}.ln", x, "layer_norm", state=state)
        h = s.layer(f"{path}.fc", h, state=state)
        if i == marked:
            h = s.op("detach", h, module=path)
            s.mark(h)
        x = s.op("add", x, h, module=path, state=state)
    s.loss(s.op("cross_entropy", s.layer("net.head", x)))
    return s


def test_boxes_follow_the_modules_and_say_what_is_in_them() -> None:
    s = tower(2)
    tree = fold(s.graph)
    check_tree(s.graph, tree)
    assert labels(tree) == ["x", "net", "cross_entropy", "loss"]
    assert labels(tree, box(tree, "net")) == ["h.0", "h.1", "head"]
    head, block = box(tree, "head"), box(tree, "h.0")
    assert (head.kind, head.detail) == ("module", "Linear · weight 8×8")
    assert (block.detail, block.operations, block.parameters) == ("Block · + 3 operations", 3, 2)
    assert block.norm == pytest.approx(math.sqrt(2))
    assert block.state == "flows"


def test_equal_blocks_become_one_box_and_the_marked_one_stands_alone_between_them() -> None:
    healthy = tower(12)
    tree = fold(healthy.graph)
    check_tree(healthy.graph, tree)
    assert labels(tree, box(tree, "net")) == ["h.0 … h.11 · Block × 12", "head"]
    assert box(tree, "h.0 … h.11 · Block × 12").detail == "+ 36 operations"
    s = tower(12, marked=5)
    tree = fold(s.graph)
    check_tree(s.graph, tree)
    assert labels(tree, box(tree, "net")) == ["h.0 … h.4 · Block × 5", "h.5", "h.6 … h.11 · Block × 6", "head"]
    assert "detach" in shown(tree) and not box(tree, "h.6 … h.11 · Block × 6").open
    assert box(tree, "h.0 … h.4 · Block × 5").state == "starved"
    assert len(box(tree, "h.5").marks) == len(tree.boxes[0].marks) == 1


def test_blocks_of_other_widths_are_not_equal() -> None:
    s = Sketch(net="Sequential")
    x = s.input("x")
    for i in range(30):
        s.graph.classes[f"net.{i}"] = "Linear"
        x = s.op("linear", x, s.parameter(f"net.{i}", shape=(8 if i < 15 else 9, 8)), module=f"net.{i}")
    s.loss(x)
    tree = fold(s.graph)
    assert labels(tree, box(tree, "net")) == ["0 … 14 · Linear × 15", "15 … 29 · Linear × 15"]


def test_layers_that_alternate_fold_into_one_box() -> None:
    s = Sketch(net="Sequential")
    x = s.input("x")
    for i in range(0, 40, 2):
        s.graph.classes |= {f"net.{i}": "Linear", f"net.{i + 1}": "Tanh"}
        x = s.op("tanh", s.layer(f"net.{i}", x), module=f"net.{i + 1}")
    s.loss(x)
    tree = fold(s.graph)
    check_tree(s.graph, tree)
    assert labels(tree, box(tree, "net")) == ["0 … 39 · Linear, Tanh × 20"]


def test_elementwise_operations_in_a_row_become_one_box_in_a_large_graph_and_stay_single_in_a_small_one() -> None:
    def graph(layers: int) -> Graph:
        s = Sketch()
        x = s.input("x")
        for i in range(layers):
            x = s.op(["matmul", "conv2d", "einsum", "cumsum", "cat", "stack"][i % 6], x, line=i + 1)
        y = s.op("dropout", s.op("relu", x, line=90), line=91)
        s.loss(s.op("softmax", s.op("add", y, x, line=92), line=93))
        return s.graph

    assert labels(fold(graph(6)))[-5:] == ["relu", "dropout", "add", "softmax", "loss"]
    large = graph(50)
    tree = fold(large, budget=20)
    check_tree(large, tree)
    chain = box(tree, "relu, dropout, add")
    assert chain.kind == "chain" and chain.operations == 3


def test_a_value_that_several_use_ends_a_chain() -> None:
    s = Sketch()
    x = s.op("relu", s.input("x"))
    kept = s.op("tanh", x)
    s.loss(s.op("matmul", s.op("exp", kept), s.op("log", kept)))
    tree = fold(s.graph, budget=2)
    check_tree(s.graph, tree)
    assert labels(tree) == ["x", "relu, tanh", "exp", "log", "matmul", "loss"]


def test_a_region_without_gradients_is_one_box_with_its_line() -> None:
    s = Sketch(teacher="Teacher", teacher__fc="Linear")
    x = s.input("x")
    t = s.layer("teacher.fc", x, state="data", region="no_grad, line 7")
    t = s.op("softmax", t, region="no_grad, line 7", state="data")
    s.loss(s.op("kl_div", t, s.op("matmul", x)))
    tree = fold(s.graph)
    check_tree(s.graph, tree)
    region = box(tree, "no_grad, line 7")
    assert (region.kind, region.detail, labels(tree, region)) == ("region", "+ 2 operations", ["teacher", "softmax"])


def test_a_module_that_ran_without_gradients_says_so_itself() -> None:
    s = Sketch(teacher="Linear")
    s.loss(s.op("mul", s.layer("teacher", s.input("x"), state="data", region="no_grad, line 7"), s.input("y")))
    assert box(fold(s.graph), "teacher").detail == "Linear · no_grad, line 7"


def test_code_outside_modules_is_folded_by_function() -> None:
    s = Sketch()
    x = s.op("matmul", s.input("x"), line=1)
    a = s.op("sub", x, line=2, calls=(("compute_loss", 20),))
    b = s.op("pow", a, line=2, calls=(("compute_loss", 21), ("penalty", 30)))
    c = s.op("mean", b, line=2, calls=(("compute_loss", 21), ("penalty", 31)))
    s.loss(s.op("add", c, a, line=2, calls=(("compute_loss", 22),)))
    tree = fold(s.graph)
    check_tree(s.graph, tree)
    assert labels(tree) == ["x", "matmul", "compute_loss()", "loss"]
    assert labels(tree, box(tree, "compute_loss()")) == ["sub", "penalty()", "add"]
    assert box(tree, "compute_loss()").detail == "+ 4 operations"


def test_a_function_around_everything_makes_no_box() -> None:
    s = Sketch()
    x = s.input("x")
    for i in range(4):
        x = s.op("matmul", x, line=1, calls=(("train_step", i + 10),))
    s.loss(x)
    assert labels(fold(s.graph)) == ["x", "matmul", "matmul", "matmul", "matmul", "loss"]


def test_a_module_called_again_later_is_a_second_box_and_its_parameters_stand_beside() -> None:
    s = Sketch(enc="Encoder", enc__fc="Linear")
    weight = s.parameter("enc.fc")
    a = s.op("linear", s.input("a"), weight, module="enc.fc", line=1)
    b = s.op("linear", s.input("b"), weight, module="enc.fc", line=2)
    s.loss(s.op("cosine_similarity", a, b, line=3))
    tree = fold(s.graph)
    check_tree(s.graph, tree)
    assert (
        labels(tree) == ["fc.weight", "a", "enc (call 1)", "b", "enc (call 2)", "cosine_similarity", "loss"]
        or labels(tree)[0] == "enc.fc.weight"
    )
    assert tree.boxes[tree.of_node[weight]].parent == 0


def test_a_module_called_many_times_in_succession_is_one_box_of_calls() -> None:
    s = Sketch(cell="RNNCell")
    weight = s.parameter("cell")
    h = s.input("h")
    for _ in range(50):
        h = s.op("rnn_tanh_cell", h, weight, module="cell", line=3)
    s.loss(h)
    tree = fold(s.graph)
    check_tree(s.graph, tree)
    assert "cell × 50 calls" in labels(tree)
    assert tree.boxes[tree.of_node[weight]].label == "cell.weight"


def test_rounds_of_a_loop_are_told_by_number_around_the_marked_one() -> None:
    s = Sketch()
    x = s.input("x")
    for i in range(20):
        x = s.op("matmul", x, line=5)
        x = s.op("detach" if i == 7 else "softmax", x, line=6)
        if i == 7:
            s.mark(x)
        x = s.op("cumsum", x, line=7)
    s.loss(s.op("sum", x, line=9))
    tree = fold(s.graph)
    check_tree(s.graph, tree)
    assert labels(tree) == ["x", "rounds 1 … 7", "round 8", "rounds 9 … 20", "sum", "loss"]
    assert labels(tree, box(tree, "round 8")) == ["matmul", "detach", "cumsum"]


def test_tied_weights_stand_in_the_innermost_box_of_all_their_uses() -> None:
    s = Sketch(lm="LM", lm__embed="Embedding", lm__head="Linear")
    tied = s.parameter("lm.embed")
    x = s.op("embedding", s.input("x"), tied, module="lm.embed")
    x = s.op("softmax", x, module="lm")
    s.loss(s.op("linear", x, tied, module="lm.head"))
    tree = fold(s.graph)
    check_tree(s.graph, tree)
    assert labels(tree, box(tree, "lm")) == ["embed.weight", "embed", "softmax", "head"]


def test_parameters_that_nothing_uses_are_told_together_in_the_box_of_their_module() -> None:
    s = Sketch(net="Net", net__fc="Linear", net__old="Linear")
    s.loss(s.layer("net.fc", s.input("x")))
    for name in ("weight", "bias"):
        s.parameter("net.old", name, state="unused")
    s.parameter("gone", state="unused")
    tree = fold(s.graph)
    check_tree(s.graph, tree)
    unused = box(tree, "not used: 2 parameters")
    assert unused.kind == "parameters" and unused.state == "unused" and tree.boxes[unused.parent].label == "net"


def test_frozen_parameters_are_counted() -> None:
    s = Sketch(net="Linear")
    weight, bias = s.parameter("net", state="frozen"), s.parameter("net", "bias", (8,))
    s.loss(s.op("linear", s.input("x"), weight, bias, module="net"))
    net = box(fold(s.graph), "net")
    assert (net.parameters, net.frozen, net.state, net.detail) == (2, 1, "flows", "Linear · weight 8×8, bias 8")


def test_an_empty_graph_and_a_graph_of_one_node_fold() -> None:
    assert len(fold(Graph()).boxes) == 1
    s = Sketch()
    s.input("x")
    assert labels(fold(s.graph)) == ["x"]


def test_a_graph_whose_order_contradicts_its_edges_is_folded_by_its_edges() -> None:
    graph = Graph(
        [Node("operation", "b", order=1.0), Node("operation", "a", order=2.0), Node("loss", "loss", order=0.0)], [Edge(1, 0), Edge(0, 2)]
    )
    assert labels(fold(graph)) == ["a", "b", "loss"]


@pytest.mark.parametrize("seed", range(16))
def test_any_graph_folds_into_a_sound_tree(seed: int) -> None:
    chance = random.Random(seed)
    s = Sketch()
    paths = ["", "m", "m.a", "m.a.x", "m.b", "m.b.y", "m.c"]
    s.graph.classes = {p: "Net" for p in paths if p}
    known = [s.input("x")]
    parameters = [s.parameter(chance.choice(paths[1:]), f"w{i}") for i in range(chance.choice((0, 5, 60)))]
    module, calls, region, line = "", (), "", 1
    for _ in range(chance.choice((5, 60, 400))):
        if chance.random() < 0.2:
            module, line = chance.choice(paths), chance.randint(1, 9)
            calls = () if module else chance.choice(((), (("f", 3),), (("f", 4), ("g", 5))))
            region = chance.choice(("", "", "", "no_grad, line 4"))
        sources = {chance.choice(known[-6:]), chance.choice(known)}
        if parameters and chance.random() < 0.4:
            sources.add(chance.choice(parameters))
        label = chance.choice(("relu", "add", "mul", "matmul", "linear"))
        state = chance.choice(("flows", "flows", "flows", "data"))
        known.append(s.op(label, *sources, module=module, line=line, calls=calls, region=region, state=state))
    if chance.random() < 0.5:
        s.mark(chance.choice(known[1:]))
    s.loss(known[-1])
    for options in ({}, {"depth": 0}, {"depth": 2}, {"only": "lost"}, {"budget": 5}):
        check_tree(s.graph, fold(s.graph, **options))  # type: ignore[arg-type]
    for focus in ("m.a", "m.b.y", "relu"):
        if any(n.module.startswith(focus) or n.label == focus for n in s.graph.nodes):
            check_tree(s.graph, fold(s.graph, focus=focus))


SHARED = """\
class Decoder(nn.Module):
    def forward(self, h, i):
        h = self.first(h)
        h = h + self.embed(i)
        return self.last(h)

class Model(nn.Module):
    def forward(self, i):
        h = self.embed(i)
        return self.decoder(h, i)
"""


def test_a_module_that_anothers_forward_borrows_stands_in_that_call() -> None:
    """The embedding belongs to the model by its path and runs in the middle of the decoder."""
    classes = {"m": "Model", "m.embed": "Embedding", "m.decoder": "Decoder", "m.decoder.first": "Linear", "m.decoder.last": "Linear"}
    s = Sketch()
    s.graph.classes, s.graph.sources = classes, {"cell": SHARED}
    i = s.input("i")
    weight = s.parameter("m.embed")
    model, decoder = ("forward", 10), ("forward", 3)
    h = s.op("embedding", i, weight, module="m.embed", line=20, calls=(("forward", 9),))
    h = s.op("linear", h, module="m.decoder.first", line=20, calls=(model, decoder))
    e = s.op("embedding", i, weight, module="m.embed", line=20, calls=(model, ("forward", 4)))
    h = s.op("add", h, e, module="m.decoder", line=20, calls=(model, ("forward", 4)))
    s.loss(s.op("linear", h, module="m.decoder.last", line=20, calls=(model, ("forward", 5))))
    tree = fold(s.graph)
    check_tree(s.graph, tree)
    assert labels(tree, box(tree, "m")) == ["embed.weight", "embed", "decoder"]
    assert labels(tree, box(tree, "decoder")) == ["first", "embed", "add", "last"]


BLOCKS = """\
class Block(nn.Module):
    def forward(self, x):
        q = self.q(x)
        q = self.rope(q)
        return self.out(q)

class Model(nn.Module):
    def forward(self, x):
        for block in self.h:
            x = block(x)
        return x
"""


def test_what_two_blocks_share_stands_in_both_though_it_has_the_path_of_the_first() -> None:
    s = Sketch()
    s.graph.classes = {"m": "Model", "m.h": "ModuleList"}
    s.graph.sources = {"cell": BLOCKS}
    x = s.input("x")
    for i in range(3):
        s.graph.classes |= {f"m.h.{i}": "Block", f"m.h.{i}.q": "Linear", f"m.h.{i}.rope": "RoPE", f"m.h.{i}.out": "Linear"}
        for line, path in ((3, f"m.h.{i}.q"), (4, "m.h.0.rope"), (5, f"m.h.{i}.out")):
            x = s.op("cos" if "rope" in path else "linear", x, module=path, line=20, calls=(("forward", 10), ("forward", line)))
    s.loss(x)
    tree = fold(s.graph)
    check_tree(s.graph, tree)
    assert labels(tree, box(tree, "m")) == ["h.0", "h.1", "h.2"]
    assert all(labels(tree, box(tree, f"h.{i}")) == ["q", "rope", "out"] for i in range(3))


def test_the_same_fault_in_many_rounds_is_folded_around_the_place_that_the_finding_names() -> None:
    s = Sketch()
    x = s.input("x")
    for i in range(20):
        x = s.op("item", s.op("matmul", x, line=5), line=6)
        s.mark(x)
        s.graph.nodes[x].mark.root = i == 0  # type: ignore[union-attr]
        x = s.op("tensor", x, line=7)
    s.loss(x)
    tree = fold(s.graph)
    check_tree(s.graph, tree)
    assert labels(tree) == ["round 1", "rounds 2 … 20", "loss"]
    rest = box(tree, "rounds 2 … 20")
    assert len(rest.marks) == 19 and not rest.open and box(tree, "round 1").open
