"""``%gradgraph`` in a real shell."""

from __future__ import annotations

import weakref

import pytest
from in_process import Shell

import gradnb
from gradnb.graph.picture import Picture

MODEL = """\
import torch
from torch import nn
model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
batch = torch.randn(5, 3)
"""
BROKEN = """\
%%gradcheck --quiet
for _ in range(2):
    loss = model[2](model[1](model[0](batch)).detach()).pow(2).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""


def test_without_an_expression_it_draws_the_last_report(shell: Shell) -> None:
    shell.run(MODEL)
    shell.run(BROKEN)
    ran = shell.run("%gradgraph")
    report = gradnb.last_report()
    assert report is not None and ran.value is report.graph and (ran.error, ran.err) == (None, "")
    assert "lost" in ran.out and ".detach()" in ran.out


def test_the_picture_is_shown_as_text_and_html_and_is_no_widget(shell: Shell) -> None:
    shell.run(MODEL)
    picture = shell.run("%gradgraph model(batch).sum()").value
    data, _ = shell.ip.display_formatter.format(picture)
    assert set(data) == {"text/plain", "text/html"} and "<svg" in data["text/html"]


def test_a_tensor_has_the_names_of_the_namespace(shell: Shell) -> None:
    shell.run(MODEL + "loss = model(batch).sum()")
    picture = shell.run("%gradgraph loss --saved").value
    assert {"0.weight", "2.bias", "loss", "batch"} <= {node.name for node in picture.graph.nodes}


def test_the_picture_can_be_kept_in_a_variable(shell: Shell) -> None:
    shell.run(MODEL)
    ran = shell.run("picture = %gradgraph model(batch).sum()")
    assert ran.out == "" and isinstance(shell.names["picture"], Picture)


@pytest.mark.parametrize("line", ["model(batch).sum();", "model(batch).sum() ;", "model(batch).sum() --depth 1;  # quiet"])
def test_a_semicolon_shows_nothing(shell: Shell, line: str) -> None:
    shell.run(MODEL)
    ran = shell.run(f"%gradgraph {line}")
    assert (ran.value, ran.out, ran.err) == (None, "", "")


def test_a_comment_behind_it_is_a_comment(shell: Shell) -> None:
    shell.run(MODEL + "losses = {'a # b': model(batch).sum()}")
    assert shell.run("%gradgraph losses['a # b']  # a 'comment'").value.graph.title == "losses['a # b']"


def test_the_expression_is_read_as_it_is_written(shell: Shell) -> None:
    shell.run(MODEL + "losses = {'of a': model(batch).sum(), 'b': model(batch).mean()}")
    assert shell.run("%gradgraph losses['of a']").value.graph.title == "losses['of a']"
    assert shell.run("%gradgraph {'total': losses['b']}").value.graph.title == "total"
    for line in (
        "--depth 1 losses['b'] + losses['of a']",
        "losses['b'] + losses['of a'] --depth 1",
        "losses['b'] --depth 1 + losses['of a']",
    ):
        picture = shell.run(f"%gradgraph {line}").value
        assert picture.depth == 1 and picture.graph.title == "loss"


def test_the_options_choose_what_is_shown(shell: Shell) -> None:
    shell.run(MODEL)
    shell.run(BROKEN)
    assert shell.run("%gradgraph --step 2").value.step == 2
    assert shell.run("%gradgraph --only lost").value.only == "lost"
    assert shell.run("%gradgraph --focus '0'").value.focus == "0"
    assert shell.run("%gradgraph model --inputs batch").value.graph.title == "one forward pass"


@pytest.mark.filterwarnings("ignore:Using backward")
def test_double_backward_draws_the_gradients_graph(shell: Shell) -> None:
    shell.run(MODEL + "loss = model(batch).sigmoid().sum()\nloss.backward(create_graph=True)")
    labels = {node.label for node in shell.run("%gradgraph loss --double-backward").value.graph.nodes}
    assert "sigmoid_backward" in labels and "weight.grad" in labels
    shell.run("model.zero_grad()")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--nope", "unrecognized arguments: --nope. %gradgraph? lists the options."),
        ("--depth deep", "invalid int value: 'deep'"),
        ("'loss", "No closing quotation"),
        ("nowhere", "nowhere: NameError: name 'nowhere' is not defined"),
        ("model(", "model(: SyntaxError"),
        ("model(batch[0, :2])", "RuntimeError: "),
        ("nothing", "nothing is None; a tensor, a list of tensors, a model or a report is expected"),
        ("3", "an object of type int was given"),
        ("model --inputs batch.T", "model fails on these inputs: RuntimeError"),
        ("model --inputs nowhere", "--inputs nowhere: NameError"),
        ("batch --inputs batch", "inputs= goes with a model"),
        ("model --saved", "saved=True reads the graph behind a living tensor"),
        ("batch --focus nowhere", "focus='nowhere' given"),
        ("batch --only found", "only="),
        ("batch --step 7", "step=7 given"),
    ],
)
def test_a_wrong_line_gets_one_line_that_says_what_to_do(shell: Shell, line: str, said: str) -> None:
    shell.run(MODEL + "nothing = None")
    ran = shell.run(f"%gradgraph {line}")
    assert ran.error is not None and said in ran.err and ran.err.count("\n") == 1 and "Traceback" not in ran.out + ran.err


def test_a_fault_inside_gradnb_is_one_line(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> None:
        raise KeyError("broken")

    shell.run(MODEL)
    monkeypatch.setattr("gradnb.graph.door.walk", fails)
    ran = shell.run("%gradgraph batch")
    assert ran.error is None and ran.err.startswith("gradnb: internal problem (KeyError") and ran.err.count("\n") == 1


def test_help_lists_the_options(shell: Shell) -> None:
    text = shell.ip.find_line_magic("gradgraph").__doc__
    assert all(option in text for option in ("--depth", "--focus", "--only", "--step", "--inputs", "--saved", "--double-backward"))
    assert "picture = %gradgraph loss --saved" in text and shell.run("%gradgraph?").error is None


def test_it_keeps_nothing_of_the_users_alive(shell: Shell) -> None:
    shell.run(MODEL + "loss = model(batch).sum()")
    alive = weakref.ref(shell.names["loss"])
    shell.run("picture = %gradgraph loss")
    shell.run("del loss")
    assert alive() is None


def test_unloading_takes_it_away(shell: Shell) -> None:
    try:
        shell.run("%unload_ext gradnb")
        assert shell.ip.find_line_magic("gradgraph") is None
    finally:
        shell.run("%load_ext gradnb")
    assert shell.ip.find_line_magic("gradgraph") is not None
