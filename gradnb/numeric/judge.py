"""torch.autograd.gradcheck as the judge, one input at a time, where its full Jacobian is affordable."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import torch
from torch.autograd.gradcheck import GradcheckError, gradcheck

from .measure import Bench, real
from .result import Discrepancy, NumericResult

if TYPE_CHECKING:
    from .compare import Settings

INPUTS, OUTPUTS = 256, 512  # numbers in one input, and in all outputs, up to which the Jacobian is made


def judge(bench: Bench, settings: Settings, result: NumericResult, excused: set[str]) -> list[Discrepancy]:
    """What gradcheck has against the subject; empty where it has nothing, was not asked, or where the reason is known.

    ``excused`` are the inputs with elements at a kink or with a coarse step: gradcheck refuses those, and is not believed.
    """
    if any(real(bench.base[o]).dtype != settings.dtype for o in bench.differentiable):
        result.judged = "torch.autograd.gradcheck was not asked: it needs a function that stays in its precision"
        return []
    sizes = [real(point).numel() for point in bench.points]
    outgoing = sum(real(bench.outputs[o].tensor).numel() for o in bench.differentiable)
    price = bench.seconds * sum(2 * size + 4 * outgoing for size in sizes)
    if max(sizes) > INPUTS or outgoing > OUTPUTS or price > settings.seconds / 2:
        result.judged = "torch.autograd.gradcheck was not asked: its Jacobian would be too large"
        return []
    refused = {}
    for leaf, given in enumerate(bench.subject.leaves):
        said = _ask(bench, settings, leaf)
        if said:
            refused[given.name] = said
    if result.discrepancies:
        result.judged = "torch.autograd.gradcheck " + ("refuses it too" if refused else "has a tolerance too coarse to see it")
        return []
    if not refused:
        result.judged = "torch.autograd.gradcheck agrees"
        return []
    if excused.issuperset(refused):
        result.judged = "torch.autograd.gradcheck refuses it, because of what was left out"
        return []
    result.judged = "torch.autograd.gradcheck refuses it"
    name, said = next(iter(refused.items()))
    text = f"torch.autograd.gradcheck refuses `{name}`: {said}"
    return [Discrepancy("gradcheck", bench.outputs[bench.differentiable[0]].name, name, text)]


def _ask(bench: Bench, settings: Settings, leaf: int) -> str:
    """The first line of its complaint, empty where it has none."""
    point = bench.points[leaf]
    outputs = bench.differentiable
    size = max(float(real(bench.base[o]).abs().nan_to_num().max()) if bench.base[o].numel() else 0.0 for o in outputs)

    def call(tensor: torch.Tensor) -> tuple[torch.Tensor, ...]:
        points = [p.detach() for p in bench.points]
        points[leaf] = tensor
        found = bench.run(points)
        return tuple(found[o].tensor for o in outputs)

    eps = bench.step_at(float(real(point).abs().max()) if point.numel() else 0.0)
    rounding = torch.finfo(settings.dtype).eps * size / eps
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that inputs are not float64, where float32 was asked for
            gradcheck(
                call,
                (point.detach().clone().requires_grad_(),),
                eps=eps,
                atol=settings.atol if settings.atol is not None else max(1e-5, 100 * rounding),
                rtol=max(settings.rtol, 1e-3),
                nondet_tol=1e-8,
                check_undefined_grad=False,
            )
    except GradcheckError as error:
        return _first(str(error))
    except Exception as error:  # the user's code in a call that gradcheck makes
        return _first(f"{type(error).__name__}: {error}")
    return ""


def _first(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[0].rstrip(",:")[:200] if lines else ""
