"""What is said of a backward that is wrong, of one that is right, and of one that cannot be judged."""

from __future__ import annotations

import json
import random

import numpy
import pytest
import torch
from custom_functions import (
    Clamp,
    Clips,
    ComplexSquare,
    Cube,
    HalfWeight,
    IgnoresGradOutput,
    InPlace,
    LastColumn,
    MeanAsSum,
    NoGradForWeight,
    NotFinite,
    OnlyOnce,
    Reversal,
    Round,
    StepSize,
    Transposed,
    TwoOutputs,
    WithSetup,
    WrongShape,
    WrongSign,
)
from torch import nn

import gradnb
from gradnb.errors import UsageError

torch.manual_seed(1)  # for the inputs that are drawn while the tests are collected


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def only(result):
    assert not result and len(result.discrepancies) == 1, result
    return result.discrepancies[0]


def test_a_lost_factor_is_named_with_its_argument_its_size_and_an_entry_to_check_by_hand() -> None:
    x, weight = torch.randn(4, 3), torch.randn(3)
    found = only(gradnb.numeric_check(HalfWeight, (x, weight)))
    assert found.kind == "factor" and found.factor == pytest.approx(0.5, rel=1e-6)
    assert found.text == "the gradient for argument 2 (`weight`) is 2.00x too small"
    row, column = (int(i) for i in found.entry.partition("[")[2].partition("]")[0].split(","))
    assert found.entry == f"d out[{row}, {column}] / d weight[{column}]" and found.index == (column,)
    assert found.numeric == pytest.approx(float(2 * x[row, column] * weight[column]), rel=1e-5)
    assert found.analytic == pytest.approx(float(x[row, column] * weight[column]), rel=1e-5)
    assert found.relative == pytest.approx(0.5, rel=1e-4) and (found.wrong, found.checked) == (3, 3)


@pytest.mark.parametrize(
    ("function", "shapes", "kind", "said"),
    [
        (WrongSign, [(2, 3)], "sign", "argument 1 (`x`) has the wrong sign"),
        (Transposed, [(4, 3), (3, 3)], "transposed", "argument 2 (`weight`) has its elements in the wrong places"),
        (MeanAsSum, [(4, 3), (4, 3)], "factor", "argument 1 (`x`) is 12.00x too large"),
        (NoGradForWeight, [(4, 3), (3,)], "missing", "gives no gradient for argument 2 (`weight`)"),
        (TwoOutputs, [(2, 3)], "ignored-output", "the gradient of output 2 (`out[1]`) reaches no input"),
        (IgnoresGradOutput, [(2, 3)], "not-multiplied", "does not multiply by grad_output"),
        (NotFinite, [(2, 3)], "not-finite", "NaN or Inf where the function has a finite slope"),
        (LastColumn, [(4, 3)], "elements", "is wrong at 4 of 12 elements"),
        (Round, [(2, 3)], "surrogate", "not zero, although the output does not change"),
        (Clamp, [(4, 3)], "saturated", "elements where the output does not change"),
        (Clips, [(2, 3)], "not-linear", "not linear in the gradient that comes in"),
        (WithSetup, [(2, 3), ()], "factor", "argument 2 (`gain`) is 3.00x too large"),
        (WrongShape, [(2, 3)], "raises", "invalid gradient"),
    ],
)
def test_each_mistake_is_called_by_its_name(function, shapes, kind, said) -> None:
    inputs = [torch.randn(shape) + (0.0 if function is Clamp else 0.1) for shape in shapes]
    wrt = ["x"] if function is MeanAsSum else None
    result = gradnb.numeric_check(function, inputs, wrt=wrt)
    found = only(result)
    assert found.kind == kind and said in found.text
    assert result.judged in ("torch.autograd.gradcheck refuses it too", "") and said in " ".join(repr(result).split()).replace("- ", "-")


@pytest.mark.parametrize(
    ("function", "inputs", "hint"),
    [
        (MeanAsSum, [torch.arange(12.0).reshape(4, 3).requires_grad_(), torch.ones(4, 3)], "12 is the number of elements of x"),
        (LastColumn, [torch.arange(12.0).reshape(4, 3)], "only where index 1 is 2"),
        (LastColumn, [torch.tensor([[1.0, 2.0, 1e-9], [1.0, -2.0, 3.0]])], "only where index 1 is 2"),
        (Clamp, [torch.tensor([-1.0, 2.0, -3.0, 0.5])], "only where the input is negative"),
        (ComplexSquare, [torch.tensor([1 + 2j, 3 - 1j, -1j])], "conjugate of the derivative"),
    ],
)
def test_a_hint_says_what_the_numbers_have_in_common(function, inputs, hint) -> None:
    assert hint in only(gradnb.numeric_check(function, inputs)).hint


@pytest.mark.parametrize("function", [Round, Clamp, Reversal, Clips])
def test_a_backward_that_differs_on_purpose_is_allowed_for_in_words(function) -> None:
    inputs = (torch.randn(4, 3), 0.5) if function is Reversal else torch.randn(4, 3)
    result = gradnb.numeric_check(function, inputs)
    assert not result and "Fine if it is meant" in repr(result) and "gradnb-verdict gradnb-warning" in result._repr_html_()


@pytest.mark.parametrize(
    ("fn", "inputs"),
    [
        (Cube, torch.randn(3)),
        (Cube.apply, torch.randn(2, 3)),
        (InPlace, torch.randn(2, 3)),
        (torch.fft.fft, torch.randn(4, dtype=torch.complex64)),
        (lambda x: x.exp().sum(), torch.randn(40, 50)),
        (lambda x, y: (x @ y, x.sum(), "text", None), (torch.randn(2, 3), torch.randn(3, 2))),
        (lambda x: {"a": x.sin(), "b": [x.cos()]}, torch.randn(3)),
        (lambda x: nn.functional.dropout(x, 0.5) * torch.rand(3), torch.randn(3)),
        (lambda x: x * random.random() * numpy.random.rand(), torch.randn(3)),
        (lambda x: x.transpose(0, 1)[::2].contiguous().view(-1), torch.randn(4, 6)[:, ::2]),
        (lambda x: torch.autograd.grad((x**3).sum(), x, create_graph=True)[0], torch.randn(3)),
        (lambda x: x * torch.zeros(3).add_(2), torch.randn(3)),
        (lambda x: 1e-7 * x**2, torch.randn(3)),
        (lambda x: 1e9 + x**2, torch.randn(3)),
        (lambda x: x.sin(), torch.randn(9) * 1e6),
        (lambda x: torch.where(x > 0, x.log(), torch.full_like(x, float("-inf"))), torch.tensor([1.0, -1.0])),
        (nn.LSTM(3, 4), (torch.randn(5, 2, 3), (torch.zeros(1, 2, 4), torch.zeros(1, 2, 4)))),
        (nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.GELU(), nn.Dropout(0.5)), torch.randn(6, 3)),
        (nn.TransformerEncoderLayer(4, 1, 4, batch_first=True), torch.randn(1, 3, 4)),
    ],
)
def test_what_is_right_is_called_right(fn, inputs) -> None:
    result = gradnb.numeric_check(fn, inputs)
    assert result and result.status == "agrees", result
    assert result.gradients and all(row.state == "agrees" for row in result.gradients)


def test_parameters_of_a_module_are_checked_by_name() -> None:
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(3, 2)
            self.weight = nn.Parameter(torch.randn(2))
            self.frozen = nn.Parameter(torch.randn(2), requires_grad=False)

        def forward(self, x):
            return HalfWeight.apply(self.inner(x), self.weight) * self.frozen

        def energy(self, x):
            return self(x).sum()

    module = Scaled()
    found = only(gradnb.numeric_check(module, torch.randn(4, 3)))
    assert found.input == "weight" and found.argument == 0 and found.text == "the gradient for `weight` is 2.00x too small"
    assert {row.input for row in gradnb.numeric_check(module, torch.randn(4, 3)).gradients} == {"x", "inner.weight", "inner.bias", "weight"}
    assert only(gradnb.numeric_check(module.energy, torch.randn(4, 3))).input == "weight"


def test_one_wrong_number_among_thousands_is_found_and_named() -> None:
    class OneWrong(Cube):
        @staticmethod
        def backward(ctx, grad):
            out = 3 * grad * ctx.saved_tensors[0] ** 2
            out[77, 5] *= 1.5
            return out

    x = torch.randn(200, 20)
    x[77, 5] = 0.5  # not among the largest, which are looked at first
    result = gradnb.numeric_check(OneWrong, x)
    assert only(result).index == (77, 5) and result.gradients[0].of == 4000
    assert "65 of 4000" in repr(result)


def test_a_kink_is_no_fault_of_the_backward() -> None:
    result = gradnb.numeric_check(torch.relu, torch.tensor([0.0, 1.0, -1.0]))
    assert result and result.gradients[0].skipped == 1 and "a kink" in repr(result)
    assert not gradnb.numeric_check(WrongSign, torch.tensor([0.0, 1.0, -1.0]))


def test_a_function_that_rounds_inside_is_compared_with_a_coarser_step() -> None:
    inside = gradnb.numeric_check(lambda x: x.half().sin().double(), torch.randn(5))
    outside = gradnb.numeric_check(lambda x: x.float().sin(), torch.randn(5))
    assert inside and "rounds to a lower precision" in repr(inside)
    assert outside and "it gives float32" in repr(outside)
    assert not gradnb.numeric_check(lambda x: WrongSign.apply(x.float()), torch.randn(5))


def test_a_function_that_does_not_take_float64_is_told_clearly() -> None:
    weight = torch.randn(3, 3)
    result = gradnb.numeric_check(lambda x: x @ weight, torch.randn(2, 3))
    assert result.status == "unchecked" and not result
    assert "it does not work in float64" in repr(result) and "dtype=torch.float32" in repr(result)
    assert gradnb.numeric_check(lambda x: x @ weight, torch.randn(2, 3), dtype=torch.float32)
    assert only(gradnb.numeric_check(WrongSign, torch.randn(2, 3), dtype=torch.float32)).kind == "sign"


def test_a_backward_that_does_not_take_float64_is_told_clearly() -> None:
    constant = torch.eye(3)

    class Single(Cube):
        @staticmethod
        def backward(ctx, grad):
            return grad @ constant

    assert "does not work in float64" in repr(gradnb.numeric_check(Single, torch.randn(2, 3)))


def test_two_calls_that_differ_cannot_be_compared() -> None:
    calls = []

    def counts(x):
        calls.append(1)
        return x * len(calls)

    result = gradnb.numeric_check(counts, torch.randn(3))
    assert result.status == "unchecked" and "different outputs" in repr(result)


def test_a_backward_with_noise_is_told() -> None:
    noise = iter(range(1, 1000))

    class Noisy(Cube):
        @staticmethod
        def backward(ctx, grad):
            return grad * 3 * ctx.saved_tensors[0] ** 2 * (1 + 0.01 * next(noise))

    assert only(gradnb.numeric_check(Noisy, torch.randn(3))).kind == "non-deterministic"


def test_a_history_that_is_cut_inside_is_told() -> None:
    assert only(gradnb.numeric_check(lambda x: x.detach() * 3, torch.randn(3))).kind == "no-history"


def test_an_output_without_history_beside_one_with_history_is_a_note() -> None:
    result = gradnb.numeric_check(lambda x: (x**2, x.detach(), x.argmax()), torch.randn(3))
    assert result and "`out[1]` (does not require grad)" in repr(result)


def test_which_inputs_are_checked() -> None:
    x, y = torch.randn(2, 3), torch.randn(2, 3)
    assert {row.input for row in gradnb.numeric_check(torch.mul, {"input": x, "other": y}).gradients} == {"input", "other"}

    def product(x, y, scale=1, *, pair=None):
        return x * y * scale * pair[0]["w"]

    pair = [{"w": torch.randn(3)}]
    assert {row.input for row in gradnb.numeric_check(product, (x, y, 2), kwargs={"pair": pair}).gradients} == {"x", "y", "pair[0]['w']"}
    marked = gradnb.numeric_check(product, (x, y.clone().requires_grad_()), kwargs={"pair": pair})
    assert {row.input for row in marked.gradients} == {"y"} and "not checked" in repr(marked)
    assert {row.input for row in gradnb.numeric_check(product, (x, y), kwargs={"pair": pair}, wrt="x").gradients} == {"x"}


def test_second_derivatives_are_checked_on_wish() -> None:
    assert gradnb.numeric_check(Cube, torch.randn(3), second_order=True)
    assert gradnb.numeric_check(Cube, torch.randn(3), second_order=True).second.gradients
    once = gradnb.numeric_check(OnlyOnce, torch.randn(3), second_order=True)
    assert once.status == "agrees" and not once and "once_differentiable" in repr(once)
    assert gradnb.numeric_check(OnlyOnce, torch.randn(3))


def test_nothing_of_the_users_changes() -> None:
    module = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5))
    x = torch.randn(5, 3, requires_grad=True)
    module(x).sum().backward()
    x.grad, weight_grad = None, module[0].weight.grad.clone()
    before = [t.clone() for t in (x, *module.parameters(), *module.buffers())]
    versions = [t._version for t in (x, *module.parameters(), *module.buffers())]
    states = (torch.get_rng_state(), random.getstate(), numpy.random.get_state()[1].tolist())
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert gradnb.numeric_check(module, x)
        assert gradnb.numeric_check(InPlace, x)
        assert not torch.is_grad_enabled() and torch.is_autocast_enabled("cpu")
    after = [x, *module.parameters(), *module.buffers()]
    assert all(torch.equal(a, b) for a, b in zip(before, after)) and versions == [t._version for t in after]
    assert x.grad is None and torch.equal(module[0].weight.grad, weight_grad)
    assert torch.equal(states[0], torch.get_rng_state()) and states[1] == random.getstate()
    assert states[2] == numpy.random.get_state()[1].tolist()
    assert torch.get_default_dtype() is torch.float32


def test_the_state_comes_back_when_the_function_fails() -> None:
    state = torch.get_rng_state()

    def fails(x):
        torch.rand(3)
        raise KeyError("inside")

    with pytest.raises(UsageError, match="fails fails on these inputs: KeyError"):
        gradnb.numeric_check(fails, torch.randn(3, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(state, torch.get_rng_state()) and torch.get_default_dtype() is torch.float32


def test_a_generator_among_the_arguments_is_rewound_and_left_as_it_was() -> None:
    own = torch.Generator().manual_seed(3)
    state = own.get_state()
    assert gradnb.numeric_check(lambda x, g: x * torch.rand(3, generator=g), (torch.randn(3), own))
    assert torch.equal(own.get_state(), state)


def test_inside_a_check_it_leaves_no_trace() -> None:
    model = nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with gradnb.check() as report:
        gradnb.numeric_check(WrongSign, torch.randn(3))
        optimizer.zero_grad()
        model(torch.randn(2, 3)).sum().backward()
        optimizer.step()
    assert report.verdict == "ok" and len(report.losses) == 1 and len(report.parameters) == 2


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"fn": 3}, "fn is of type int"),
        ({"fn": nn.Linear}, "the class Linear"),
        ({"fn": torch.relu, "inputs": torch.arange(3)}, "no floating-point or complex tensor"),
        ({"fn": torch.relu, "inputs": ()}, "arguments: none"),
        ({"wrt": ["y"]}, "'y' is no tensor of the call. Tensors that can be checked: input0"),
        ({"eps": 0}, "eps=0"),
        ({"eps": -1.0}, "eps=-1.0"),
        ({"rtol": float("nan")}, "rtol=nan"),
        ({"atol": "small"}, "atol='small'"),
        ({"dtype": torch.float16}, "torch.float64 is expected"),
        ({"elements": 0}, "elements=0"),
        ({"fn": torch.matmul, "inputs": (torch.randn(2, 3), torch.randn(2, 3))}, "fails on these inputs"),
        ({"inputs": {"input": torch.randn(3)}, "kwargs": {"input": 1}}, "given twice"),
    ],
)
def test_a_wrong_use_is_refused_with_what_to_do(options, said) -> None:
    with pytest.raises(UsageError) as refused:
        gradnb.numeric_check(**({"fn": torch.relu, "inputs": torch.randn(3)} | options))
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("fn", "inputs", "said"),
    [
        (torch.sin, torch.randn(3, device="meta"), "on the meta device"),
        (torch.sin, torch.eye(3).to_sparse(), "is sparse"),
        (nn.LazyLinear(3), torch.randn(2, 3), "call it once on a batch first"),
    ],
)
def test_tensors_without_plain_numbers_are_refused(fn, inputs, said) -> None:
    with pytest.raises(UsageError, match=said):
        gradnb.numeric_check(fn, inputs)


def test_tensors_of_every_other_kind_are_taken() -> None:
    with torch.inference_mode():
        inference = torch.randn(3)
        assert gradnb.numeric_check(torch.sin, inference) and torch.is_inference_mode_enabled()
    for x in (inference, torch.randn(3, 1).expand(3, 4), torch.randn(0, 4), torch.tensor(1.0), nn.Parameter(torch.randn(3)).half()):
        assert gradnb.numeric_check(torch.sin, x)
    assert gradnb.numeric_check(lambda x, s: s @ x, (torch.randn(3, 2), torch.eye(3).to_sparse()))
    assert gradnb.numeric_check(torch.compile(nn.Linear(3, 2), backend="eager"), torch.randn(4, 3))


def test_a_module_that_cannot_be_copied_is_refused() -> None:
    module = nn.Linear(3, 3)
    module.cache = module.weight * 2  # deepcopy refuses what has a history
    with pytest.raises(UsageError, match="cannot be copied"):
        gradnb.numeric_check(module, torch.randn(3))


def test_the_result_is_json_ready_and_says_the_same_in_every_form() -> None:
    result = gradnb.numeric_check(HalfWeight, (torch.randn(4, 3), torch.randn(3)))
    told = json.loads(json.dumps(result.to_dict()))
    assert told["schema"] == 1 and told["ok"] is False and told["discrepancies"][0]["kind"] == "factor"
    assert told["gradcheck"] == "torch.autograd.gradcheck refuses it too"
    for form in (repr(result), result._repr_html_()):
        assert "2.00x too small" in form and "differs" in form
    assert "<script" not in result._repr_html_() and "✗" in repr(result)


def test_an_argument_name_with_markup_stays_text() -> None:
    html = gradnb.numeric_check(lambda pair: pair["<b>"] ** 2, ({"<b>": torch.randn(3)},))._repr_html_()
    assert "<b>" not in html and "&lt;b&gt;" in html


def test_quantizers_are_called_made_up() -> None:
    result = gradnb.numeric_check(StepSize, (torch.randn(4, 3), torch.tensor(0.3)))
    assert [d.kind for d in result.discrepancies][0] == "surrogate"
