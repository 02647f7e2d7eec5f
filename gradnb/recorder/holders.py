"""Parameters that hide where ``Module.parameters()`` does not look: lists, dicts, closures, plain objects."""

from __future__ import annotations

import functools
import types
import weakref
from typing import Any, Iterator

import torch

_OWN = set(
    "_parameters _buffers _modules _non_persistent_buffers_set training _forward_hooks _forward_pre_hooks _backward_hooks "
    "_backward_pre_hooks _is_full_backward_hook _forward_hooks_with_kwargs _forward_hooks_always_called _forward_pre_hooks_with_kwargs "
    "_state_dict_hooks _state_dict_pre_hooks _load_state_dict_pre_hooks _load_state_dict_post_hooks _compiled_call_impl".split()
)

_PLAIN = (str, bytes, int, float, bool, type(None), type, types.ModuleType)


def hidden(module: torch.nn.Module) -> Iterator[tuple[str, str, list[str], list[torch.Tensor]]]:
    """For each attribute that hides something: its name, ``"parameters"`` or ``"non-leaf"``, name suffixes, tensors."""
    mine = {id(p) for p in module.parameters()}
    inside = {id(m) for m in module.modules()}
    for attribute, value in list(vars(module).items()):
        if attribute in _OWN or type(value) in weakref.ProxyTypes:
            continue
        if isinstance(value, torch.Tensor):
            if value.requires_grad and not value.is_leaf:
                yield attribute, "non-leaf", [""], [value]
            elif value.requires_grad and id(value) not in mine:
                yield attribute, "parameters", [""], [value]
            continue
        names: list[str] = []
        tensors: list[torch.Tensor] = []
        for suffix, tensor in _search(value, "", 0, set(), inside):
            if id(tensor) not in mine and tensor.is_leaf:
                names.append(suffix)
                tensors.append(tensor)
        if tensors:
            yield attribute, "parameters", names, tensors


def _search(value: Any, path: str, depth: int, seen: set[int], inside: set[int]) -> Iterator[tuple[str, torch.Tensor]]:
    if depth > 5 or id(value) in seen or isinstance(value, _PLAIN) or type(value) in weakref.ProxyTypes:
        return
    seen.add(id(value))
    if isinstance(value, torch.nn.Module):
        if id(value) not in inside and value.training:  # one in eval mode is hidden on purpose: a fixed feature network
            for name, parameter in value.named_parameters():
                yield f"{path}.{name}", parameter
        return
    if isinstance(value, torch.Tensor):
        if isinstance(value, torch.nn.Parameter) or value.requires_grad:
            yield path, value
        return
    items: list[tuple[str, Any]] = []
    if isinstance(value, dict):
        items = [(f"{path}[{key!r}]", item) for key, item in list(value.items())[:128]]
    elif isinstance(value, (list, tuple, set, frozenset)):
        items = [(f"{path}[{i}]", item) for i, item in enumerate(list(value)[:128])]
    elif isinstance(value, types.FunctionType):
        for name, cell in zip(value.__code__.co_freevars, value.__closure__ or ()):
            try:
                if name != "self":
                    items.append((f"{path}.<{name}>", cell.cell_contents))
            except ValueError:  # a cell that is still empty
                pass
    elif isinstance(value, functools.partial):
        items = [(path, value.func), (path, value.args), (path, value.keywords)]
    elif isinstance(value, types.MethodType):
        return
    elif isinstance(getattr(value, "__dict__", None), dict) and not type(value).__module__.startswith(("torch.", "numpy", "builtins")):
        items = [(f"{path}.{key}", item) for key, item in list(vars(value).items())[:64]]
    for label, item in items:
        yield from _search(item, label, depth + 1, seen, inside)
