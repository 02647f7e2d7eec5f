"""What is checked, as a function of a flat list of float64 tensors that belong to nobody: copies of the user's, with names."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from ..errors import UsageError

COMPLEX = {torch.float64: torch.complex128, torch.float32: torch.complex64}
Call = Callable[[list[torch.Tensor]], Any]


@dataclass(slots=True)
class Leaf:
    """A tensor that the gradient is checked for. ``argument`` is its place among the arguments, from 1; 0 for a parameter."""

    name: str
    tensor: torch.Tensor
    argument: int = 0
    marked: bool = False  # the user's tensor required grad

    @property
    def words(self) -> str:
        """As a message names it."""
        return f"argument {self.argument} (`{self.name}`)" if self.argument else f"`{self.name}`"


@dataclass(slots=True)
class Output:
    """A tensor that came out, under the name that it has in what the function returned."""

    name: str
    tensor: torch.Tensor


@dataclass(slots=True)
class Subject:
    """``call`` takes one tensor for each leaf; ``run`` gives what comes out as named tensors."""

    name: str
    leaves: list[Leaf]
    call: Call
    notes: list[str] = field(default_factory=list)
    argument_names: list[str] = field(default_factory=list)

    def run(self, tensors: Sequence[torch.Tensor]) -> list[Output]:
        """One call. Clones go in: an in-place function then changes nobody's tensor, and works on a leaf too."""
        given = [t.clone() for t in tensors]
        found: list[Output] = []
        _flatten(self.call(given), "out", found)
        return found


def subject(
    fn: Any, inputs: Any, kwargs: Mapping[str, Any] | None, wrt: Sequence[str] | None, dtype: torch.dtype, *, only_marked: bool = False
) -> Subject:
    """The subject of a check. Raises UsageError where there is nothing to differentiate, or nothing to call."""
    owner, target, name, signature = _target(fn)
    args, keywords = _arguments(inputs, kwargs)
    names = _names(signature, len(args))
    found = Subject(name, [], lambda tensors: None, argument_names=names)
    taken: list[Leaf] = []

    def visit(value: Any, path: str, number: int) -> Any:
        return _walk(value, path, lambda tensor, where: _take(tensor, where, number, taken, dtype, found.notes))

    plan_args = [visit(value, names[i], i + 1) for i, value in enumerate(args)]
    plan_keywords = {key: visit(value, key, 0) for key, value in keywords.items()}
    weights = _weights(owner, dtype) if owner is not None else None
    _choose(taken, weights.leaves if weights else [], wrt, found, only_marked)
    if weights:
        found.leaves += [leaf for leaf in weights.leaves if wrt is None or leaf.name in wrt]
    if not found.leaves:
        raise UsageError(
            f"{name} was given no floating-point or complex tensor (arguments: {', '.join(type(a).__name__ for a in args) or 'none'}): "
            f"there is nothing to differentiate. {' '.join(found.notes) or 'Give the tensors as inputs=(x, y).'}"
        )
    position = {id(leaf): i for i, leaf in enumerate(found.leaves)}

    def call(tensors: list[torch.Tensor]) -> Any:
        def put(slot: Any) -> Any:
            return _fill(slot, lambda leaf: tensors[position[id(leaf)]] if id(leaf) in position else leaf.tensor.clone())

        args = [put(slot) for slot in plan_args]
        keywords = {key: put(slot) for key, slot in plan_keywords.items()}
        if weights is None:
            return target(*args, **keywords)
        current = {leaf.name: tensors[position[id(leaf)]] for leaf in weights.leaves if id(leaf) in position}
        return weights.call(current, args, keywords)

    found.call = call
    return found


def _target(fn: Any) -> tuple[nn.Module | tuple[nn.Module, str] | None, Any, str, Any]:
    """The module that owns the parameters where there is one, what is called, its name, and what has the signature."""
    if isinstance(fn, type) and issubclass(fn, torch.autograd.Function):
        plain = fn.setup_context is torch.autograd.Function.setup_context
        return None, fn.apply, fn.__name__, _without_context(fn.forward) if plain else fn.forward
    if isinstance(fn, nn.Module):
        return fn, fn, type(fn).__name__, fn.forward
    bound = getattr(fn, "__self__", None)
    if isinstance(bound, nn.Module) and inspect.ismethod(fn):
        return (bound, fn.__name__), fn, f"{type(bound).__name__}.{fn.__name__}", fn
    if not callable(fn):
        raise UsageError(
            f"fn is of type {type(fn).__name__}; a function, an nn.Module or a subclass of torch.autograd.Function is expected: "
            "numeric_check(fn, inputs)"
        )
    if isinstance(fn, type):
        raise UsageError(f"fn is the class {fn.__name__}; give a function, a module (an instance), or a torch.autograd.Function.")
    owner = _apply_of(fn)
    if owner is not None:  # Function.apply, as it is used
        return _target(owner)
    return None, fn, getattr(fn, "__name__", None) or type(fn).__name__, fn


def _apply_of(fn: Any) -> type | None:
    bound = getattr(fn, "__self__", None)
    known = isinstance(bound, type) and issubclass(bound, torch.autograd.Function) and getattr(fn, "__name__", "") == "apply"
    return bound if known else None


def _without_context(forward: Any) -> Any:
    parameters = list(inspect.signature(forward).parameters.values())[1:]
    return inspect.Signature(parameters) if parameters else inspect.Signature()


def _arguments(inputs: Any, kwargs: Mapping[str, Any] | None) -> tuple[list[Any], dict[str, Any]]:
    if isinstance(inputs, Mapping):
        if kwargs:
            raise UsageError("keyword arguments were given twice: as inputs={...} and as kwargs={...}. Give one of them.")
        return [], dict(inputs)
    args = list(inputs) if isinstance(inputs, list | tuple) else [inputs]
    return args, dict(kwargs or {})


def _names(signature: Any, count: int) -> list[str]:
    """What the function calls its positional arguments."""
    try:
        known = signature if isinstance(signature, inspect.Signature) else inspect.signature(signature)
    except (TypeError, ValueError):
        return [f"input{i}" for i in range(count)]
    names: list[str] = []
    rest = None
    for parameter in known.parameters.values():
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            names.append(parameter.name)
        elif parameter.kind is parameter.VAR_POSITIONAL:
            rest = parameter.name
    names = names[:count]
    return names + [f"{rest or 'input'}[{i}]" for i in range(count - len(names))]


def _take(tensor: torch.Tensor, path: str, number: int, taken: list[Leaf], dtype: torch.dtype, notes: list[str]) -> Any:
    if not (tensor.is_floating_point() or tensor.is_complex()):
        return tensor.detach().clone()
    if tensor.is_meta:
        raise UsageError(f"`{path}` is on the meta device: it has no numbers to compute with. Give a tensor on the CPU or on a GPU.")
    if tensor.layout != torch.strided:
        notes.append(f"`{path}` is sparse: passed on as it is, not checked")
        return tensor.detach().to(COMPLEX[dtype] if tensor.is_complex() else dtype)
    leaf = Leaf(path, copied(tensor, dtype), number, tensor.requires_grad)
    taken.append(leaf)
    return leaf


def copied(tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """A tensor of its own, in the precision of the check; on the CPU where the device has no such precision."""
    own = tensor.clone().detach().resolve_conj().resolve_neg()
    if own.device.type == "mps" and dtype == torch.float64:
        own = own.cpu()
    return own.to(COMPLEX[dtype] if own.is_complex() else dtype).as_subclass(torch.Tensor)


def _choose(taken: list[Leaf], weights: list[Leaf], wrt: Sequence[str] | None, found: Subject, only_marked: bool) -> None:
    """Which arguments are checked: those named, else those that require grad, else all."""
    if wrt is not None:
        unknown = [name for name in wrt if name not in {leaf.name for leaf in [*taken, *weights]}]
        if unknown:
            have = ", ".join(leaf.name for leaf in [*taken, *weights]) or "none"
            raise UsageError(f"wrt={list(wrt)!r}: {unknown[0]!r} is no tensor of the call. Tensors that can be checked: {have}.")
        found.leaves = [leaf for leaf in taken if leaf.name in wrt]
        return
    marked = [leaf for leaf in taken if leaf.marked]
    found.leaves = marked or ([] if only_marked else list(taken))
    left = [leaf.name for leaf in taken if leaf not in found.leaves]
    if left and not only_marked:
        found.notes.append(f"not checked, because they do not require grad: {', '.join(f'`{name}`' for name in left)} (wrt=[...] chooses)")


@dataclass(slots=True)
class _Weights:
    leaves: list[Leaf]
    call: Callable[[dict[str, torch.Tensor], list, dict], Any]


class _Method(nn.Module):
    """A method of a module as a module, so that its parameters can be replaced for one call."""

    def __init__(self, module: nn.Module, method: str | None):
        super().__init__()
        self.it, self._method = module, method

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return getattr(self.it, self._method)(*args, **kwargs) if self._method else self.it(*args, **kwargs)


def _weights(owner: nn.Module | tuple[nn.Module, str], dtype: torch.dtype) -> _Weights:
    """The parameters of a copy in the precision of the check, and the call with other tensors in their place."""
    module, method = owner if isinstance(owner, tuple) else (owner, None)
    module = getattr(module, "_orig_mod", module)  # behind torch.compile
    try:
        own = copy.deepcopy(module)
        for tensor in [*own.parameters(), *own.buffers()]:
            if tensor.is_floating_point() or tensor.is_complex():
                tensor.data = copied(tensor.data, dtype)
        leaves = [Leaf(name, p.detach(), 0, True) for name, p in own.named_parameters() if p.requires_grad and _plain(p)]
        buffers = {f"it.{name}": b.detach().clone() for name, b in own.named_buffers()}
    except Exception as error:
        if any(torch.nn.parameter.is_lazy(p) for p in module.parameters()):
            raise UsageError(f"{type(module).__name__} has parameters without a shape yet: call it once on a batch first.") from None
        raise UsageError(
            f"{type(module).__name__} cannot be copied ({type(error).__name__}: {error}). Give a function of tensors instead, "
            "for example lambda x, w: torch.func.functional_call(module, {'weight': w}, (x,))."
        ) from None
    shell = _Method(own, method)

    def call(current: dict[str, torch.Tensor], args: list, kwargs: dict) -> Any:
        # Buffers are given anew each time: batch norm's running numbers must not move between two calls.
        fresh = {f"it.{name}": t for name, t in current.items()} | {name: b.clone() for name, b in buffers.items()}
        return torch.func.functional_call(shell, fresh, tuple(args), kwargs)

    return _Weights(leaves, call)


def _plain(tensor: torch.Tensor) -> bool:
    return (tensor.is_floating_point() or tensor.is_complex()) and tensor.layout == torch.strided and not tensor.is_meta


def _walk(value: Any, path: str, take: Callable[[torch.Tensor, str], Any]) -> Any:
    """The same nest of lists, tuples and dicts, with ``take`` applied to the tensors."""
    if isinstance(value, torch.Tensor):
        return take(value, path)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(_walk(v, f"{path}.{name}", take) for name, v in zip(value._fields, value)))
    if type(value) in (list, tuple):
        return type(value)(_walk(v, f"{path}[{i}]", take) for i, v in enumerate(value))
    if type(value) is dict:
        return {key: _walk(v, f"{path}[{key!r}]", take) for key, v in value.items()}
    return value


def _fill(slot: Any, put: Callable[[Leaf], torch.Tensor]) -> Any:
    if isinstance(slot, Leaf):
        return put(slot)
    if isinstance(slot, torch.Tensor):
        return slot.clone()
    if isinstance(slot, tuple) and hasattr(slot, "_fields"):
        return type(slot)(*(_fill(v, put) for v in slot))
    if type(slot) in (list, tuple):
        return type(slot)(_fill(v, put) for v in slot)
    if type(slot) is dict:
        return {key: _fill(v, put) for key, v in slot.items()}
    return slot


def _flatten(value: Any, path: str, found: list[Output]) -> None:
    """Every tensor in what a function returned."""
    if isinstance(value, torch.Tensor):
        found.append(Output(path, value))
    elif isinstance(value, Output):
        found.append(value)
    elif isinstance(value, Mapping):
        for key, part in value.items():
            _flatten(part, f"{path}[{key!r}]", found)
    elif isinstance(value, tuple) and hasattr(value, "_fields"):
        for name, part in zip(value._fields, value):
            _flatten(part, f"{path}.{name}", found)
    elif isinstance(value, list | tuple):
        for i, part in enumerate(value):
            _flatten(part, f"{path}[{i}]", found)
