"""Points where an operation, or its derivative, is not finite, read from what autograd saved for the backward pass.

A point found here makes NaN or inf as soon as a gradient passes, whatever the gradient is: 0 times infinity is NaN too.
"""

from __future__ import annotations

import re
from typing import Any, Callable, Iterator, NamedTuple

import torch

from .readable import readable

MOST = 1 << 22  # elements of a saved tensor above which it is not read

_SUFFIX = re.compile(r"Backward\d*$")

# Calls that can have such a node in them, by the name under which the function mode sees them.
CALLS = frozenset(
    "sqrt sqrt_ rsqrt div __truediv__ __rtruediv__ __itruediv__ __div__ __rdiv__ div_ true_divide divide reciprocal pow __pow__ "
    "__rpow__ float_power log log2 log10 log1p logit xlogy special_xlogy norm vector_norm linalg_vector_norm linalg_norm matrix_norm "
    "linalg_matrix_norm acos arccos asin arcsin acosh atanh arctanh hypot exp exp_ exp2 expm1 sinh cosh softmax log_softmax softmin "
    "logsumexp gumbel_softmax std var std_mean var_mean normalize cosine_similarity cdist pdist pairwise_distance kl_div apply "
    "scaled_dot_product_attention multi_head_attention_forward layer_norm batch_norm group_norm instance_norm rms_norm erfinv lgamma "
    "digamma svd linalg_svd eigh linalg_eigh eig linalg_eig qr linalg_qr cholesky linalg_cholesky inverse inv linalg_inv det "
    "linalg_det logdet slogdet linalg_slogdet solve linalg_solve dist renorm prod cumprod logcumsumexp binary_cross_entropy "
    "triplet_margin_loss gaussian_nll_loss ctc_loss hinge_embedding_loss cosine_embedding_loss matrix_exp tan".split()
)


class Point(NamedTuple):
    """``key`` names the kind (see flow/numbers.py); ``mask`` says which elements of ``tensor`` stand at the point."""

    key: str
    operand: str  # "self" | "other" | "result" …
    tensor: torch.Tensor
    mask: torch.Tensor


Test = Callable[[torch.Tensor], torch.Tensor]


def _zero(t: torch.Tensor) -> torch.Tensor:
    return t == 0


def _negative(t: torch.Tensor) -> torch.Tensor:
    return t < 0


def _unit(t: torch.Tensor) -> torch.Tensor:
    return t.abs() == 1


def _beyond(t: torch.Tensor) -> torch.Tensor:
    return t.abs() > 1


def _bad(t: torch.Tensor) -> torch.Tensor:
    return ~torch.isfinite(t)


_RULES: dict[str, tuple[tuple[str, Test, str], ...]] = {
    "Sqrt": (("result", _zero, "sqrt-zero"), ("result", torch.isnan, "sqrt-negative")),
    "Rsqrt": (("result", _bad, "rsqrt"),),
    "Div": (("other", _zero, "division"),),
    "Reciprocal": (("result", _bad, "division"),),
    "Log": (("self", _zero, "log-zero"), ("self", _negative, "log-negative")),
    "Log2": (("self", _zero, "log-zero"), ("self", _negative, "log-negative")),
    "Log10": (("self", _zero, "log-zero"), ("self", _negative, "log-negative")),
    "Log1p": (("self", lambda t: t == -1, "log-zero"), ("self", lambda t: t < -1, "log-negative")),
    "Logit": (("self", lambda t: (t == 0) | (t == 1), "log-zero"),),
    "Xlogy": (("other", _zero, "log-zero"),),
    "Acos": (("self", _unit, "arc-edge"), ("self", _beyond, "arc-outside")),
    "Asin": (("self", _unit, "arc-edge"), ("self", _beyond, "arc-outside")),
    "Acosh": (("self", lambda t: t <= 1, "arc-edge"),),
    "Atanh": (("self", _unit, "arc-edge"), ("self", _beyond, "arc-outside")),
    "Erfinv": (("self", _unit, "arc-edge"), ("self", _beyond, "arc-outside")),
    "Hypot": (("result", _zero, "sqrt-zero"),),
    "Exp": (("result", torch.isinf, "exp-overflow"),),
    "Exp2": (("result", torch.isinf, "exp-overflow"),),
    "Expm1": (("result", torch.isinf, "exp-overflow"),),
    "Softmax": (("result", torch.isnan, "softmax-row"),),
    "SafeSoftmax": (("result", torch.isnan, "softmax-row"),),
    "LogSoftmax": (("result", torch.isnan, "softmax-row"),),
    "Logsumexp": (("result", torch.isnan, "softmax-row"), ("result", torch.isneginf, "softmax-row")),
    "Std": (("result", torch.isnan, "spread-of-one"),),
    "StdMean": (("result0", torch.isnan, "spread-of-one"),),
    "LinalgVectorNorm": (("result", _bad, "overflow"),),
    "Norm": (("result", _bad, "overflow"),),
    "Cdist": (("result", _bad, "overflow"),),
    "NativeLayerNorm": (("result2", _bad, "spread-zero"),),
    "NativeBatchNorm": (("result2", _bad, "spread-zero"),),
    "CudnnBatchNorm": (("result2", _bad, "spread-zero"),),
    "NativeGroupNorm": (("result2", _bad, "spread-zero"),),
    "LinalgSvd": (("S", _zero, "spectrum"),),
    "LinalgInvEx": (("inverse", _bad, "matrix"),),
    "LinalgSolveEx": (("result", _bad, "matrix"),),
    "LinalgDet": (("result", _bad, "overflow"),),
    "Lgamma": (("self", _zero, "log-zero"),),
    "Digamma": (("self", _zero, "division"),),
    "Tan": (("result", _bad, "overflow"),),
}


def kind(node: Any) -> str:
    """The node's name without its ending: "Sqrt" for SqrtBackward0."""
    return _SUFFIX.sub("", node.name())


def saved(node: Any, name: str) -> torch.Tensor | None:
    """A tensor that the node saved, None where it saved none of that name or has given it back already."""
    try:
        value = getattr(node, "_saved_" + name)
    except (RuntimeError, AttributeError):
        return None
    return value.detach() if isinstance(value, torch.Tensor) and floats(value) else None


def floats(tensor: torch.Tensor) -> bool:
    """Can its numbers be looked at, and can they be other than finite."""
    return (
        (tensor.is_floating_point() or tensor.is_complex()) and tensor.layout == torch.strided and readable(tensor) and tensor.numel() > 0
    )


def state_of(tensor: torch.Tensor) -> str:
    """ "ok", "inf", or "nan" where any element is."""
    if not floats(tensor) or bool(torch.isfinite(tensor).all()):
        return "ok"
    return "nan" if bool(torch.isnan(tensor).any()) else "inf"


def points(node: Any) -> Iterator[Point]:
    """Where the node's saved tensors may stand at a singular point; whether they do, ``mask`` says."""
    name = kind(node)
    for operand, test, key in _RULES.get(name, ()):
        tensor = saved(node, operand)
        if tensor is not None and tensor.numel() <= MOST and not (tensor.is_complex() and test not in (_zero, _bad)):
            yield Point(key, operand, tensor, test(tensor))
    special = _SPECIAL.get(name)
    if special is not None:
        yield from special(node)
    elif name.startswith("ScaledDotProduct"):
        for operand in ("output", "out", "logsumexp", "log_sumexp"):
            tensor = saved(node, operand)
            if tensor is not None and tensor.numel() <= MOST:
                yield Point("softmax-row", operand, tensor, torch.isnan(tensor))


def _power(node: Any) -> Iterator[Point]:
    """``base ** exponent`` at 0 with an exponent below 1 has an infinite slope; a negative base with a fraction has no value."""
    base, exponent = saved(node, "self"), saved(node, "exponent")
    if base is None or base.is_complex() or base.numel() > MOST:
        return
    power: Any = exponent if exponent is not None else getattr(node, "_saved_exponent", None)
    if isinstance(power, torch.Tensor):
        power = power.to(base.dtype)
        yield Point("power-zero", "self", base, (base == 0) & (power < 1) & (power != 0))
        yield Point("power-negative", "self", base, (base < 0) & (power != power.round()))
    elif isinstance(power, (int, float)):
        if power < 1 and power != 0:
            yield Point("power-zero", "self", base, base == 0)
        if power != round(power):
            yield Point("power-negative", "self", base, base < 0)


def _variance(node: Any) -> Iterator[Point]:
    """The variance of n elements divides by n - correction."""
    tensor, correction, dims = saved(node, "self"), getattr(node, "_saved_correction", 1), getattr(node, "_saved_dim", None)
    if tensor is None:
        return
    count = 1
    for d in dims if dims else range(tensor.dim()):
        count *= tensor.shape[d if d < tensor.dim() else d - (1 << 64)] if tensor.dim() else 1
    if count <= (1 if correction is None else correction):
        yield Point("spread-of-one", "self", tensor, torch.ones((), dtype=torch.bool, device=tensor.device))


def _levels(node: Any) -> Iterator[Point]:
    """The eigenvectors of equal eigenvalues have no derivative."""
    values = saved(node, "eigenvalues")
    if values is not None and not values.is_complex() and values.shape[-1:] > (1,):
        yield Point("spectrum", "eigenvalues", values, values.diff(dim=-1) == 0)


def _mean_of_none(node: Any) -> Iterator[Point]:
    weight = saved(node, "total_weight")
    if weight is not None and getattr(node, "_saved_reduction", 0) == 1:
        yield Point("all-ignored", "total_weight", weight, weight == 0)


_SPECIAL: dict[str, Callable[[Any], Iterator[Point]]] = {
    "Pow": _power,
    "Var": _variance,
    "VarMean": _variance,
    "LinalgEigh": _levels,
    "NllLoss": _mean_of_none,
    "NllLoss2D": _mean_of_none,
}
NODES = frozenset(_RULES) | frozenset(_SPECIAL)


def standing(node: Any) -> Point | None:
    """The first singular point that the node really stands at."""
    for point in points(node):
        if bool(point.mask.any()):
            return point
    return None
