"""What undoes a cut at a torch call: each handler looks at one kind, and says NotImplemented where the call is none of it."""

from __future__ import annotations

from typing import Any

import torch

from ..recorder.operations import Operation
from .carried import Carried, carry, leaves, plain, refold
from .claim import Kind, Spot
from .repair import Handler, Repair, exact, inside_library
from .surrogate import ranked, stand_in

_NUMBERS = ("item", "__float__", "tolist")
_LEAK = 0.05
_ARRAYS = ("numpy", "__array__")


def live(value: Any) -> bool:
    """Could a gradient come back through it."""
    return isinstance(value, torch.Tensor) and value.requires_grad and torch.is_grad_enabled()


def same(value: torch.Tensor) -> torch.Tensor:
    """The same numbers in the same memory, with the history."""
    return torch.ops.aten.alias(value)


def detach(repair: Repair, spot: Spot, operation: Operation, func: Any, args: tuple, kwargs: dict) -> Any:
    if operation.name not in ("detach", "detach_") or not live(args[0]):
        return NotImplemented
    repair.hit(Kind.DETACH)
    return args[0] if operation.inplace else repair.passed(same(args[0]))


def data(repair: Repair, spot: Spot, operation: Operation, func: Any, args: tuple, kwargs: dict) -> Any:
    if operation.name != "data" or operation.kind != "cut" or not live(args[0]):
        return NotImplemented
    repair.hit(Kind.DATA)
    return repair.passed(same(args[0]))


def no_grad(repair: Repair, spot: Spot, operation: Operation, func: Any, args: tuple, kwargs: dict) -> Any:
    """The switch itself; the end of a region puts back what was before, as ever."""
    from .regions import leaving

    if operation.name != "_set_grad_enabled" or not args or args[0] or leaving():
        return NotImplemented
    repair.hit(Kind.NO_GRAD)
    return func(True)


def item(repair: Repair, spot: Spot, operation: Operation, func: Any, args: tuple, kwargs: dict) -> Any:
    if operation.name not in _NUMBERS or not args or not live(args[0]) or operation.name == "__float__":
        return NotImplemented
    repair.hit(Kind.ITEM)
    value = repair.passed(same(args[0]))
    return _nested(value) if operation.name == "tolist" else carry(value.reshape(()))


def _nested(value: torch.Tensor) -> Any:
    return [_nested(part) for part in value.unbind()] if value.dim() else carry(value)


def array(repair: Repair, spot: Spot, operation: Operation, func: Any, args: tuple, kwargs: dict) -> Any:
    if operation.name not in _ARRAYS or not args or not live(args[0]):
        return NotImplemented
    repair.hit(Kind.NUMPY)
    value = carry(repair.passed(same(args[0])))
    return value if operation.name == "numpy" else value.__array__()


def factory(repair: Repair, spot: Spot | None, operation: Operation, func: Any, args: tuple, kwargs: dict) -> Any:
    """Data becomes a tensor: at the spot with all its history, elsewhere with that of carried numbers only."""
    position = 1 if operation.name.startswith("new_") or operation.name.startswith("full") else 0
    given = args[position] if len(args) > position else kwargs.get("data", kwargs.get("fill_value"))
    found = leaves(given) if torch.is_grad_enabled() else []
    wanted = spot is not None and Kind.REWRAP in spot.kinds
    if not found or not (wanted or all(isinstance(value, Carried) for value in found)):
        return NotImplemented
    with torch.no_grad():
        like = func(*args, **{**kwargs, "requires_grad": False} if "requires_grad" in kwargs else kwargs)
    if not like.is_floating_point() and not like.is_complex():
        return NotImplemented
    if wanted:
        repair.hit(Kind.REWRAP)
    out = refold(given, like) if not operation.name.startswith("full") else plain(found[0]).expand(like.shape).to(like.dtype)
    return repair.passed(out)


def reparameter(repair: Repair, spot: Spot, operation: Operation, func: Any, args: tuple, kwargs: dict) -> Any:
    value = args[0] if args else None
    if operation.kind != "requires_grad" or not isinstance(value, torch.Tensor) or value.grad_fn is None:
        return NotImplemented
    repair.hit(Kind.REPARAMETER)
    return repair.passed(value)


def frozen(repair: Repair, spot: Spot, operation: Operation, func: Any, args: tuple, kwargs: dict) -> Any:
    if operation.kind != "requires_grad":
        return NotImplemented
    value, on = args[0], args[1] if len(args) > 1 else kwargs.get("requires_grad", True)
    if on or not isinstance(value, torch.Tensor) or not value.is_leaf or not (value.is_floating_point() or value.is_complex()):
        return NotImplemented
    repair.hit(Kind.FROZEN)
    with torch._C.DisableTorchFunction():
        value.requires_grad_(True)
    return value


def second(repair: Repair, spot: Spot, operation: Operation, func: Any, args: tuple, kwargs: dict) -> Any:
    """A gradient that can be differentiated again."""
    if operation.kind != "autograd.grad" or kwargs.get("create_graph") or len(args) > 4:
        return NotImplemented
    repair.hit(Kind.SECOND)
    out = func(*args, **{**kwargs, "create_graph": True})
    for gradient in out:
        if isinstance(gradient, torch.Tensor):
            repair.passed(gradient)
    return out


def non_leaf(repair: Repair, spot: Spot, operation: Operation, func: Any, args: tuple, kwargs: dict) -> Any:
    """The result of an operation on leaves becomes the leaf that it was meant to be."""
    given = [value for value in (*args, *kwargs.values()) if isinstance(value, torch.Tensor) and value.requires_grad]
    out = func(*args, **kwargs)
    if not given or not all(value.is_leaf for value in given) or not isinstance(out, torch.Tensor) or out.grad_fn is None:
        return out
    repair.hit(Kind.NON_LEAF)
    with torch._C.DisableTorchFunction():
        is_parameter = any(isinstance(value, torch.nn.Parameter) for value in given)
        leaf = torch.nn.Parameter(out.detach()) if is_parameter else out.detach().requires_grad_()
    repair.witnesses.append(leaf)
    return leaf


def rounded(repair: Repair, spot: Spot, operation: Operation, func: Any, args: tuple, kwargs: dict) -> Any:
    """A stand-in gives the gradient that the operation has not got, and where that is zero here, the value too."""
    if operation.kind != "op" or not torch.is_grad_enabled() or inside_library(repair.frame()):
        return NotImplemented
    out = func(*args, **kwargs)
    kind = Kind.SMOOTH if Kind.SMOOTH in spot.kinds else Kind.ROUND
    both = ranked(operation.name, args, out)
    instead = both[1] if both is not None else stand_in(operation.name, args, kwargs, out, kind is Kind.SMOOTH)
    if instead is None:
        return out
    repair.hit(kind)
    repair.passed(instead)
    return both or instead


def flat(repair: Repair, spot: Spot, operation: Operation, func: Any, args: tuple, kwargs: dict) -> Any:
    """A small part of what goes in comes out as well, as from a leaky ReLU: so the result is flat nowhere."""
    out = func(*args, **kwargs)
    if operation.kind != "op" or not isinstance(out, torch.Tensor) or not out.requires_grad or not exact(repair.frame(), spot):
        return out
    given = next((v for v in args if isinstance(v, torch.Tensor) and v.requires_grad and v.shape == out.shape), None)
    if given is None:
        return out
    repair.hit(Kind.FLAT)
    return repair.passed(out + _LEAK * (given.to(out.dtype) - out))


HANDLERS: dict[Kind, Handler] = {
    Kind.DETACH: detach,
    Kind.DATA: data,
    Kind.NO_GRAD: no_grad,
    Kind.ITEM: item,
    Kind.NUMPY: array,
    Kind.REPARAMETER: reparameter,
    Kind.SECOND: second,
    Kind.FROZEN: frozen,
    Kind.NON_LEAF: non_leaf,
    Kind.ROUND: rounded,
    Kind.SMOOTH: rounded,
    Kind.FLAT: flat,
}
