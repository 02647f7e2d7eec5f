"""Who is who: which modules, parameters and optimizers there are, and what the user calls them."""

from __future__ import annotations

import types
import weakref
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Iterator

import torch
from torch.nn.parameter import UninitializedTensorMixin  # type: ignore[attr-defined]

from .holders import hidden
from .roots import called_as, unwrapped

if TYPE_CHECKING:
    from .events import RawOptimizer
    from .recorder import Recorder

_PLAIN = (str, bytes, int, float, complex, bool, type(None), type, types.ModuleType, types.FunctionType, types.BuiltinFunctionType)


@dataclass(slots=True)
class Person:
    """A parameter: the facts that stay when its tensor is gone."""

    number: int
    reference: weakref.ref
    values: list[int] = field(default_factory=list)
    name: str = ""
    local: str = ""  # its name within its root module
    root: str = ""
    owner: str = ""
    owner_library: bool = False
    registered: bool = False
    shape: tuple[int, ...] = ()
    dtype: str = ""
    device: str = ""
    trainable: bool = True
    ever_trainable: bool = False
    leaf: bool = True
    is_parameter: bool = False
    training: bool = True
    called: bool = False
    attributes: tuple[str, ...] = ()
    from_namespace: bool = False


class Census:
    def __init__(self, recorder: "Recorder"):
        self.recorder = recorder
        self.people: list[Person] = []
        self.dirty = True
        self.roots: dict[str, weakref.ref] = {}
        self.module_names: dict[int, str] = {}  # module index -> path, roots in front
        self.paths: dict[str, tuple[str, str]] = {}  # path, as in module_names -> the same with its root in front, class name
        self.buffers: dict[int, str] = {}  # group of the values that stand for a module's buffer -> its path, root in front
        self._met: set[str] = set()  # roots that no variable holds: the user's code called them
        self._behind: list[tuple[str, str, torch.nn.Module]] = []
        self.hidden: dict[tuple[int, str], dict] = {}
        self.flags: dict[int, tuple[str, str, bool]] = {}  # id of a module -> its class, name and value of a stray requires_grad attribute
        self.optimizer_labels: dict[int, str] = {}  # id of an optimizer -> the user's variable
        self._ids: dict[int, int] = {}
        self._called: list[tuple[weakref.ref, str]] = []

    # -- parameters ----------------------------------------------------------------------------------------------------

    def number(self, tensor: torch.Tensor) -> int:
        found = self._ids.get(id(tensor))
        if found is not None and self.people[found].reference() is tensor:
            return found
        person = Person(len(self.people), weakref.ref(tensor))
        if isinstance(tensor, UninitializedTensorMixin):
            person.is_parameter, person.ever_trainable = True, True
            self.people.append(person)
            self._ids[id(tensor)] = person.number
            return person.number
        person.shape, person.dtype, person.device = tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."), str(tensor.device)
        person.is_parameter = isinstance(tensor, torch.nn.Parameter)
        person.leaf = tensor.is_leaf
        person.trainable = person.ever_trainable = tensor.requires_grad
        self.people.append(person)
        self._ids[id(tensor)] = person.number
        self.dirty = True
        return person.number

    def tensor(self, number: int) -> Any:
        return self.people[number].reference()

    def leaf(self, tensor: torch.Tensor, value: int) -> None:
        person = self.people[self.number(tensor)]
        if not person.values or person.values[-1] != value:
            person.values.append(value)

    def living(self) -> list[tuple[int, torch.Tensor]]:
        found = []
        for person in self.people:
            tensor = person.reference()
            if tensor is not None:
                found.append((person.number, tensor))
        return found

    def optimizer(self, raw: "RawOptimizer", optimizer: Any) -> None:
        signature = tuple(
            [
                (len(g["params"]), id(g["params"][0]) if g["params"] else 0, id(g["params"][-1]) if g["params"] else 0)
                for g in optimizer.param_groups
            ]
        )
        if raw.signature == signature:
            return
        raw.signature = signature
        raw.maximize = any(group.get("maximize", False) for group in optimizer.param_groups)
        raw.groups = [[self.number(p) for p in group["params"]] for group in optimizer.param_groups]
        raw.empty_groups = tuple(i for i, group in enumerate(optimizer.param_groups) if not group["params"])

    # -- names ---------------------------------------------------------------------------------------------------------

    def called_root(self, module: torch.nn.Module, frame: Any) -> None:
        """A module called by the user's code, outside any other module: remember what it is called there."""
        if len(self._called) < 500:
            # reading f_locals makes a copy of the names only
            name, root = called_as(module, frame.f_locals if frame is not None else {})
            self._called.append((weakref.ref(root), name))
            self.dirty = True

    def take(self, first: bool = False) -> None:
        """Look at what stands in the namespace and what was met, and give everything its name."""
        if not self.dirty:
            return
        modules: dict[int, tuple[str, torch.nn.Module]] = {}
        loose: dict[int, tuple[str, torch.Tensor]] = {}
        for name, value in self._walk():
            if isinstance(value, torch.nn.Module):
                meant = unwrapped(value)
                if id(meant) not in modules or len(name) < len(modules[id(meant)][0]):
                    modules[id(meant)] = (name, meant)
            elif isinstance(value, torch.optim.Optimizer):
                self.optimizer_labels.setdefault(id(value), name)
            elif isinstance(value, torch.Tensor):
                loose.setdefault(id(value), (name, value))
        for reference, name in self._called:
            module = reference()
            if module is not None and id(meant := unwrapped(module)) not in modules:
                modules[id(meant)] = (name, meant)
                self._met.add(name)
        inner = {id(m) for _, module in modules.values() for m in module.modules() if m is not module}
        roots = [(name, module) for name, module in modules.values() if id(module) not in inner]
        for name, module in roots:
            self.roots[name] = weakref.ref(module)
        with_parameters = [n for n, m in roots if next(m.parameters(), None) is not None]
        for name, module in roots:
            self._name_module(name, module, prefix=len(with_parameters) > 1)
        for name, label, module in self._behind:
            self._look_behind(name, label, module)
        self._behind = []
        for name, tensor in loose.values():
            if tensor.requires_grad or isinstance(tensor, torch.nn.Parameter):
                found = self._ids.get(id(tensor))
                if found is None and (not tensor.is_leaf):
                    continue
                person = self.people[self.number(tensor)]
                person.name = person.name or name
                person.from_namespace = True
        for person in self.people:
            tensor = person.reference()  # type: ignore[assignment]
            if tensor is not None:
                person.trainable = tensor.requires_grad
                person.ever_trainable = person.ever_trainable or tensor.requires_grad
        self.dirty = False

    def _name_module(self, name: str, root: torch.nn.Module, *, prefix: bool) -> None:
        recorder = self.recorder
        for path, module in root.named_modules():
            library = type(module).__module__.startswith("torch.")
            label = ".".join(part for part in (name if prefix else "", path) if part)
            full = f"{name}.{path}" if path else name
            self.paths[label or name] = (full, type(module).__name__)
            for key, buffer in module._buffers.items():
                if buffer is not None and (value := recorder.log.known(buffer)) >= 0:
                    self.buffers[recorder.log.group(value)] = f"{full}.{key}"
            if recorder.was_called(module):
                self.module_names[recorder.module_index(module)] = label or name
            stray = module.__dict__.get("requires_grad")
            if isinstance(stray, bool):
                self.flags[id(module)] = (type(module).__name__, label or name, stray)
            for key, parameter in module._parameters.items():
                if parameter is None:
                    continue
                person = self.people[self.number(parameter)]
                person.local = ".".join(part for part in (path, key) if part)
                person.name = ".".join(part for part in (label, key) if part)
                person.root, person.registered = name, True
                person.owner, person.owner_library = type(module).__name__, library
                person.training = module.training
                person.called = person.called or recorder.was_called(module)
                if parameter.__dict__:
                    person.attributes = tuple(parameter.__dict__)
            if not library:
                self._behind.append((name, label, module))

    def _look_behind(self, root: str, label: str, module: torch.nn.Module) -> None:
        for attribute, kind, names, tensors in hidden(module):
            numbers = []
            for suffix, tensor in zip(names, tensors):
                known = self._ids.get(id(tensor))
                if kind == "non-leaf" or known is None and self.recorder.log.known(tensor) < 0:
                    numbers.append(-1)
                    continue
                number = self.number(tensor)
                person = self.people[number]
                if person.root in self._met and person.root != root and kind == "parameters":
                    person.registered, person.name, person.root = False, "", ""  # a root only because it was called on its own
                if not person.registered:
                    person.name = person.name or ".".join(part for part in (label, attribute + suffix) if part)
                    person.root = person.root or root
                numbers.append(number)
            key = (id(module), attribute)
            value = self.recorder.log.known(tensors[0]) if tensors else -1
            self.hidden[key] = {
                "owner": type(module).__name__,
                "attribute": attribute,
                "kind": kind,
                "names": tuple(".".join(part for part in (label, attribute + s) if part) for s in names),
                "numbers": tuple(numbers),
                "root": root,
                "value": value,
                "code": _init_code(type(module)),
            }

    def replaced(self) -> set[int]:
        """The parameters of a model whose name means another model by now."""
        meant = {name: root for name, reference in self.roots.items() if (root := reference()) is not None}
        now = {id(p) for root in meant.values() for p in root.parameters()}
        return {p.number for p in self.people if p.registered and p.root in meant and id(p.reference()) not in now}

    def shared(self) -> dict[str, tuple[str, ...]]:
        """The modules that stand in several places of their root: first path -> the other ones, root in front."""
        found: dict[str, tuple[str, ...]] = {}
        for name, reference in self.roots.items():
            root = reference()
            if root is None:
                continue
            paths: dict[int, list[str]] = {}
            for path, module in root.named_modules(remove_duplicate=False):
                paths.setdefault(id(module), []).append(f"{name}.{path}" if path else name)
            found.update((first, tuple(others)) for first, *others in paths.values() if others)
        return found

    def paddings(self) -> set[tuple[int, int]]:
        """The ``padding_idx`` of every embedding in the root modules, with the number of its rows."""
        roots = [root for reference in self.roots.values() if (root := reference()) is not None]
        found = [
            (m.padding_idx, m.num_embeddings)
            for root in roots
            for m in root.modules()
            if isinstance(m, (torch.nn.Embedding, torch.nn.EmbeddingBag))
        ]
        return {(index, rows) for index, rows in found if index is not None}

    # -- the namespace ---------------------------------------------------------------------------------------------------

    def _walk(self) -> Iterator[tuple[str, Any]]:
        """Modules, optimizers and tensors in the namespace, in containers and in plain objects two levels deep."""
        seen: set[int] = set()
        for name, value in list(self.recorder.namespace.items() if self.recorder.namespace is not None else ()):
            if name.startswith("_") or name in ("In", "Out", "exit", "quit"):
                continue
            yield from self._inside(name, value, 0, seen)

    def _inside(self, name: str, value: Any, depth: int, seen: set[int]) -> Iterator[tuple[str, Any]]:
        if isinstance(value, _PLAIN) or type(value) in weakref.ProxyTypes or id(value) in seen and not isinstance(value, torch.nn.Module):
            return
        if isinstance(value, (torch.nn.Module, torch.Tensor, torch.optim.Optimizer)):
            yield name, value
            return
        if depth > 2:
            return
        seen.add(id(value))
        if isinstance(value, dict):
            items = [(f"{name}[{key!r}]", item) for key, item in list(value.items())[:64]]
        elif isinstance(value, (list, tuple)):
            items = [(f"{name}[{i}]", item) for i, item in enumerate(value[:64])]
        else:
            kind = type(value)
            if kind.__module__.startswith(("torch.", "numpy", "IPython", "matplotlib", "pandas")) or not isinstance(
                getattr(value, "__dict__", None), dict
            ):
                return
            items = [(f"{name}.{key}", item) for key, item in list(vars(value).items())[:64] if isinstance(key, str)]
        for label, item in items:
            yield from self._inside(label, item, depth + 1, seen)


def _init_code(cls: type) -> tuple[str, int] | None:
    """Where the class's ``__init__`` stands, to find its assignments in the source."""
    code = getattr(getattr(cls, "__init__", None), "__code__", None)
    return (code.co_filename, code.co_firstlineno) if code is not None else None
