"""Which errors of gradnb's own a public function can raise: a walk over the code that it calls by name."""

from __future__ import annotations

import ast
import builtins
import functools
import importlib
import inspect
import textwrap
import types
from typing import Any

from gradnb.checkpoint.errors import CheckpointError
from gradnb.errors import GradientError, GradientFlowError, UsageError

OWN = (CheckpointError, GradientError, GradientFlowError, UsageError)


@functools.cache
def raised(code: Any, owner: type | None = None) -> frozenset[str]:
    """The names of the error classes. Calls through objects that the code does not name are not followed: it may miss some."""
    return frozenset(_walk(code, owner, set()))


def _walk(code: Any, owner: type | None, seen: set[Any]) -> set[str]:
    code = inspect.unwrap(code)
    if not isinstance(code, types.FunctionType) or (code, owner) in seen or not code.__module__.startswith("gradnb"):
        return set()
    seen.add((code, owner))
    tree = _tree(code)
    return _Reader(code, owner, seen).of(tree.body) if isinstance(tree, ast.FunctionDef) else set()


@functools.cache
def _tree(code: types.FunctionType) -> ast.stmt:
    """Its source as a tree; nothing for what has none, as the constructor that ``dataclass`` makes."""
    try:
        return ast.parse(textwrap.dedent(inspect.getsource(code))).body[0]
    except (OSError, SyntaxError):
        return ast.Pass()


class _Reader:
    """Reads one function: `raise X` counts, a call adds what it raises, an `except X` around them takes X away."""

    def __init__(self, code: types.FunctionType, owner: type | None, seen: set[Any]):
        self.code, self.owner, self.seen = code, owner, seen
        self.names = dict(code.__globals__)

    def of(self, nodes: Any) -> set[str]:
        found: set[str] = set()
        for node in nodes:
            found |= self._one(node)
        return found

    def _one(self, node: ast.AST) -> set[str]:
        if isinstance(node, (ast.FunctionDef, ast.Lambda, ast.ClassDef, ast.AsyncFunctionDef)):
            return set()  # made here, and called by somebody else
        if isinstance(node, ast.ImportFrom):
            self._import(node)
        if isinstance(node, ast.Try):
            caught = tuple(one for handler in node.handlers for one in self._classes(handler.type))
            inside = {name for name in self.of(node.body) if not issubclass(_class(name), caught)}
            return inside | self.of([*node.handlers, *node.orelse, *node.finalbody])
        found = self.of(ast.iter_child_nodes(node))
        if isinstance(node, ast.Raise) and node.exc is not None:
            thing = self._named(node.exc.func if isinstance(node.exc, ast.Call) else node.exc)
            if isinstance(thing, type) and issubclass(thing, OWN):
                found.add(thing.__name__)
        elif isinstance(node, ast.Call):
            thing = self._named(node.func)
            if isinstance(thing, type) and thing.__module__.startswith("gradnb") and not issubclass(thing, Exception):
                for name in ("__init__", "__post_init__"):
                    found |= _walk(getattr(thing, name, None), thing, self.seen)
            elif thing is not None:
                kind = self._kind(node.func.value) if isinstance(node.func, ast.Attribute) else None
                found |= _walk(thing, kind, self.seen)
        return found

    def _named(self, node: ast.AST) -> Any:
        if isinstance(node, ast.Name):
            return self.names.get(node.id)
        if not isinstance(node, ast.Attribute):
            return None
        if (kind := self._kind(node.value)) is not None:
            return inspect.getattr_static(kind, node.attr, None)
        base = self._named(node.value)
        return getattr(base, node.attr, None) if isinstance(base, (types.ModuleType, type)) else None

    def _kind(self, node: ast.AST) -> type | None:
        """The class of ``self``, or of ``self.a.b`` where the constructors say what these are."""
        if isinstance(node, ast.Name) and node.id == "self":
            return self.owner
        if isinstance(node, ast.Attribute) and (kind := self._kind(node.value)) is not None:
            return _attributes(kind).get(node.attr)
        return None

    def _import(self, node: ast.ImportFrom) -> None:
        if not node.level:
            return
        module = importlib.import_module("." * node.level + (node.module or ""), self.code.__globals__["__package__"])
        for alias in node.names:
            found = getattr(module, alias.name, None)
            if found is None and module.__name__.startswith("gradnb"):
                found = importlib.import_module(f"{module.__name__}.{alias.name}")
            self.names[alias.asname or alias.name] = found

    def _classes(self, node: ast.AST | None) -> tuple[type, ...]:
        if node is None:
            return (BaseException,)
        parts = node.elts if isinstance(node, ast.Tuple) else [node]
        named = [self._named(part) or getattr(builtins, getattr(part, "id", ""), None) for part in parts]
        return tuple(one for one in named if isinstance(one, type))


@functools.cache
def _attributes(kind: type) -> dict[str, type]:
    """The attributes that a constructor makes by calling a class of gradnb's."""
    found: dict[str, type] = {}
    code = vars(kind).get("__init__")
    if isinstance(code, types.FunctionType):
        for node in ast.walk(_tree(code)):
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) and isinstance(node.value.func, ast.Name):
                made = code.__globals__.get(node.value.func.id)
                for target in node.targets:
                    if isinstance(target, ast.Attribute) and isinstance(made, type) and made.__module__.startswith("gradnb"):
                        found[target.attr] = made
    return found


def _class(name: str) -> type:
    waiting = list(OWN)
    for one in waiting:
        waiting += one.__subclasses__()
        if one.__name__ == name:
            return one
    raise AssertionError(name)


def bases(name: str) -> list[str]:
    """The name of an error class of gradnb's and those of its bases in gradnb."""
    return [one.__name__ for one in _class(name).__mro__ if one.__module__.startswith("gradnb")]
