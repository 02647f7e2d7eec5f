"""Who the leaves of a walked graph are: names from the model and from the user's variables, and what their ``.grad`` holds."""

from __future__ import annotations

import types
import weakref
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from ...recorder.gradients import norms
from ...recorder.gradients import state as word
from ...recorder.roots import unwrapped

_PLAIN = (str, bytes, int, float, complex, bool, type(None), type, types.ModuleType, types.FunctionType, types.BuiltinFunctionType)
_SHELL = frozenset(("In", "Out", "exit", "quit", "get_ipython"))
_MOST = 64  # items of one container that are looked at
_STATES = {"zero": "zero", "nan": "nan", "inf": "inf"}


class Names:
    """Names of tensors by identity. It looks at living objects of the user's: use it up before they can change."""

    def __init__(self, model: torch.nn.Module | None, namespace: Mapping[str, Any] | None):
        self.variables: dict[int, str] = {}  # id of a tensor -> the user's variable
        self.tensors: list[torch.Tensor] = []  # … those tensors
        self.modules: dict[str, torch.nn.Module] = {}  # path -> module, of the model and of those in the namespace that take part
        self.model = unwrapped(model) if model is not None else None
        self.roots: list[tuple[str, torch.nn.Module]] = []  # the user's variable, module
        self._parameters: dict[int, list[tuple[str, str]]] = {}  # id of a tensor -> its names and the paths of the modules that hold it
        for name, value in _things(namespace or {}):
            if isinstance(value, torch.nn.Module):
                self.roots.append((name, unwrapped(value)))
            elif id(value) not in self.variables:
                self.variables[id(value)] = name
                self.tensors.append(value)

    def learn(self, leaves: list[torch.Tensor]) -> None:
        """Take the modules that hold some of these leaves; parameter names carry the variable in front where there are several."""
        wanted = {id(leaf) for leaf in leaves}
        taking: dict[int, tuple[str, torch.nn.Module]] = {}
        if self.model is not None:
            name = next((name for name, root in self.roots if root is self.model), type(self.model).__name__.lower())
            taking[id(self.model)] = (name, self.model)
            wanted -= {id(p) for p in self.model.parameters()}
        inner = {id(part) for _, root in self.roots for part in root.modules() if part is not root}
        for name, root in self.roots:
            if id(root) not in inner and any(id(p) in wanted for p in root.parameters()):
                taking.setdefault(id(root), (name, root))
        for name, root in taking.values():
            self._take(name, root, prefix=len(taking) > 1 and root is not self.model)

    def _take(self, name: str, root: torch.nn.Module, *, prefix: bool) -> None:
        first: dict[int, str] = {}
        for path, module in root.named_modules():
            first[id(module)] = path
            self._hold(name, path, module, prefix)
        for path, module in root.named_modules():
            for key, child in module._modules.items():
                again = ".".join(part for part in (path, key) if part)
                if child is not None and first[id(child)] != again:  # one module under two names
                    self._hold(name, again, child, prefix)

    def _hold(self, root: str, path: str, module: torch.nn.Module, prefix: bool) -> None:
        full = f"{root}.{path}" if path else root
        self.modules[full] = module
        for key, parameter in module._parameters.items():
            if parameter is not None:
                name = f"{path}.{key}" if path else key
                self._parameters.setdefault(id(parameter), []).append((f"{root}.{name}" if prefix else name, full))

    def parameter(self, tensor: torch.Tensor) -> list[tuple[str, str]]:
        """Every (name, path of its module) that a parameter has: several where it is tied."""
        return self._parameters.get(id(tensor), [])

    def variable(self, tensor: torch.Tensor) -> str:
        return self.variables.get(id(tensor), "")

    def operations(self) -> dict[Any, tuple[str, torch.Tensor]]:
        """Autograd node -> the user's variable that holds its first result."""
        found: dict[Any, tuple[str, torch.Tensor]] = {}
        for tensor in self.tensors:
            node = tensor.grad_fn
            if node is not None and tensor.output_nr == 0:
                found.setdefault(node, (self.variables[id(tensor)], tensor))
        return found

    def classes(self) -> dict[str, str]:
        return {path: type(module).__name__ for path, module in self.modules.items()}


def gradients(leaves: list[torch.Tensor]) -> list[tuple[str, float | None]]:
    """State and L2 norm of each leaf's ``.grad``. Without one it is starved where another leaf has one; before any backward it flows.

    Reads only: ``.grad`` stays the tensor it is.
    """
    held = [(i, leaf.grad) for i, leaf in enumerate(leaves) if leaf.grad is not None]
    found: list[tuple[str, float | None]] = [("starved" if held else "flows", None)] * len(leaves)
    for (i, _), norm in zip(held, norms([grad.detach() for _, grad in held])):  # type: ignore[union-attr]
        found[i] = (state(norm), norm)
    return [(s if leaf.requires_grad else "frozen", n) for leaf, (s, n) in zip(leaves, found)]


def state(norm: float | None) -> str:
    """The state of a thing that a gradient of this L2 norm arrived at; one that cannot be read is taken to be fine."""
    return _STATES.get(word(norm), "flows")


def _things(namespace: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Tensors and modules in the namespace, in its containers and in the attributes of its plain objects."""
    for name, value in list(namespace.items()):
        if not isinstance(name, str) or name.startswith("_") or name in _SHELL or type(value) in weakref.ProxyTypes:
            continue
        if isinstance(value, (torch.Tensor, torch.nn.Module)):
            yield name, value
        elif not isinstance(value, _PLAIN):
            for label, item in _items(name, value):
                if type(item) not in weakref.ProxyTypes and isinstance(item, (torch.Tensor, torch.nn.Module)):
                    yield label, item


def _items(name: str, value: Any) -> list[tuple[str, Any]]:
    kind = type(value)
    if kind in (list, tuple):
        return [(f"{name}[{i}]", item) for i, item in enumerate(value[:_MOST])]
    if kind is dict:
        return [(f"{name}[{key!r}]", item) for key, item in list(value.items())[:_MOST] if isinstance(key, (str, int))]
    if kind.__module__.startswith(("torch.", "numpy", "IPython", "matplotlib", "pandas")):
        return []
    attributes = getattr(value, "__dict__", None)
    if not isinstance(attributes, dict):
        return []
    return [(f"{name}.{key}", item) for key, item in list(attributes.items())[:_MOST] if isinstance(key, str)]
