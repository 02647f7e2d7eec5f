"""The graph of one step for networkx."""

from __future__ import annotations

from typing import Any

from ...errors import UsageError
from ..model import Graph


def to_networkx(graph: Graph) -> Any:
    """The unfolded graph as a ``networkx.MultiDiGraph``, edges from earlier nodes to later ones.

    A node is its position in ``graph.nodes``; its attributes are the fields of ``Node`` (``kind``, ``label``, ``name``, ``module``,
    ``shape``, ``dtype``, ``state``, ``norm``, …), with ``location`` as text and ``mark`` as "word: text", and ``cls``, the class of its
    module. An edge has ``kind``, ``cut`` and ``norm``. The graph itself has ``title`` and ``notes``.

    Raises UsageError where networkx is not installed.
    """
    networkx = _networkx()
    made = networkx.MultiDiGraph(title=graph.title, notes=list(graph.notes))
    for at, node in enumerate(graph.nodes):
        made.add_node(
            at,
            kind=node.kind,
            label=node.label,
            name=node.name,
            module=node.module,
            cls=graph.classes.get(node.module, ""),
            shape=node.shape,
            dtype=node.dtype,
            requires_grad=node.requires_grad,
            trainable=node.trainable,
            grad_fn=node.grad_fn,
            state=node.state,
            norm=node.norm,
            value=node.value,
            location=str(node.location) if node.location is not None else None,
            region=node.region,
            function=node.function,
            mark=f"{node.mark.word}: {node.mark.text}" if node.mark is not None else None,
        )
    for edge in graph.edges:
        made.add_edge(edge.source, edge.target, kind=edge.kind, cut=edge.cut, norm=edge.norm)
    return made


def _networkx() -> Any:
    try:
        import networkx
    except ImportError as error:
        refused = f"networkx cannot be imported ({error}): pip install networkx, or use to_json(), which needs nothing"
    else:
        return networkx
    raise UsageError(refused)
