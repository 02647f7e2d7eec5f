"""``%%gradcheck --numeric``: the backward of each custom Function of the cell against finite differences."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest
import torch
from in_process import Ran, Shell

import gradnb

SCALE = """\
class Scale(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight):
        ctx.save_for_backward(x, weight)
        return x * weight ** 2

    @staticmethod
    def backward(ctx, grad):
        x, weight = ctx.saved_tensors
        print("backward runs")
        return grad * weight ** 2, (GRADIENT).sum(0)
"""
HALF, RIGHT = SCALE.replace("GRADIENT", "grad * x * weight"), SCALE.replace("GRADIENT", "2 * grad * x * weight")
IMPORTS = "import torch\nfrom torch import nn\ntorch.manual_seed(0)\n"
TRAIN = """\
first, last, weight = nn.Linear(5, 3), nn.Linear(3, 1), nn.Parameter(torch.ones(3))
optimizer = torch.optim.SGD([*first.parameters(), *last.parameters(), weight], lr=0.1)
x, y = torch.randn(8, 5), torch.randn(8, 1)
for _ in range(2):
    optimizer.zero_grad()
    loss = nn.functional.mse_loss(last(APPLY), y)
    loss.backward()
    optimizer.step()
"""
USE = TRAIN.replace("APPLY", "Scale.apply(first(x), weight)")


def function(forward: str, backward: str, arguments: str = "x") -> str:
    return (
        f"class Own(torch.autograd.Function):\n    @staticmethod\n    def forward(ctx, {arguments}):\n        return {forward}\n"
        f"    @staticmethod\n    def backward(ctx, grad):\n        return {backward}\n"
    )


def checked(shell: Shell, cell: str) -> tuple[Ran, list]:
    ran = shell.run("%%gradcheck --numeric\n" + cell)
    report = gradnb.last_report()
    assert ran.error is None and ran.err == "" and report is not None
    return ran, [f for f in report.findings if f.cause == "custom-function"]


def notes() -> str:
    report = gradnb.last_report()
    return "\n".join(report.notes) if report else ""


def test_a_wrong_backward_is_an_error_on_the_returned_value(shell: Shell) -> None:
    cell = IMPORTS + HALF + USE
    ran, [found] = checked(shell, cell)
    line = 2 + cell.splitlines().index("        return grad * weight ** 2, (grad * x * weight).sum(0)")
    assert found.severity == "error" and found.title == "`Scale.backward`: the gradient for argument 2 (`weight`) is 2.00x too small"
    assert found.location.line == line and found.location.function == "backward"
    assert "         return grad * weight ** 2, (grad * x * weight).sum(0)" in ran.out
    assert "                                    ^^^^^^^^^^^^^^^^^^^^^^^^^^\n" in ran.out
    assert "finite differences" in found.explanation and "numeric_check(Scale, inputs)" in found.fix


def test_without_the_option_nothing_is_said(shell: Shell) -> None:
    shell.run("%%gradcheck\n" + IMPORTS + HALF + USE)
    assert gradnb.last_report().verdict == "ok" and "numeric" not in notes()


def test_a_right_backward_gets_a_note_and_no_finding(shell: Shell) -> None:
    _, found = checked(shell, IMPORTS + RIGHT + USE)
    assert found == [] and gradnb.last_report().verdict == "ok"
    assert "numeric: the backward of `Scale` agrees with finite differences" in notes()


def test_the_cell_runs_as_without_it(shell: Shell) -> None:
    cell = IMPORTS + HALF + USE + "after = torch.rand(2)\nloss.item()"
    bare = shell.run(cell)
    numbers = [shell.names[name].detach().clone() for name in ("weight", "after")]
    ran = shell.run("%%gradcheck --numeric --quiet\n" + cell)
    assert ran.value == bare.value and all(torch.equal(a, shell.names[n]) for a, n in zip(numbers, ("weight", "after")))
    assert ran.out.splitlines().count("backward runs") == bare.out.splitlines().count("backward runs") == 2
    drawn = torch.rand(3)
    shell.run(cell)
    assert torch.equal(drawn, torch.rand(3))


@pytest.mark.parametrize(
    ("forward", "backward", "severity"),
    [
        ("x.round()", "grad", "info"),
        ("(x > 0).to(x)", "grad / (1 + 10 * grad.abs())", "info"),
        ("x.view_as(x)", "-grad", "info"),
        ("x.view_as(x)", "0.1 * grad", "info"),
        ("2 * x", "(2 * grad).clamp(-1e-3, 1e-3)", "info"),
        ("x.clamp(-0.2, 0.2)", "grad", "warning"),
        ("3 * x", "-3 * grad", "warning"),
        ("3 * x", "grad", "error"),
    ],
)
def test_what_may_be_meant_is_no_error(shell: Shell, forward: str, backward: str, severity: str) -> None:
    _, [found] = checked(shell, IMPORTS + function(forward, backward) + TRAIN.replace("APPLY", "Own.apply(first(x)) * weight"))
    assert found.severity == severity
    if severity != "error":
        assert "differs from the numeric gradient" in found.title and found.fix.startswith("Fine if it is meant")


def test_a_gradient_left_out_where_nothing_starves_is_a_warning(shell: Shell) -> None:
    cell = IMPORTS + HALF.replace("(grad * x * weight).sum(0)", "None") + TRAIN.replace("APPLY", "Scale.apply(first(x), weight) + weight")
    _, [found] = checked(shell, cell)
    assert found.severity == "warning" and "gives no gradient for argument 2 (`weight`)" in found.title


def test_a_backward_that_is_not_written_and_not_used_is_a_remark(shell: Shell) -> None:
    use = TRAIN.replace("APPLY", "first(x) * weight").replace("    loss.backward", "    Own.apply(first(x))\n    loss.backward")
    _, [found] = checked(shell, IMPORTS + function("3 * x", "grad.not_written()") + use)
    assert found.severity == "info" and "raises AttributeError" in found.title


def test_a_quantizer_with_a_learned_step_is_one_remark(shell: Shell) -> None:
    body = function("(x / step).round() * step", "grad, grad.sum() * 0.1", "x, step")
    use = TRAIN.replace("APPLY", "Own.apply(first(x), step) * weight").replace(
        "\noptimizer", "\nstep = nn.Parameter(torch.tensor(0.3))\noptimizer", 1
    )
    _, [found] = checked(shell, IMPORTS + body + use)
    assert found.severity == "info" and "argument 1" in found.title


def test_a_gradient_that_a_diagnosis_already_misses_is_not_told_twice(shell: Shell) -> None:
    cell = IMPORTS + HALF.replace("(grad * x * weight).sum(0)", "None") + USE
    _, [found] = checked(shell, cell)
    assert found.affected == ["weight"] and "Finite differences agree" in found.explanation


def test_a_function_of_an_earlier_cell_is_placed_there(shell: Shell) -> None:
    shell.run(IMPORTS + HALF)
    number = shell.ip.execution_count - 1
    _, [found] = checked(shell, USE)
    assert (found.location.cell, found.location.line) == (number, 14)


def test_a_function_of_the_users_own_module_is_placed_in_its_file(shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_layers.py").write_text("import torch\n" + HALF)
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    try:
        _, [found] = checked(shell, IMPORTS + "from own_layers import Scale\n" + USE)
    finally:
        sys.modules.pop("own_layers", None)
    assert found.location.file == str(tmp_path / "own_layers.py") and found.location.line == 12


def test_functions_of_libraries_are_left_alone(shell: Shell) -> None:
    use = TRAIN.replace("APPLY", "checkpoint(first, x.requires_grad_(), use_reentrant=True) * weight")
    _, found = checked(shell, IMPORTS + "from torch.utils.checkpoint import checkpoint\n" + use)
    assert found == [] and "called no custom autograd.Function of its own" in notes()


@pytest.mark.parametrize(
    ("body", "use", "said"),
    [
        (function("module(x).detach()", "grad, None", "x, module"), "Own.apply(first(x), nn.Identity()) * weight", "is of type Identity"),
        (
            function("x + 0 * big.sum()", "grad, None", "x, big"),
            "Own.apply(first(x), torch.ones(1001, 1000)) * weight",
            "1,001,024 numbers",
        ),
        (function("x @ EYE", "grad @ EYE"), "Own.apply(first(x)) * weight", "it does not work in float64"),
        (function("x * next(NOISE)", "grad"), "Own.apply(first(x)) * weight", "different outputs"),
    ],
)
def test_what_cannot_be_compared_is_a_note_with_the_reason(shell: Shell, body: str, use: str, said: str) -> None:
    made = "EYE = torch.eye(3)\nimport itertools\nNOISE = itertools.count(1)\n"
    _, found = checked(shell, IMPORTS + made + body + TRAIN.replace("APPLY", use))
    assert found == [] and "numeric: `Own` was not checked: " in notes() and said in notes()


def test_no_tensor_of_the_cell_is_kept_alive(shell: Shell) -> None:
    watch = "import weakref, gc\nseen = []\n"
    body = HALF.replace("        ctx.save", "        seen.append(weakref.ref(x))\n        ctx.save")
    alive = "\n    del loss\n    gc.collect()\n    alive = [ref() for ref in seen if ref() is not None]\n"
    checked(shell, IMPORTS + watch + body + USE.rstrip() + alive)
    assert shell.names["alive"] == []


def test_a_cell_that_raises_keeps_its_error_and_its_findings(shell: Shell) -> None:
    ran = shell.run("%%gradcheck --numeric\n" + IMPORTS + HALF + USE + "1 / 0")
    assert isinstance(ran.error, ZeroDivisionError) and "2.00x too small" in ran.out


def test_the_context_manager_has_it_too() -> None:
    class Own(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return 3 * x

        @staticmethod
        def backward(ctx, grad):
            return grad

    weight = torch.nn.Parameter(torch.ones(3))
    with gradnb.check(numeric=True) as report:
        Own.apply(weight).sum().backward()
    [found] = [f for f in report.findings if f.cause == "custom-function"]
    assert found.severity == "error" and found.location.file == __file__ and found.location.code == "return grad"


def test_a_function_is_compared_for_each_set_of_arguments_that_require_grad(shell: Shell) -> None:
    calls = "(Scale.apply(first(x), weight.detach()) + Scale.apply(first(x).detach(), weight))"
    _, [found] = checked(shell, IMPORTS + HALF + TRAIN.replace("APPLY", calls))
    assert found.severity == "error" and "argument 2 (`weight`) is 2.00x too small" in found.title
