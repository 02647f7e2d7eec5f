"""Compares a backward with finite differences, and says in words and numbers what is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from ..errors import UsageError

if TYPE_CHECKING:
    from .result import NumericResult

__all__ = ["numeric_check"]


def numeric_check(
    fn: Any,
    inputs: Any,
    *,
    kwargs: Mapping[str, Any] | None = None,
    wrt: Sequence[str] | None = None,
    eps: float | None = None,
    atol: float | None = None,
    rtol: float | None = None,
    dtype: torch.dtype = torch.float64,
    elements: int = 64,
    second_order: bool = False,
    seed: int = 0,
) -> NumericResult:
    """Compare the gradients of a function, a module or a ``torch.autograd.Function`` with finite differences.

    ``fn`` is called on float64 copies of ``inputs`` (a tensor, a sequence of arguments, or a dict of keyword arguments; nested lists,
    tuples and dicts are looked into), always from the same random state. Checked are the inputs that require grad, all floating-point
    and complex ones where none does, and the parameters of a module; ``wrt`` names others. The user's tensors, modules, ``.grad`` and
    random numbers stay as they are.

    ``eps`` is the step of the differences for elements up to 1 (default 1e-6; 5e-3 in float32), relative above; an element differs where
    |backward - numeric| > ``atol`` + ``rtol`` * |numeric| (defaults: 1e-5 of the input's largest gradient, and 1e-3). ``dtype`` is
    float64, or float32 for a function that has no other. Up to ``elements`` numbers of each input are compared one by one, the others by a
    random direction through all of them; small inputs are judged by ``torch.autograd.gradcheck`` too. ``second_order`` checks the second
    derivatives as well. Random weights of the outputs come from ``seed``.

    Returns a NumericResult, which is true where all agrees. Raises UsageError where there is nothing to differentiate, where an option
    makes no sense, and where ``fn`` fails on the inputs as they were given.
    """
    from .run import run

    if dtype not in (torch.float64, torch.float32):
        raise UsageError(f"dtype={dtype!r} given; torch.float64 is expected, or torch.float32 for a function that has no other")
    for name, value in (("eps", eps), ("atol", atol), ("rtol", rtol)):
        if value is not None and (
            isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e6 or value == name == "eps"
        ):
            raise UsageError(f"{name}={value!r} given; a small positive number is expected, such as 1e-6")
    if eps == 0:
        raise UsageError("eps=0 given; the step of a difference cannot be zero: leave it out for 1e-6")
    if isinstance(elements, bool) or not isinstance(elements, int) or elements < 1:
        raise UsageError(f"elements={elements!r} given; a whole number of elements, 1 or more, is expected")
    if isinstance(wrt, str):
        wrt = [wrt]
    from .compare import Settings

    coarse = dtype == torch.float32
    settings = Settings(
        eps=eps if eps is not None else 5e-3 if coarse else 1e-6,
        atol=atol,
        rtol=rtol if rtol is not None else 2e-2 if coarse else 1e-3,
        dtype=dtype,
        elements=elements,
        seed=seed,
    )
    return run(fn, inputs, kwargs, wrt, settings, second_order=second_order)
