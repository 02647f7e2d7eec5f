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

    It is called on float64 copies, always from the same random state. Checked are the inputs that require grad, all floating-point and
    complex ones where none does, and the parameters of a module. The user's tensors, modules, ``.grad`` and random numbers stay as they
    are. Small inputs are judged by ``torch.autograd.gradcheck`` too.

    Parameters
    ----------
    fn
        The function, the module, or the ``torch.autograd.Function``.
    inputs
        A tensor (of any shape), a sequence of arguments, or a dict of keyword arguments; nested lists, tuples and dicts are looked into.
    kwargs
        Keyword arguments besides ``inputs``.
    wrt
        Names of the inputs or parameters to check, in place of those above.
    eps
        The step of the differences for elements up to 1 (1e-6; 5e-3 in float32); above, a part of the element.
    atol
        An element differs where ``|backward - numeric| > atol + rtol * |numeric|``. Without, 1e-5 times the input's largest gradient.
    rtol
        A part of the numeric value: 1e-3 (2e-2 in float32).
    dtype
        float64, or float32 for a function that has no other.
    elements
        So many elements of each input are compared one by one, the others by a random direction through all of them.
    second_order
        Check the second derivatives as well.
    seed
        The seed of the random weights that the outputs are summed with.

    Returns
    -------
    NumericResult
        True where all agrees.

    Raises
    ------
    UsageError
        Where there is nothing to differentiate, where an option makes no sense, and where ``fn`` fails on the inputs as they were given.

    References
    ----------
    1e-6, 1e-5 and 1e-3 are the defaults of ``torch.autograd.gradcheck``; its ``atol`` is absolute, ours a part of the largest gradient. The
    step of 5e-3 is the cube root of float32's rounding unit (1.2e-7), at which a central difference is most exact, and 2e-2 four times it.
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
