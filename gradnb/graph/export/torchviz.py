"""torchviz's own picture of a loss, with what autograd forgot added: the operations and parameters before the place of the loss."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from ...errors import UsageError
from ...report import words
from ...report.pen import GREY, VERMILLION
from ..draw.size import STATES
from ..draw.titles import of_node
from ..model import Graph, Node
from ..walk.collect import Behind
from ..walk.leaves import Names
from .drawing import Drawing, multiline, text
from .live import Match, entrance, match, match_walk, parameter_names

if TYPE_CHECKING:
    from ..picture import Picture

_LOST = frozenset(("lost", "starved", "unused"))


def to_torchviz(picture: "Picture", loss: Any = None, model: Any = None) -> Drawing:
    """``torchviz.make_dot(loss)`` with the lost nodes added, vermillion and dashed, the cut with its line.

    The loss has to be alive: one of the recorded run's, or given as ``loss``. Parameters have the names of the recording, or
    those in ``model``. Raises UsageError where there is no loss, where it belongs to no recorded step, where the graph is too deep
    for torchviz, and where torchviz cannot be imported.
    """
    torchviz = _torchviz()
    candidates = _candidates(picture, loss)
    if model is not None and not isinstance(model, torch.nn.Module):
        raise UsageError(f"model is of type {type(model).__name__}; an nn.Module is expected: to_torchviz(loss, model)")
    with torch._C.DisableTorchFunction(), torch.no_grad():
        living, behind, found = _matched(picture, candidates, given=loss is not None)
        names = parameter_names(found, behind) if found is not None else {}
        if model is not None or not names:
            names |= _named(model, behind)
        drawing = _drawn(torchviz, living, names)  # while behind lives, the ids of its nodes are theirs
        if found is not None:
            _add_lost(drawing, found, behind, living)
    return drawing


def _torchviz() -> Any:
    try:
        import torchviz
    except ModuleNotFoundError as error:
        if error.name is not None and error.name.split(".")[0] == "distutils":
            refused = "torchviz imports distutils, which left Python with 3.12: pip install setuptools brings it back"
        else:
            refused = f"torchviz cannot be imported ({error}): pip install torchviz"
    else:
        return torchviz
    raise UsageError(f"{refused}; or use to_dot(), which needs neither")


def _candidates(picture: "Picture", loss: Any) -> list[torch.Tensor]:
    if loss is None:
        living = picture.losses()
        if not living:
            raise UsageError("torchviz draws a living loss, and those of this run are gone: pass the loss: to_torchviz(loss)")
        return living[::-1]
    if not isinstance(loss, torch.Tensor):
        raise UsageError(f"loss is of type {type(loss).__name__}; the loss tensor is expected: to_torchviz(loss)")
    return [loss]


def _matched(picture: "Picture", losses: list[torch.Tensor], *, given: bool) -> tuple[torch.Tensor, Behind, Match | None]:
    """The first loss that belongs to a recorded step (the drawn one, if it can be), and what it belongs to."""
    recording = picture.recording
    walked = [(loss, Behind()) for loss in losses]
    for loss, behind in walked:
        behind.add(loss)
    if recording is None:
        return *walked[0], match_walk(walked[0][1], picture.graph)
    others = [graph for graph in picture.graphs if graph is not picture.graph]
    # of the losses that live, one of the drawn step comes first; a loss that was given is drawn in any case
    for graphs in [[picture.graph, *others]] if given else [[picture.graph], others]:
        for loss, behind in walked:
            found = match(loss, behind, recording, graphs)
            if found is not None:
                return loss, behind, found
    which = (
        "this loss belongs to none of the recorded steps" if given else "the losses that still live belong to none of the recorded steps"
    )
    raise UsageError(f"{which}: pass a loss that %%gradcheck recorded, or draw it alone: graph(loss).to_torchviz()")


def _named(model: torch.nn.Module | None, behind: Behind) -> dict[str, torch.Tensor]:
    if model is None:
        return {}
    names = Names(model, None)
    names.learn(behind.leaves)
    return {held[0][0]: leaf for leaf in behind.leaves if (held := names.parameter(leaf))}


def _drawn(torchviz: Any, loss: torch.Tensor, names: dict[str, torch.Tensor]) -> Drawing:
    refused = ""
    try:
        drawn = torchviz.make_dot(loss, params=names or None)
    except RecursionError:
        refused = "the graph is too deep for torchviz, which walks it by recursion: use to_dot(), which folds it"
    except RuntimeError as error:
        if "freed" not in str(error):
            raise
        refused = (
            "torchviz reads what custom Functions saved, and the backward pass has freed it: call it before backward(), or after "
            "backward(retain_graph=True), or use to_dot()"
        )
    if refused:
        raise UsageError(refused)
    drawing = Drawing(graph_attr=drawn.graph_attr, node_attr=drawn.node_attr, edge_attr=drawn.edge_attr)
    drawing.body.extend(drawn.body)
    return drawing


def _add_lost(drawing: Drawing, found: Match, behind: Behind, loss: torch.Tensor) -> None:
    graph = found.graph
    lost = [at for at, node in enumerate(graph.nodes) if (node.state in _LOST or node.mark is not None) and at not in found.nodes]
    lost = [at for at in lost if graph.nodes[at].kind != "loss"]
    for at in lost:
        drawing.node(f"gradnb{at}", **_look(graph, graph.nodes[at]))
    added = set(lost)
    for edge in graph.edges:
        if edge.source not in added:
            continue
        end = f"gradnb{edge.target}" if edge.target in added else _end(found, behind, edge.target, loss)
        if end:
            tip = "cut here, the gradient is lost" if edge.cut else "no gradient comes back"
            drawing.edge(f"gradnb{edge.source}", end, color=VERMILLION, style="dashed", penwidth="2" if edge.cut else "1.2", tooltip=tip)
    drawing.graph_attr["size"] = _size(drawing)


def _end(found: Match, behind: Behind, at: int, loss: torch.Tensor) -> str:
    """torchviz's name of the node that took the data."""
    if found.graph.nodes[at].kind == "loss":
        return str(id(loss))
    node = entrance(found, behind, at)
    return str(id(node)) if node is not None else ""


def _look(graph: Graph, node: Node) -> dict[str, str]:
    shape = f"({', '.join(map(str, node.shape))})" if node.shape is not None else ""
    colour = GREY if node.state == "unused" else VERMILLION
    look = {"color": colour, "style": "dashed,filled", "fillcolor": "white", "tooltip": text("\n".join(filter(None, of_node(graph, node))))}
    name = node.name if node.kind == "parameter" else node.label
    if node.mark is None:
        word = STATES.get(node.state, "") if node.kind == "parameter" else ""
        return look | {"label": multiline([words.clean(name, 60), " ".join(filter(None, [shape, word]))])}
    said = f"{node.mark.word} here" if node.mark.word == "lost" and node.mark.root else node.mark.word
    label = multiline([f"✗ {said}", words.clean(name, 60), words.clean(node.mark.text, 80)])
    return look | {"label": label, "penwidth": "2.5", "fontcolor": VERMILLION}


def _size(drawing: Drawing) -> str:
    """As torchviz sizes its pictures: by how much there is in them."""
    inches = max(12.0, 0.15 * len(drawing.body))
    return f"{inches:g},{inches:g}"
