"""Modules that stand in several places of a model: which of their paths an operation ran under."""

from __future__ import annotations

from ..model import Node, lineage


def place_shared(shared: dict[str, tuple[str, ...]], operations: list[Node]) -> None:
    """Give each operation of a shared module the path that goes on from the module around it.

    ``shared`` maps the first path of such a module to its other ones; the recorder knows a module by its first path only.
    """
    if not shared:
        return
    around = ""
    for node in sorted(operations, key=lambda node: node.order):
        prefix = next((path for path in lineage(node.module) if path in shared), None)
        if prefix is None:
            around = node.module
            continue
        paths = [prefix, *shared[prefix]]
        node.module = max(paths, key=lambda path: _common(path, around)) + node.module[len(prefix) :]


def _common(a: str, b: str) -> int:
    """How many parts two paths share from the front."""
    shared = 0
    for x, y in zip(a.split("."), b.split(".")):
        if x != y:
            break
        shared += 1
    return shared
