"""What the first line of a report counts: the parameters that the cell trains, not whatever else the notebook holds."""

from __future__ import annotations

import pytest
from in_process import Shell

import gradnb
from gradnb.report import words
from gradnb.report.report import Report

MODEL = "import copy\nimport torch\nfrom torch import nn\nmodel = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 1))\n"
STEP = "optimizer = torch.optim.SGD(model.parameters(), lr=0.1)\nmodel(torch.randn(8, 4)).pow(2).mean().backward()\noptimizer.step()\n"


def checked(shell: Shell, cell: str) -> Report:
    assert shell.run(f"%%gradcheck\n{cell}").error is None
    report = gradnb.last_report()
    assert report is not None
    return report


def states(report: Report) -> dict[str, str]:
    return {row.name: words.state(row) for row in report.parameters}


def test_a_model_that_the_cell_leaves_alone_is_told_apart(shell: Shell) -> None:
    shell.run(MODEL + "other = nn.Linear(2, 2)\n")
    report = checked(shell, STEP)
    assert words.verdict(report) == "every parameter trained here gets a gradient (4 parameters, 1 step recorded)"
    assert states(report)["other.weight"] == "not trained here"
    assert "!" not in str(report)


def test_a_fault_is_counted_among_the_parameters_of_its_own_model(shell: Shell) -> None:
    shell.run(MODEL + "other = nn.Linear(2, 2)\n")
    report = checked(shell, STEP.replace("model(torch.randn(8, 4))", "model[1](model[0](torch.randn(8, 4)).detach())"))
    assert words.verdict(report) == "1 error: 2 of 4 parameters get no gradient"


def test_a_model_whose_data_reaches_the_loss_is_counted_although_no_optimizer_holds_it(shell: Shell) -> None:
    shell.run(MODEL + "encoder = nn.Linear(4, 4)\n")
    report = checked(shell, STEP.replace("torch.randn(8, 4)", "encoder(torch.randn(8, 4)).detach()"))
    assert "4 of 6 trainable parameters get a gradient" in words.verdict(report)


UPDATES = [
    ("torch.optim.swa_utils.AveragedModel(model)", "average.update_parameters(model)\n"),
    (
        "copy.deepcopy(model)",
        "with torch.no_grad():\n    for p, q in zip(average.parameters(), model.parameters()):\n        p.mul_(0.9).add_(0.1 * q)\n",
    ),
    ("copy.deepcopy(model)", "average.load_state_dict({k: 0.9 * v for k, v in model.state_dict().items()})\n"),
]


@pytest.mark.parametrize(("average", "update"), UPDATES)
@pytest.mark.parametrize("used", [False, True])
def test_a_moving_average_of_the_model_is_not_expected_to_get_a_gradient(shell: Shell, average: str, update: str, used: bool) -> None:
    shell.run(f"{MODEL}average = {average}\n")
    step = STEP.replace(".pow(2)", ".sub(average(torch.randn(8, 4)).detach()).pow(2)") if used else STEP
    report = checked(shell, step + update + step + update)
    assert words.verdict(report).startswith("every parameter trained here gets a gradient (4 parameters")
    assert {state for name, state in states(report).items() if name.startswith("average")} == {"written, no gradient"}


def test_a_target_inside_the_model_that_is_written_by_hand_is_not_counted(shell: Shell) -> None:
    shell.run(MODEL + "model = nn.ModuleDict({'online': model, 'target': copy.deepcopy(model)})\n")
    step = STEP.replace("model.parameters()", "model['online'].parameters()").replace("model(", "model['online'](")
    pairs = "zip(model['target'].parameters(), model['online'].parameters())"
    report = checked(shell, f"{step}with torch.no_grad():\n    for p, q in {pairs}:\n        p.lerp_(q, 0.1)\n")
    assert words.verdict(report).startswith("every parameter trained here gets a gradient (4 parameters")


REPLACED = [
    ("", "kept = [{'params': [model[0].weight]}, {'params': list(model[1].parameters())}]\nmodel = nn.Sequential(nn.Linear(4, 1))\n", 2),
    ("kept = [{'params': list(model.parameters())}]\n", "model = nn.Sequential(nn.Linear(4, 1))\nother = nn.Linear(2, 2)\n", 4),
    ("kept = [{'params': list(model.parameters())}]\ndel model\n", "model = nn.Sequential(nn.Linear(4, 1))\n", 2),
]


@pytest.mark.parametrize(("before", "replace", "number"), REPLACED)
def test_a_replaced_model_that_a_list_of_param_groups_still_holds_is_not_listed(
    shell: Shell, before: str, replace: str, number: int
) -> None:
    shell.run(MODEL + before)
    report = checked(shell, replace + STEP)
    assert len(report.parameters) == number
    assert not any(node.kind == "parameter" and node.state == "unused" for graph in report.graph.graphs for node in graph.nodes)


def test_a_loose_list_of_parameters_is_listed_whole_where_one_of_them_trains(shell: Shell) -> None:
    shell.run("import torch\nfrom torch import nn\nweights = [nn.Parameter(torch.randn(3)) for _ in range(2)]\n")
    report = checked(shell, "optimizer = torch.optim.SGD(weights[:1], lr=0.1)\nweights[0].sum().backward()\noptimizer.step()\n")
    assert states(report) == {"weights[0]": "ok", "weights[1]": "no gradient, unused"}
