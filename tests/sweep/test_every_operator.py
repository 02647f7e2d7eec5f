"""Every operator that torch tests itself with: recorded and bare runs agree bit for bit, and lost history is seen where it is lost.

What is true is read from the bare run: an output that does not require grad although an input does has lost its history.
"""

from __future__ import annotations

import warnings
from collections import Counter
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Callable, Iterator

import pytest
import torch
from torch.utils._pytree import tree_flatten, tree_map

import gradnb
from gradnb.flow.graph import Graph
from gradnb.recorder.build import build
from gradnb.recorder.recorder import Recorder

SAMPLES = 3  # of each operator and way of calling it
DTYPES = (torch.float32, torch.float64, torch.complex64, torch.int64, torch.bool)  # the first that the operator takes

# Operators whose result torch does not fix, so that two bare runs differ as well.
UNDEFINED = {
    "empty": "memory as it was found",
    "empty_like": "memory as it was found",
    "empty_permuted": "memory as it was found",
    "empty_strided": "memory as it was found",
    "new_empty": "memory as it was found",
    "new_empty_strided": "memory as it was found",
}
# Operators that do not take any dtype on a CPU.
NO_CPU = {
    "torch.ops.aten._flash_attention_forward": "CUDA only",
    "torch.ops.aten._efficient_attention_forward": "CUDA only",
    "nn.functional.batch_norm.without_cudnn": "CUDA only",
}
# Operators that read the shape of their input and not its numbers: no history to lose.
SHAPE_ONLY = set(
    "empty_like zeros_like ones_like full_like rand_like randn_like randint_like new_zeros new_ones new_full new_empty "
    "new_empty_strided".split()
)
# Operators that give some input no gradient although another one gets its own: to the recorder the output keeps its history.
PARTLY = {
    "native_group_norm": "the mean and the deviation that it also returns have no derivative",
    "linalg.lstsq": "the residuals have none",
    "linalg.lstsq.grad_oriented": "the residuals have none",
    "linalg.slogdet": "the sign has none",
    "norm": "none for a norm over nothing",
    "linalg.norm": "none for a norm over nothing",
    "linalg.norm.subgradients_at_zero": "none for a norm over nothing",
    "nn.functional.cosine_embedding_loss": "the target is +1 or -1",
    "nn.functional.hinge_embedding_loss": "the target is +1 or -1",
    "nn.functional.multi_head_attention_forward": "some projections are handed over and not used",
}


@dataclass
class Call:
    """One way to call one operator on one sample, and what came of it without gradnb."""

    operator: str
    way: str
    function: Callable
    sample: Any
    inplace: bool
    bare: "Outcome"


@dataclass
class Outcome:
    error: str = ""
    outputs: list[torch.Tensor] = field(default_factory=list)
    plain: list[Any] = field(default_factory=list)  # outputs that are no tensors
    inputs: list[torch.Tensor] = field(default_factory=list)
    gradients: list[torch.Tensor | None] = field(default_factory=list)
    values: list[int] = field(default_factory=list)  # of the outputs, in the recording
    wanted: list[int] = field(default_factory=list)  # numbers of the inputs that require grad, in the recording


@dataclass
class Sweep:
    operators: int = 0
    calls: int = 0
    lost: int = 0
    checked: int = 0
    misses: dict[str, list[str]] = field(default_factory=lambda: {"different": [], "problem": [], "history": []})

    def table(self, kind: str) -> str:
        rows = Counter(self.misses[kind])
        return "\n".join(f"{row}  (x{n})" if n > 1 else row for row, n in rows.items())


def run(call: Callable, sample: Any, inplace: bool, recorder: Recorder | None = None) -> Outcome:
    """Call the operator on copies of a sample, then go backward from the sum of what requires grad."""
    leaves: list[torch.Tensor] = []

    def copy(item: Any) -> Any:
        if not isinstance(item, torch.Tensor):
            return item
        fresh = item.detach().clone().requires_grad_(item.requires_grad)
        leaves.append(fresh)
        return fresh

    given, args, kwargs = (tree_map(copy, part) for part in (sample.input, sample.args, sample.kwargs))
    if inplace:
        given = tree_map(lambda t: t.clone() if isinstance(t, torch.Tensor) else t, given)
    torch.manual_seed(0)
    try:
        out = call(given, *args, **kwargs)
    except Exception as error:
        return Outcome(error=f"{type(error).__name__}: {error}", inputs=leaves)
    flat, _ = tree_flatten(out)
    found = Outcome(inputs=leaves)
    found.outputs = [t for t in flat if isinstance(t, torch.Tensor)]
    found.plain = [repr(t) for t in flat if not isinstance(t, torch.Tensor)]
    wanted = [t for t in leaves if t.requires_grad]
    if recorder is not None:
        found.values = [recorder.log.known(t) for t in found.outputs]
        found.wanted = [recorder.census.number(t) for t in wanted]
    try:
        terms = [_sum(t) for t in found.outputs if t.requires_grad]
        if terms and wanted:
            torch.autograd.backward(terms)
            found.gradients = [t.grad for t in wanted]
    except Exception as error:  # the bare run must say the same
        found.error = f"backward: {type(error).__name__}: {error}"
    return found


def _sum(out: torch.Tensor) -> torch.Tensor:
    out = out if out.layout == torch.strided else out.to_dense()
    return torch.view_as_real(out.resolve_conj()).sum() if out.is_complex() else out.sum()


def same(a: torch.Tensor | None, b: torch.Tensor | None) -> bool:
    """Equal in every bit, and in everything that torch says about a tensor."""
    if a is None or b is None:
        return a is b
    told = [(type(t), t.dtype, t.shape, t.layout, t.requires_grad, t.device, t.is_conj(), t.is_neg()) for t in (a, b)]
    if told[0] != told[1]:
        return False
    if a.layout != torch.strided:
        return same(a.detach().to_dense(), b.detach().to_dense())
    if a.stride() != b.stride():
        return False
    return _bits(a) == _bits(b)


def _bits(t: torch.Tensor) -> bytes:
    flat = torch.empty(t.numel(), dtype=t.dtype).copy_(t.detach().flatten())
    return flat.view(torch.uint8).numpy().tobytes()


def differences(bare: Outcome, recorded: Outcome) -> Iterator[str]:
    if bare.error != recorded.error:
        yield f"error: bare {bare.error[:80]!r}, recorded {recorded.error[:80]!r}"
    if bare.plain != recorded.plain:
        yield f"result: bare {bare.plain!r}, recorded {recorded.plain!r}"
    for what in ("outputs", "inputs", "gradients"):
        a, b = getattr(bare, what), getattr(recorded, what)
        if len(a) != len(b) or not all(same(x, y) for x, y in zip(a, b)):
            yield what


def ways(op: Any) -> Iterator[tuple[str, Callable, bool]]:
    """The function, the method, the in-place method and the operators that an OpInfo names."""
    yield "function", op.get_op(), False
    for way, function, inplace in (
        ("method", op.method_variant, False),
        ("in-place", op.inplace_variant, True),
        ("operator", op.operator_variant, False),
        ("in-place operator", op.inplace_operator_variant, True),
    ):
        if function is not None:
            yield way, function, inplace


def calls_of(op: Any) -> Iterator[Call]:
    supported = op.supported_dtypes("cpu")
    dtype = next((d for d in DTYPES if d in supported), None) or min(supported, key=str)
    differentiable = op.supports_autograd and (dtype.is_floating_point or dtype.is_complex)
    samples = list(islice(op.sample_inputs("cpu", dtype, requires_grad=differentiable), SAMPLES))
    if not differentiable and dtype.is_floating_point:  # the operator has no derivative: is it seen that an input wanted one?
        for sample in samples:
            sample.input = tree_map(_wanting, sample.input)
    for way, function, inplace in ways(op):
        for sample in samples:
            if inplace and sample.broadcasts_input:
                continue
            yield Call(op.full_name, way, function, sample, inplace, run(function, sample, inplace))


def _wanting(item: Any) -> Any:
    return item.requires_grad_() if isinstance(item, torch.Tensor) and item.is_floating_point() else item


def check_operator(op: Any, sweep: Sweep) -> None:
    calls = list(calls_of(op))
    recorded: list[Outcome] = []
    check = gradnb.check(namespace={})
    with check as report:
        recorder = check.recorder
        assert recorder is not None
        for call in calls:
            recorded.append(run(call.function, call.sample, call.inplace, recorder))
    for note in report.notes:
        if "internal problem" in note or "failed" in note or "could not be followed" in note:
            sweep.misses["problem"].append(f"{op.full_name}: {note}")
    graph = Graph(build(recorder))
    for call, outcome in zip(calls, recorded):
        sweep.calls += 1
        for difference in differences(call.bare, outcome):
            if op.full_name not in UNDEFINED:
                sweep.misses["different"].append(f"{call.operator} ({call.way}): {difference}")
        for miss in history_misses(graph, call, outcome, sweep):
            sweep.misses["history"].append(f"{call.operator} ({call.way}): {miss}")


def history_misses(graph: Graph, call: Call, recorded: Outcome, sweep: Sweep) -> Iterator[str]:
    """Where the graph says something else about lost history than the bare run."""
    if call.bare.error or not any(t.requires_grad for t in call.bare.inputs):
        return
    for truth, value in zip(call.bare.outputs, recorded.values):
        if value < 0:
            yield "an output is not in the recording"
            continue
        cone = graph.cone((value,))
        sweep.checked += 1
        sweep.lost += not truth.requires_grad
        if bool(cone.reached()) == (call.operator in SHAPE_ONLY):
            yield f"the recording knows {'a' if cone.reached() else 'no'} way from the input to an output"
        elif call.operator in SHAPE_ONLY:
            continue
        elif bool(cone.fed()) != truth.requires_grad:
            said = "keeps" if cone.fed() else "loses"
            yield f"the recording says that an output {said} its history, torch says otherwise"
    if call.bare.gradients and call.operator not in PARTLY and -1 not in recorded.values:
        fed = graph.cone(tuple(recorded.values)).fed()
        for position, (number, gradient) in enumerate(zip(recorded.wanted, call.bare.gradients)):
            if bool(fed >> number & 1) != (gradient is not None):
                yield f"input {position} {'gets no' if gradient is None else 'gets a'} gradient, the recording says otherwise"


@pytest.fixture(scope="module")
def sweep() -> Sweep:
    """The whole sweep, run once."""
    from torch.testing._internal.common_methods_invocations import op_db

    found = Sweep()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for op in op_db:
                if op.full_name not in NO_CPU:
                    found.operators += 1
                    check_operator(op, found)
    finally:
        torch.set_num_threads(threads)
    return found


@pytest.mark.slow
def test_every_operator_gives_the_same_bits_recorded_and_bare(sweep: Sweep) -> None:
    assert sweep.operators > 600
    assert sweep.calls > 2 * sweep.operators
    assert not sweep.misses["different"], sweep.table("different")


@pytest.mark.slow
def test_no_operator_makes_gradnb_stumble(sweep: Sweep) -> None:
    assert not sweep.misses["problem"], sweep.table("problem")


@pytest.mark.slow
def test_lost_history_is_said_exactly_where_an_input_required_grad_and_the_output_does_not(sweep: Sweep) -> None:
    print(
        f"{sweep.operators} operators, {sweep.calls} calls, {sweep.checked} outputs of inputs that require grad, {sweep.lost} of them lost"
    )
    assert sweep.lost > 100
    assert not sweep.misses["history"], sweep.table("history")
