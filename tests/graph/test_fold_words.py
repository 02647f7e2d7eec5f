"""What stands on folded boxes: short lists, whole names, and the state of the parameters inside."""

from __future__ import annotations

from sketch import Sketch, box

from gradnb.graph.draw.size import LABEL_LIMIT, lines
from gradnb.graph.fold.tree import fold


def test_a_long_list_of_parameters_is_told_as_a_number() -> None:
    s = Sketch(net="Net", net__rnn="LSTM", net__fc="Linear")
    x = s.op("lstm", s.input("x"), *(s.parameter("net.rnn", f"weight_ih_l{i}", (128, 64)) for i in range(4)), module="net.rnn")
    s.loss(s.layer("net.fc", x))
    tree = fold(s.graph)
    assert box(tree, "rnn").detail == "LSTM · 4 parameters"
    assert box(tree, "fc").detail == "Linear · weight 8×8"


def test_a_long_class_name_of_equal_blocks_stands_in_the_second_line() -> None:
    s = Sketch(net="Net", net__blocks="ModuleList", **{f"net__blocks__{i}": "TransformerEncoderLayer" for i in range(9)})
    x = s.input("x")
    for i in range(9):
        for label in ("layer_norm", "matmul", "softmax", "linear", "gelu_", "linear"):
            x = s.op(label, x, s.parameter(f"net.blocks.{i}"), module=f"net.blocks.{i}")
    s.loss(x)
    tree = fold(s.graph)
    found = box(tree, "blocks.0 … blocks.8 × 9")
    assert found.detail.startswith("TransformerEncoderLayer · + 54 operations")
    assert len(found.label) <= LABEL_LIMIT


def test_names_in_a_chain_are_as_many_as_have_room_and_the_variable_stays() -> None:
    s = Sketch()
    x = s.input("x")
    for i in range(50):
        x = s.op(["matmul", "conv2d", "einsum"][i % 3], x, line=i + 1)
    for i, label in enumerate(("masked_fill", "leaky_relu", "hardsigmoid", "log1p")):
        x = s.op(label, x, line=60 + i)
    total = s.op("sum", x, line=70, name="total")
    s.loss(s.op("mul", s.op("add", total, line=71), line=72))
    tree = fold(s.graph, budget=20)
    chains = {b.label: b for b in tree.boxes if b.kind == "chain"}
    assert chains["masked_fill, leaky_relu, …"].detail == "total · + 5 operations"
    assert "add, mul" in chains  # what has a name ends its chain


def test_a_fold_tells_how_its_parameters_do_not_what_passes_through_it() -> None:
    s = Sketch(net="Net", net__frozen="Part", net__well="Part", net__bad="Part")
    x = s.input("x")
    for part, weights, through in (("frozen", "frozen", "starved"), ("bad", "starved", "lost"), ("well", "flows", "flows")):
        for i in range(5):
            s.graph.classes[f"net.{part}.l{i}"] = "Linear"
            weight = s.parameter(f"net.{part}.l{i}", state=weights)
            x = s.op(f"kind{i}", x, weight, module=f"net.{part}.l{i}", state="lost" if part == "well" and i == 0 else through)
    s.loss(x)
    tree = fold(s.graph, depth=1)
    told = {part: lines(s.graph, box(tree, part))[1] for part in ("frozen", "bad", "well")}
    assert told["frozen"].endswith("frozen") and "no gradient" not in told["frozen"]
    assert told["bad"].endswith("no gradient")
    assert told["well"].endswith("operations") and box(tree, "well").state == "lost" and box(tree, "well").learns == "flows"
