"""Checks the names given with ``--model``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from IPython.core.error import UsageError

# Code that can bring names into being without spelling them.
_BRINGS_NAMES = re.compile(r"import\s*\*|%run\b|\bexec\(|\bglobals\(")


def refuse_unknown(names: list[str] | None, namespace: Mapping[str, Any], cell: str) -> None:
    """Refuse, before anything runs, a name that neither exists nor is written anywhere in the cell: a typing error."""
    if _BRINGS_NAMES.search(cell):
        return
    for name in names or ():
        if not _is_module(namespace.get(name)) and not re.search(rf"\b{re.escape(name)}\b", cell):
            raise UsageError(f"{_complaint(name, namespace)}; nothing was run.")


def known_modules(names: list[str], namespace: Mapping[str, Any]) -> tuple[list[str], str | None]:
    """After the run: the names that are modules, and what to tell about the others."""
    wrong = [name for name in names if not _is_module(namespace.get(name))]
    kept = [name for name in names if name not in wrong]
    if not wrong:
        return kept, None
    shown = "the report is about " + (", ".join(kept) if kept else "every module")
    return kept, f"{_complaint(wrong[0], namespace)}; {shown}."


def _complaint(name: str, namespace: Mapping[str, Any]) -> str:
    given = f"is not an nn.Module but of type {type(namespace[name]).__name__}" if name in namespace else "does not exist"
    modules = [known for known, value in namespace.items() if not known.startswith("_") and _is_module(value)]
    have = f"modules here: {', '.join(modules)}" if modules else "no variable here holds an nn.Module"
    return f"--model {name}: {name} {given} ({have})"


def _is_module(value: Any) -> bool:
    from torch import nn

    return isinstance(value, nn.Module)
