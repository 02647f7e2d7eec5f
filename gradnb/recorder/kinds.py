"""What kind of birth an operation is, by its name and by what is known of its arguments."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from .log import RawOp
from .numeric import largest, numbers
from .singular import floats, state_of

if TYPE_CHECKING:
    from .search import Search

REDUCTIONS = frozenset(
    "mean nanmean mse_loss l1_loss smooth_l1_loss huber_loss cross_entropy nll_loss binary_cross_entropy binary_cross_entropy_with_logits "
    "kl_div cosine_similarity median soft_margin_loss margin_ranking_loss gaussian_nll_loss poisson_nll_loss".split()
)
# Of operations none of whose values was kept, the likelier ones: a pole makes infinity of 0, a steep one of a large number.
_POLES = frozenset(
    "div truediv rtruediv rdiv itruediv true_divide divide reciprocal log log2 log10 logit rsqrt atanh arctanh xlogy "
    "erfinv lgamma tan".split()
)
_STEEP = frozenset(
    "exp exp2 expm1 pow rpow ipow float_power sqrt acos arccos asin arcsin cosh sinh log1p softmax log_softmax apply".split()
)


def likely(name: str) -> int:
    """How likely a call of this name makes the first bad value, where nothing is known of its arguments: 3 at most."""
    name = name.strip("_")
    return 3 if name in _POLES else 2 if name in _STEEP else 1 if name in REDUCTIONS else 0


def kind_of(search: Search, op: RawOp) -> tuple[str, int]:
    """The kind of a birth by the call and by what is known of its arguments, and the argument to blame (-1 for none)."""
    name = op.operation.name.strip("_").removeprefix("linalg_").removeprefix("special_")
    log = search.log
    shapes = [tuple(log.values[u][3]) for u in op.inputs]
    known = [(u, search.tensors[u].detach()) for u in op.inputs if u in search.tensors and floats(search.tensors[u])]
    if op.operation.name in REDUCTIONS and any(0 in shape for shape in shapes[:1]):
        return "empty", op.inputs[0]
    if name in ("std", "var", "std_mean", "var_mean") and shapes and (op.outputs and _alone(shapes[0], log.values[op.outputs[0]][3])):
        return "spread-of-one", op.inputs[0]
    if name in ("cross_entropy", "nll_loss"):
        target = next((u for u in op.inputs[1:] if not log.values[u][2].is_floating_point), -1)
        labels = search.tensors.get(target)
        if labels is not None and labels.numel() and bool((labels < 0).all()):
            return "all-ignored", target
    for u, t in known:
        first = op.inputs and u == op.inputs[0]
        key = _of_operand(name, t, bool(first), len(op.inputs))
        if key.endswith(("-negative", "-outside")) and (search.wanted == "inf" or op.outputs and search.state(op.outputs[0]) == "inf"):
            key = ""  # that would have made NaN
        if key:
            return key, u
    if (
        op.outputs
        and known
        and name in ("mul", "rmul", "imul")
        and search.state(op.outputs[0]) == "nan"
        and all(state_of(t) == "ok" for _, t in known)
    ):
        return "zero-times-inf", known[0][0]
    if known and any(state_of(t) == "inf" for _, t in known):
        if name in ("softmax", "log_softmax", "scaled_dot_product_attention", "multi_head_attention_forward", "logsumexp"):
            return "softmax-row", known[0][0]
        return "inf-meets-inf", next(u for u, t in known if state_of(t) == "inf")
    if name in ("scaled_dot_product_attention", "multi_head_attention_forward"):
        return "softmax-row", -1
    if known and all(state_of(t) == "ok" for _, t in known):
        limit = max(torch.finfo(t.dtype).max for _, t in known)
        big = max(known, key=lambda pair: largest(numbers(pair[1])) if pair[1].numel() else 0.0)
        if big[1].numel() and largest(numbers(big[1])) > limit**0.4:
            return "overflow", big[0]
    return "unknown", -1


def _of_operand(name: str, t: torch.Tensor, first: bool, count: int) -> str:
    if not t.numel() or t.is_complex():
        return ""
    if name in ("div", "truediv", "itruediv", "divide", "true_divide", "fmod", "remainder", "floordiv"):
        return "division" if (not first or count == 1) and bool((t == 0).any()) else ""
    if name in ("rtruediv", "rdiv", "reciprocal"):
        return "division" if bool((t == 0).any()) else ""
    if not first:
        return ""
    low, high = (float(v) for v in torch.aminmax(t)) if not bool(torch.isnan(t).any()) else (0.0, 0.0)
    if name in ("log", "log2", "log10", "xlogy", "logit"):
        return "log-zero" if low == 0 else "log-negative" if low < 0 else ""
    if name == "log1p":
        return "log-zero" if low == -1 else "log-negative" if low < -1 else ""
    if name == "sqrt":
        return "sqrt-negative" if low < 0 else ""
    if name == "rsqrt":
        return "rsqrt" if low <= 0 else ""
    if name in ("acos", "arccos", "asin", "arcsin", "atanh", "arctanh", "erfinv"):
        return "arc-outside" if low < -1 or high > 1 else "arc-edge" if max(-low, high) == 1 else ""
    if name in ("pow", "float_power"):
        return "power-negative" if low < 0 else "division" if bool((t == 0).any()) else ""
    if name in ("exp", "exp2", "expm1", "sinh", "cosh"):
        return "exp-overflow" if high > 0.99 * float(torch.log(torch.tensor(torch.finfo(t.dtype).max, dtype=torch.float64))) else ""
    return ""


def _alone(shape: tuple[int, ...], out: Any) -> bool:
    """Does each spread run over one element only."""
    size, left = 1, 1
    for n in shape:
        size *= n
    for n in tuple(out):
        left *= n
    return size <= left
