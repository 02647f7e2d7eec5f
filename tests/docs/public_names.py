"""What of gradnb is public: everything that a user can get hold of from ``gradnb.__all__``, the magics, and what docs/ and README name."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import inspect
import pkgutil
import re
import sys
import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradnb
import gradnb.checkpoint
import gradnb.errors
import gradnb.monitor

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
_NAMED = re.compile(r"\bgradnb((?:\.[A-Za-z_]\w*)+)")
# What public objects carry for other parts of gradnb: a user meets it through the methods of Picture, Report and Monitor.
_INSIDE = (
    "gradnb.graph.model.",
    "gradnb.monitor.blocks.",
    "gradnb.numeric.calls.",
    "gradnb.recorder.recorder.",
    "gradnb.recorder.recording.R",
)
_WRITING = {f"gradnb.monitor.history.History.{name}" for name in ("put", "log", "amend", "gate", "event", "kept", "restore")}
"""The monitor's alone: a user reads the history."""


@dataclass(frozen=True)
class Public:
    """One public name. ``kind`` is "function", "class", "method", "property", "field" or "magic"."""

    name: str
    kind: str
    thing: Any
    owner: type | None = None

    @property
    def code(self) -> Any:
        """The function behind it."""
        thing = self.thing
        thing = thing.func if isinstance(thing, functools.cached_property) else thing.fget if isinstance(thing, property) else thing
        thing = thing.__func__ if isinstance(thing, (classmethod, staticmethod)) else thing
        return thing.__init__ if isinstance(thing, type) else thing

    @property
    def doc(self) -> str:
        """Its own docstring."""
        if self.kind == "field":
            return self.thing
        thing = self.thing if isinstance(self.thing, type) else self.code
        return inspect.cleandoc(thing.__doc__ or "")


@functools.cache
def public() -> dict[str, Public]:
    """Every public name by its dotted path, as it stands in the code."""
    for info in pkgutil.walk_packages(gradnb.__path__, "gradnb."):
        if not info.name.endswith("__main__"):
            importlib.import_module(info.name)  # annotations name classes that are imported only when they are used
    found: dict[str, Public] = {}
    waiting = list(_roots())
    seen: set[int] = set()
    while waiting:
        thing = waiting.pop(0)
        if id(thing) in seen or not _ours(thing):
            continue
        seen.add(id(thing))
        name = f"{thing.__module__}.{thing.__qualname__}"
        found[name] = Public(name, "class" if isinstance(thing, type) else "function", thing)
        if not isinstance(thing, type):
            waiting += _classes(_hints(thing).get("return"), thing)
            continue
        for member in members(thing):
            if member.name in _WRITING:
                continue
            found[member.name] = member
            if member.kind != "field":
                waiting += _classes(_hints(member.code).get("return"), member.code)
        if dataclasses.is_dataclass(thing):
            waiting += [one for hint in _hints(thing).values() for one in _classes(hint, thing)]
    for magic in magics():
        found[magic.name] = magic
    return found


def _roots() -> Iterator[Any]:
    for module in (gradnb, gradnb.checkpoint, gradnb.monitor):
        for name in module.__all__:
            thing = getattr(module, name)
            if thing is gradnb.graph:
                thing = importlib.import_module("gradnb.graph.door").graph
            if callable(thing):
                yield thing
    yield from (thing for thing in vars(gradnb.errors).values() if isinstance(thing, type) and issubclass(thing, Exception))
    yield from (thing for name in sorted(named_in_pages()) if callable(thing := resolve(name)) and not isinstance(thing, types.ModuleType))


def named_in_pages() -> dict[str, str]:
    """Every dotted name ``gradnb.…`` that a page tells the user, and the page."""
    found = {}
    for page in PAGES:
        for match in _NAMED.finditer(page.read_text(encoding="utf-8")):
            found[match[1][1:]] = page.name
    return found


def resolve(name: str) -> Any:
    """What ``gradnb.<name>`` is, None where it is nothing."""
    thing: Any = gradnb
    path = "gradnb"
    for part in name.split("."):
        path += "." + part
        try:
            thing = getattr(thing, part)
        except AttributeError:
            try:
                thing = importlib.import_module(path)
            except ImportError:
                return None
    return thing


def members(owner: type) -> Iterator[Public]:
    """The public methods, properties and fields of a class, those of its bases in gradnb too."""
    told = set()
    for base in [one for one in owner.__mro__ if one.__module__.startswith("gradnb")]:
        fields = [one.name for one in dataclasses.fields(base)] if "__dataclass_fields__" in vars(base) else []
        for name in fields:
            if not name.startswith("_") and name not in told:
                told.add(name)
                yield Public(f"{base.__module__}.{base.__qualname__}.{name}", "field", field_doc(base, name), owner)
        for name, thing in vars(base).items():
            if name.startswith("_") or name in told or name in fields:
                continue
            if isinstance(thing, (property, functools.cached_property)):
                told.add(name)
                yield Public(f"{base.__module__}.{base.__qualname__}.{name}", "property", thing, owner)
            elif isinstance(thing, (types.FunctionType, classmethod, staticmethod)):
                told.add(name)
                yield Public(f"{base.__module__}.{base.__qualname__}.{name}", "method", thing, owner)


def magics() -> Iterator[Public]:
    from gradnb.notebook.gradckpt import CheckpointMagics
    from gradnb.notebook.gradwatch import WatchMagics
    from gradnb.notebook.magics import GradnbMagics

    for owner in (GradnbMagics, WatchMagics, CheckpointMagics):
        for kind, table in owner.magics.items():
            for name, method in table.items():
                yield Public(("%%" if kind == "cell" else "%") + name, "magic", getattr(owner, method))


def field_doc(owner: type, name: str) -> str:
    """What is said of a field: the string below it, or the sentence of the class's docstring that names it."""
    from sphinx.pycode import ModuleAnalyzer

    comments = ModuleAnalyzer.for_module(owner.__module__).find_attr_docs()
    below = "\n".join(comments.get((owner.__qualname__, name), ()))
    if below:
        return below
    return "\n".join(line for line in (owner.__doc__ or "").split("\n\n") if re.search(rf"``{name}\b", line))


def _ours(thing: Any) -> bool:
    module = getattr(thing, "__module__", "") or ""
    name = f"{module}.{getattr(thing, '__qualname__', '')}"
    private = any(part.startswith("_") for part in name.removeprefix("gradnb.").split("."))
    return module.startswith("gradnb") and not private and not name.startswith(_INSIDE)


def _hints(thing: Any) -> dict[str, Any]:
    """The annotations as objects where they can be had; names that are imported for type checkers only are looked for in gradnb."""
    code = thing if not isinstance(thing, type) else sys.modules[thing.__module__]
    scope = {**_everything(), **(vars(code) if isinstance(code, types.ModuleType) else code.__globals__)}
    hints = {}
    for name, hint in inspect.get_annotations(thing).items():
        try:
            hints[name] = eval(hint, scope) if isinstance(hint, str) else hint
        except (NameError, TypeError, AttributeError):
            hints[name] = hint
    return hints


@functools.cache
def _everything() -> dict[str, Any]:
    """The classes of gradnb's modules by their bare names."""
    return {
        name: thing
        for module, content in list(sys.modules.items())
        if module.startswith("gradnb") and content is not None
        for name, thing in vars(content).items()
        if isinstance(thing, type) and thing.__module__.startswith("gradnb")
    }


def _classes(hint: Any, where: Any) -> list[type]:
    if isinstance(hint, str):
        return _classes(_hints_of_text(hint), where)
    if isinstance(hint, type) and not typing.get_args(hint):
        return [hint]
    return [one for part in typing.get_args(hint) for one in _classes(part, where)]


def _hints_of_text(text: str) -> Any:
    try:
        return eval(text, {**vars(typing), **_everything()})
    except (NameError, TypeError, SyntaxError):
        return None


def sections(doc: str) -> dict[str, dict[str, str]]:
    """The numpy sections of a docstring: for each heading what stands at its left edge, and the text that is indented below."""
    found: dict[str, dict[str, str]] = {}
    lines = doc.splitlines()
    heading, entry = "", ""
    for line, below in zip(lines, [*lines[1:], ""]):
        if below and set(below) == {"-"} and line.strip():
            heading = line.strip()
            found[heading] = {}
        elif heading and line and not line.startswith((" ", "-")):
            entry = line.partition(" : ")[0]
            found[heading][entry] = line.partition(" : ")[2]
        elif heading and line.startswith(" ") and entry in found[heading]:
            found[heading][entry] += " " + line.strip()
    return found
