"""One numeric check from the user's objects to the result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from ..errors import UsageError
from .compare import Settings, compare
from .conditions import RandomState, conditions, generators_in
from .result import NumericResult
from .second import derivative
from .subject import Subject, subject


def run(
    fn: Any,
    inputs: Any,
    kwargs: Mapping[str, Any] | None,
    wrt: Sequence[str] | None,
    settings: Settings,
    *,
    second_order: bool = False,
    only_marked: bool = False,
) -> NumericResult:
    """The result; what the function itself raises becomes a reason, or a UsageError where it fails on the user's own inputs too."""
    random = generators_in([inputs, dict(kwargs or {})])
    with torch.inference_mode(False):
        checked = subject(fn, inputs, kwargs, wrt, settings.dtype, only_marked=only_marked)
    devices = {leaf.tensor.device for leaf in checked.leaves}
    with conditions(devices, settings.dtype, random) as state:
        try:
            result = compare(checked, state, settings)
        except UsageError:
            raise
        except Exception as error:
            return _refused(fn, inputs, kwargs, wrt, settings, checked, state, error)
        for found in result.discrepancies:
            if found.kind == "raises" and _works_as_given(fn, inputs, kwargs, wrt, settings, state):
                return _only_as_given(checked, settings, found.text)
        if second_order and result.status == "agrees" and result.gradients:
            result.second = _second(checked, state, settings)
    return result


def _second(checked: Subject, state: RandomState, settings: Settings) -> NumericResult:
    first = replace(checked, notes=[])
    try:
        found = compare(derivative(first, state), state, settings)
    except Exception as error:
        said = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        found = NumericResult(checked.name, "differs", f"the backward cannot be differentiated again: {said}")
    found.order = 2
    for missing in found.discrepancies:
        if missing.kind in ("missing", "no-history", "raises"):
            missing.text = (
                f"{missing.text}. Is the backward marked once_differentiable, or does it compute under no_grad or on detached tensors?"
            )
    return found


def _refused(
    fn: Any, inputs: Any, kwargs: Any, wrt: Any, settings: Settings, checked: Subject, state: RandomState, error: Exception
) -> NumericResult:
    """The function failed in the precision of the check: does it work in its own?"""
    said = " ".join(f"{type(error).__name__}: {error}".split())[:300]
    if not _works_as_given(fn, inputs, kwargs, wrt, settings, state):
        raise UsageError(f"{checked.name} fails on these inputs: {said}") from error
    return _only_as_given(checked, settings, said)


def _only_as_given(checked: Subject, settings: Settings, said: str) -> NumericResult:
    name = str(settings.dtype).removeprefix("torch.")
    notes = [
        "Tensors that it holds itself (a constant, a buffer, a closure's weights) stay in their own precision: make them with "
        f"dtype=x.dtype, pass them as inputs, or give the module that owns them as fn. A function that knows no {name}: "
        "numeric_check(..., dtype=torch.float32)."
    ]
    return NumericResult(checked.name, "unchecked", f"it does not work in {name}: {said}", notes=notes, dtype=name, eps=settings.eps)


def _works_as_given(fn: Any, inputs: Any, kwargs: Any, wrt: Any, settings: Settings, state: RandomState) -> bool:
    """Forward and backward in the precision of the user's tensors."""
    given = _precision(inputs, kwargs)
    if given is None or given == settings.dtype:
        return False
    own = given if given in (torch.float32, torch.float64) else torch.float32
    torch.set_default_dtype(own)  # conditions() puts the user's back
    try:
        other = subject(fn, inputs, kwargs, wrt, own)
        points = [leaf.tensor.requires_grad_() for leaf in other.leaves]
        state.rewind()
        outputs = [o.tensor for o in other.run(points) if o.tensor.requires_grad]
        if outputs:
            torch.autograd.grad(outputs, points, [torch.ones_like(o) for o in outputs], allow_unused=True)
    except Exception:
        return False
    finally:
        torch.set_default_dtype(settings.dtype)
    return True


def _precision(inputs: Any, kwargs: Any) -> torch.dtype | None:
    """The precision of the first floating-point tensor that was given."""
    if isinstance(inputs, torch.Tensor):
        return inputs.dtype if inputs.is_floating_point() else torch.float32 if inputs.is_complex() else None
    parts = list(inputs.values()) if isinstance(inputs, Mapping) else list(inputs) if isinstance(inputs, list | tuple) else []
    for part in [*parts, *(kwargs or {}).values()]:
        found = _precision(part, None)
        if found is not None:
            return found
    return None
