"""What is open at first, and what depth=, focus= and only= show: nothing is left out without its number."""

from __future__ import annotations

import pytest
from sketch import Sketch, box, check_tree, labels, shown
from test_fold import tower

from gradnb.errors import UsageError
from gradnb.graph.draw.place import place
from gradnb.graph.fold.tree import fold


def test_the_way_to_the_mark_is_open_and_layers_beside_it_stay_closed() -> None:
    s = tower(3, marked=1)
    tree = fold(s.graph, budget=1)
    assert shown(tree)[-1] == "loss" and "detach" in shown(tree)
    assert box(tree, "h.1").open and not box(tree, "h.0").open and not box(tree, "h.2").open
    assert not any(tree.boxes[child].open for child in box(tree, "h.1").children)


def test_a_mark_inside_a_layer_opens_the_layer() -> None:
    s = Sketch(net="Net", net__fc="Linear")
    x = s.layer("net.fc", s.input("x"))
    s.mark(x, "NaN", "line 3: nan")
    s.loss(x)
    assert shown(fold(s.graph)) == ["x", "net", "fc", "weight", "linear", "loss"]


def test_what_is_visible_stays_within_the_budget() -> None:
    s = Sketch(net="Net")
    x = s.input("x")
    for i in range(6):
        s.graph.classes[f"net.part{i}"] = "Part"
        for j in range(9):
            s.graph.classes[f"net.part{i}.l{j}"] = "Linear"
            x = s.layer(f"net.part{i}.l{j}", x, f"kind{i}{j}")
    s.loss(x)
    few, many = shown(fold(s.graph, budget=20)), shown(fold(s.graph, budget=200))
    assert len(few) <= 20 and "part3" in few and len(many) == 3 + 6 * 10


def test_modules_of_one_class_are_open_all_or_none() -> None:
    s = Sketch(net="Net")
    x = s.input("x")
    for i in range(5):
        name = f"net.{'down' if i < 3 else 'up'}{i}"
        s.graph.classes[name] = "Down" if i < 3 else "Up"
        for j in range(4):
            s.graph.classes[f"{name}.l{j}"] = "Linear"
            x = s.layer(f"{name}.l{j}", x, f"kind{i}{j}")
    s.loss(x)
    for budget in range(8, 40, 3):
        tree = fold(s.graph, budget=budget)
        downs = {box(tree, f"down{i}").open for i in range(3)}
        ups = {box(tree, f"up{i}").open for i in range(3, 5)}
        assert len(downs) == len(ups) == 1
    assert box(fold(s.graph, budget=20), "up4").open and not box(fold(s.graph, budget=20), "down1").open


@pytest.mark.parametrize("marked", [None, 2])
def test_boxes_are_closed_again_until_the_picture_is_not_too_tall(marked: int | None) -> None:
    s = Sketch(net="Net")
    x = s.input("x")
    for i in range(4):
        s.graph.classes[f"net.part{i}"] = f"Part{i}"
        for j in range(9):
            s.graph.classes[f"net.part{i}.l{j}"] = "Linear"
            x = s.layer(f"net.part{i}.l{j}", x, f"kind{i}{j}")
        if i == marked:
            x = s.op("detach", x, module=f"net.part{i}")
            s.mark(x, "lost", "line 3: .detach()")
    s.loss(x)
    tree = fold(s.graph, budget=40)
    assert place(s.graph, tree).h <= (1440 if marked else 1800)
    assert len(shown(tree)) >= 15
    assert marked is None or "detach" in shown(tree)


def test_a_picture_of_a_few_boxes_shows_the_calls_of_a_module() -> None:
    s = Sketch(net="Net", net__a="Linear", net__b="Linear")
    many = [s.layer("net.b", s.layer("net.a", s.input(name))) for name in ("anchor", "positive", "negative", "hard", "easy")]
    s.loss(s.op("stack", *many))
    folded, opened = shown(fold(s.graph, budget=8)), shown(fold(s.graph, budget=40))
    assert "net × 5 calls" in folded and "anchor" not in folded
    assert {"net (call 1)", "net (call 5)", "anchor", "easy"} <= set(opened)


def test_parts_without_a_gradient_open_before_those_where_it_flows() -> None:
    s = Sketch(net="Net", net__bad="Part", net__good="Part")
    x = s.input("x")
    for part, state in (("good", "flows"), ("bad", "starved")):
        for i in range(6):
            s.graph.classes[f"net.{part}.l{i}"] = "Linear"
            x = s.layer(f"net.{part}.l{i}", x, f"kind{i}", state=state)
    s.loss(x)
    tree = fold(s.graph, budget=12)
    assert box(tree, "bad").open and not box(tree, "good").open


def test_depth_opens_exactly_so_many_levels() -> None:
    s = tower(2, marked=1)
    assert shown(fold(s.graph, depth=0)) == ["x", "net", "cross_entropy", "loss"]
    assert shown(fold(s.graph, depth=1)) == ["x", "net", "h.0", "h.1", "head", "cross_entropy", "loss"]
    assert "ln" in shown(fold(s.graph, depth=2)) and "layer_norm" not in shown(fold(s.graph, depth=2))
    everything = fold(s.graph, depth=9)
    assert all(b.open for b in everything.boxes if b.children)


def test_depth_counts_rounds_and_repeats_so_that_the_functions_in_them_stay_closed() -> None:
    s = Sketch()
    x = s.input("x")
    for i in range(60):
        for j in range(3):
            x = s.op(f"op{j}", x, line=2, calls=(("helper", 10 + i),))
        x = s.op("add" if i % 2 else "mul", x)
    s.loss(x)
    one, two = fold(s.graph, depth=1), fold(s.graph, depth=2)
    assert any(b.kind == "function" for b in one.boxes) and any(b.kind in ("repeat", "lines") for b in one.boxes)
    for tree, depth in ((one, 1), (two, 2)):
        for box_ in tree.boxes[1:]:
            above, at = 0, box_.parent
            while at > 0:
                above, at = above + 1, tree.boxes[at].parent
            assert not box_.open or above < depth


@pytest.mark.parametrize("marked", [None, 7])
def test_of_many_places_that_one_name_means_as_many_are_open_as_can_be_taken_in(marked: int | None) -> None:
    s = Sketch(net="Net", net__h="ModuleList")
    x = s.input("x")
    for i in range(8):
        s.graph.classes[f"net.h.{i}"] = "Block"
        for j in range(12):
            s.graph.classes[f"net.h.{i}.l{j}"] = "Linear"
            x = s.layer(f"net.h.{i}.l{j}", x, f"kind{i}{j}", state="frozen" if i != marked else "flows")
        if i == marked:
            x = s.op("detach", x, module=f"net.h.{i}")
            s.mark(x, "lost", "line 3: .detach()")
    s.loss(x)
    tree = fold(s.graph, focus="h")
    opened = [b.label for b in tree.boxes if b.parent == 0 and b.open]
    assert place(s.graph, tree).h <= 1800 and len(labels(tree)) >= 9
    assert opened and ("h.7" in opened if marked else opened[0] == "h.0") and len(opened) < 8
    check_tree(s.graph, fold(s.graph, focus="h"))


@pytest.mark.parametrize("name", ["h.3", "net.h.3"])
def test_focus_shows_a_module_open_among_its_neighbours_and_counts_the_rest(name: str) -> None:
    s = tower(12)
    tree = fold(s.graph, focus=name)
    check_tree(s.graph, tree)
    assert labels(tree) == ["h.2", "h.3", "h.4"]
    assert [tree.boxes[c].open for c in tree.boxes[0].children] == [False, True, False]
    assert labels(tree, box(tree, "h.3")) == ["ln", "fc", "add"]
    assert tree.left_out == [f"29 operations, 19 parameters, 1 input and 1 loss away from {name} are not shown"]


def test_focus_says_which_marked_place_it_does_not_show() -> None:
    s = tower(12, marked=9)
    tree = fold(s.graph, focus="h.1")
    assert tree.left_out[1:] == ["not shown: detach (lost, line 12: .detach())"]


def test_focus_opens_the_way_to_the_mark_inside_and_leaves_neighbours_closed() -> None:
    s = Sketch(net="Net", net__a="Part", net__a__inner="Part", net__b="Part")
    x = s.input("x")
    for path in ("net.a", "net.a.inner", "net.b"):
        for label in ("matmul", "linear", "bmm"):
            x = s.op(label, x, s.parameter(path), module=path)
    cut = s.op("detach", x, module="net.a.inner")
    s.mark(cut)
    s.loss(s.op("cross_entropy", s.op("matmul", cut, module="net.a")))
    assert "detach" in shown(fold(s.graph, focus="a"))
    assert "detach" not in shown(fold(s.graph, focus="b"))


def test_focus_takes_a_variable_a_parameter_a_function_or_an_operation() -> None:
    s = Sketch(net="Linear")
    x = s.op("matmul", s.layer("net", s.input("x")), name="hidden", line=2)
    y = s.op("pow", x, line=3, calls=(("penalty", 20),))
    y = s.op("sum", y, line=3, calls=(("penalty", 21),))
    s.loss(s.op("add", x, y, line=4))
    assert labels(fold(s.graph, focus="hidden")) == ["net", "matmul", "penalty()", "add"]
    assert labels(fold(s.graph, focus="penalty")) == ["matmul", "penalty()", "add"]
    assert labels(fold(s.graph, focus="pow")) == ["matmul", "pow", "sum"]
    assert labels(fold(s.graph, focus="net.weight")) == ["weight", "linear"]


def test_focus_on_a_list_of_modules_shows_all_of_them() -> None:
    s = tower(3)
    tree = fold(s.graph, focus="h")
    assert labels(tree) == ["x", "h.0", "h.1", "h.2", "head"]


def test_focus_on_many_places_shows_the_first_ones_and_says_so() -> None:
    s = Sketch()
    x = s.input("x")
    for i in range(60):
        x = s.op("matmul", s.op("softmax", x, line=2 * i), line=2 * i + 1)
    s.loss(x)
    tree = fold(s.graph, focus="matmul")
    check_tree(s.graph, tree)
    assert "only the first 12 of 60 places that are called matmul are shown" in tree.left_out


def test_an_unknown_focus_names_what_is_near() -> None:
    s = tower(3)
    with pytest.raises(UsageError, match=r"focus='hed' given, and nothing in this graph is called so; near it are head"):
        fold(s.graph, focus="hed")
    with pytest.raises(UsageError, match="near it are h.2"):
        fold(s.graph, focus="h.22")
    with pytest.raises(UsageError, match=r"near it are (h.\d.ln, )?h.\d.fc"):
        fold(s.graph, focus="fcc")
    with pytest.raises(UsageError, match="its modules are h, head, net, h.0, h.1, …"):
        fold(s.graph, focus="zzz")
    with pytest.raises(UsageError, match="focus='' given"):
        fold(s.graph, focus="")


def test_only_lost_keeps_the_way_from_starved_parameters_over_the_cut_to_the_loss() -> None:
    s = Sketch(enc="Linear", head="Linear", aux="Linear")
    x = s.input("x")
    cut = s.op("detach", s.layer("enc", x, state="starved"))
    s.mark(cut)
    s.op("argmax", s.layer("aux", x))
    s.loss(s.op("cross_entropy", s.layer("head", cut), s.input("y")))
    tree = fold(s.graph, only="lost")
    check_tree(s.graph, tree)
    assert labels(tree) == ["enc", "detach", "head", "cross_entropy", "loss"]
    assert tree.left_out == ["2 operations, 2 parameters and 2 inputs that lose nothing are not shown"]


def test_only_lost_of_a_graph_that_loses_nothing_shows_the_whole_and_says_so() -> None:
    s = tower(2)
    tree = fold(s.graph, only="lost")
    assert shown(tree) == shown(fold(s.graph))
    assert tree.left_out == ["nothing is lost in this graph: all of it is shown"]


def test_another_only_is_refused() -> None:
    with pytest.raises(UsageError, match=r"only='zero' given; the one choice is only=\"lost\""):
        fold(tower(1).graph, only="zero")


def test_focus_within_only_lost_adds_up() -> None:
    s = tower(3, marked=1)
    tree = fold(s.graph, only="lost", focus="h.1")
    check_tree(s.graph, tree)
    assert "detach" in [b.label for b in tree.boxes] and len(tree.left_out) == 2


def test_focus_on_what_only_lost_leaves_out_says_so() -> None:
    s = Sketch(enc="Linear", aux="Linear")
    x = s.input("x")
    cut = s.op("detach", s.layer("enc", x, state="starved"))
    s.mark(cut)
    s.loss(s.op("add", cut, s.op("argmax", s.layer("aux", x))))
    s.op("argmin", s.layer("enc", x), name="logged")
    with pytest.raises(UsageError, match='focus=.logged. given, and it is on no way that loses its gradient: leave only="lost" out'):
        fold(s.graph, only="lost", focus="logged")
