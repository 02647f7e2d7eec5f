"""Where a finding stands in the picture: the lost edges it is about, or the operation or parameter at its line."""

from __future__ import annotations

from pathlib import PurePath

from ...flow.classify import classify
from ...flow.graph import Graph as Flow
from ...recorder.recording import Location, Recording
from ...report.finding import Finding
from ..model import Mark, Node
from .gather import Gathered
from .names import Names

# What stands on the marked node. Causes that are not here cut the history: "lost".
WORDS = {
    "nan": "NaN",
    "zero-gradient": "zero",
    "vanishing": "vanishes",
    "exploding": "explodes",
    "frozen": "frozen",
    "unused": "unused",
    "unused-in-grad": "unused",
    "not-scalar": "no scalar",
    "not-in-optimizer": "not in optimizer",
    "unregistered": "unregistered",
    "non-leaf": "no leaf",
    "dtype": "wrong dtype",
    "shape-mismatch": "wrong shape",
    "diluted-loss": "diluted",
    "sign": "wrong sign",
    "inplace-modified": "changed in place",
    "leaf-inplace": "changed in place",
    "second-backward": "graph used up",
}
LOSES = set(
    "detach data item numpy no-grad rewrap reparameter integer-cast nondifferentiable custom-function inert-term checkpoint-reentrant "
    "inference-tensor not-twice-differentiable".split()
)
OF_PARAMETERS = set("frozen unused not-in-optimizer unregistered vanishing exploding unused-in-grad".split())
OF_THE_LOOP = set(
    "fp16-unscale no-inf-checks unscale-twice clip-scaled scaler-misuse zero-grad-missing zero-grad-misplaced step-missing remainder "
    "double-step eval-mode autocast".split()
)  # calls of the training loop: no operation of the graph is at fault
BRIEF = 36  # characters of code on a node
SWITCHES = ("detach", "data", "no-grad")
TAKEN_OUT = ("item", "numpy", "rewrap")


def cut_edges(recording: Recording, flow: Flow, found: Gathered, findings: list[Finding]) -> dict[tuple[int, int], int]:
    """The drawn edges on which a finding says that the gradient is lost -> the finding."""
    wanted = {_key(f.cause, f.location): i for i, f in reversed(list(enumerate(findings))) if f.location is not None and f.cause in LOSES}
    cuts: dict[tuple[int, int], int] = {}
    if not wanted:
        return cuts
    places = {key[1:]: i for key, i in wanted.items()}
    second = {(r.location.filename, r.location.line): i for i in wanted.values() for r in findings[i].related}
    second = {place: i for place, i in second.items() if place not in places}
    behind = _trained(found)
    loose: dict[tuple[int, int], int] = {}
    cuts |= _in_functions(recording, found, findings)
    for edge, source, target in found.flow:
        if edge.carries or found.carries.get((source, target)) or source not in behind:
            continue
        cut = classify(flow, edge)
        if cut is None or cut.site < 0 or cut.cause not in TAKEN_OUT and not found.nodes[source].requires_grad:
            continue  # its history was lost before; only a number that leaves torch is told although a switch stands before it
        if cut.cause == "no-grad" and found.nodes[source].kind == "operation" and found.nodes[source].region:
            continue  # a view made in the region, which still says that it requires grad
        where = recording.sites[cut.site]
        finding = wanted.get(_key(cut.cause, where))
        if finding is not None:
            cuts[source, target] = finding
        elif cut.cause in SWITCHES and (where.filename, where.line) in places:
            loose[source, target] = places[where.filename, where.line]  # .detach().numpy() is told as numpy
        elif cut.cause in LOSES and (where.filename, where.line) in second and found.nodes[source].requires_grad:
            cuts[source, target] = second[where.filename, where.line]
    return cuts | {key: finding for key, finding in loose.items() if finding not in cuts.values()}


def _in_functions(recording: Recording, found: Gathered, findings: list[Finding]) -> dict[tuple[int, int], int]:
    """The edges along which the backward of a custom Function sent nothing -> the finding that tells it."""
    of: dict[str, int] = {}
    for number, finding in enumerate(findings):
        places = [p for p in (finding.location, *(r.location for r in finding.related)) if p is not None]
        for birth in recording.births if finding.cause == "custom-function" else ():
            called = recording.location(birth.stack)
            if birth.function and called is not None and any(_same_line(called, place) for place in places):
                of.setdefault(birth.function, number)
    return {key: of[name] for key in found.dropped if (name := found.nodes[key[1]].function) in of}


def _trained(found: Gathered) -> set[int]:
    """The nodes whose data depends on something that requires grad."""
    out: dict[int, list[int]] = {}
    for source, target in found.edges:
        out.setdefault(source, []).append(target)
    todo = [n for n, node in enumerate(found.nodes) if node.requires_grad]
    behind: set[int] = set()
    while todo:
        node = todo.pop()
        if node not in behind:
            behind.add(node)
            todo.extend(out.get(node, ()))
    return behind


def _key(cause: str, where: Location | None) -> tuple:
    return (cause, where.filename, where.line) if where is not None else (cause, "", 0)


def mark(recording: Recording, names: Names, found: Gathered, findings: list[Finding], cuts: dict[tuple[int, int], int]) -> None:
    """Put a Mark on the node of each finding that stands in this step."""
    of: dict[int, list[int]] = {}
    for (source, target), number in cuts.items():
        # in a region without gradients: where the data comes in, not each layer whose weights are in there
        if findings[number].cause != "no-grad" or found.nodes[source].kind != "parameter" or not _entered(found, cuts, number):
            of.setdefault(number, []).append(target)
    for index, finding in enumerate(findings):
        if finding.severity == "info" and index not in of:
            continue
        targets = sorted(set(of.get(index, ())), key=lambda n: (not _told_at(found.nodes[n], finding), found.nodes[n].order))
        for position, number in enumerate(targets or _at(recording, found, finding)):
            node = found.nodes[number]
            if node.mark is None or not node.mark.root:
                word = WORDS.get(finding.cause, "lost" if finding.cause in LOSES else finding.cause.replace("-", " "))
                own = position == 0 or _told_at(node, finding)
                text = _text(recording, names, node, finding, finding.location if own else node.location)
                node.mark = Mark(finding.cause, word, text, finding.severity, index, position == 0)
    failed = recording.raised.op if recording.raised is not None else -1
    number = found.of_op.get(failed, -1)
    if number >= 0 and found.nodes[number].mark is None and recording.raised is not None:
        where = found.nodes[number].location
        word = "raised" if not recording.raised.interrupted else "stopped"
        found.nodes[number].mark = Mark("", word, f"{_line(recording, where)}: {recording.raised.type}", "error", -1)


def _entered(found: Gathered, cuts: dict[tuple[int, int], int], finding: int) -> bool:
    return any(f == finding and found.nodes[source].kind != "parameter" for (source, _), f in cuts.items())


def _at(recording: Recording, found: Gathered, finding: Finding) -> list[int]:
    """The node that a finding without a lost edge is about: the operation at its line, or a parameter that it names."""
    if finding.cause in OF_PARAMETERS:
        by_name = {found.nodes[n].name: n for n in found.of_parameter.values()}
        named = [by_name[name] for name in finding.affected if name in by_name]
        if named:
            return named[:1]
    where = finding.location
    births = {b.op for b in recording.nonfinite} if finding.cause == "nan" else {b.op for b in recording.births}
    drawn = (*found.of_op.values(), *found.of_value.values())
    here = [n for n in drawn if where is not None and _same_line(found.nodes[n].location, where)]
    exact = [n for n in here if found.nodes[n].op in births] or [
        n
        for n in here
        if found.nodes[n].location.column == where.column  # type: ignore[union-attr]
    ]
    losses = [n for n, event, _ in found.losses if where is not None and _same_line(found.nodes[n].location, where)]
    if here and not (losses and finding.cause in OF_THE_LOOP):
        return [max(exact or here, key=lambda n: found.nodes[n].order)]
    if losses or finding.cause in OF_THE_LOOP:
        return losses[:1]
    if finding.cause == "not-scalar":
        return [n for n, event, _ in found.losses if event >= 0 and not recording.events[event].ok][:1]
    for place in (where, *(related.location for related in finding.related)):  # the line around the call, then the second places it tells
        inside = [n for n in found.of_op.values() if place is not None and any(_same_line(f, place) for f in found.nodes[n].frames)]
        if inside:  # of several the one that a second place of the finding names: "the tensor is made here"
            told = [n for n in inside if any(_same_line(found.nodes[n].location, r.location) for r in finding.related)]
            return [max(told or inside, key=lambda n: found.nodes[n].order)]
    return []


def _same_line(a: Location | None, b: Location) -> bool:
    return a is not None and a.filename == b.filename and a.line == b.line


def _told_at(node: Node, finding: Finding) -> bool:
    """Is it the place that the finding names, and not a second one; a region is named by the line that opens it."""
    return finding.location is None or finding.cause == "no-grad" or _same_line(node.location, finding.location)


def _text(recording: Recording, names: Names, node: Node, finding: Finding, where: Location | None) -> str:
    """ "line 12: .detach()" """
    line = _line(recording, where)
    if where is None:
        return line
    if node.kind == "parameter":
        more = len(finding.affected) - 1
        return line + (f", and {more} more {'parameter' if more == 1 else 'parameters'}" if more > 0 else "")
    op = recording.ops[node.op] if node.op >= 0 else None
    if op is None or finding.cause in ("no-grad", "rewrap") or not _same_line(node.location, where):
        return f"{line}: {_brief(where.code)}"
    text = names.flow.text(node.op, BRIEF)
    return f"{line}: {names.call(op) if op.kind in ('cut', 'escape', 'factory') or not text else _brief(text)}"


def _brief(code: str) -> str:
    line = " ".join(code.split("#")[0].split()).rstrip(":")
    return line if len(line) <= BRIEF else line[: BRIEF - 1] + "…"


def _line(recording: Recording, where: Location | None) -> str:
    """The line as a person finds it: with the file, or the cell where it is not the one that was checked."""
    if where is None:
        return "no line of your code"
    if where.file is not None:
        return f"{PurePath(where.file).name}, line {where.line}"
    newest = max(recording.cells.values(), default=None)
    return f"line {where.line}" if where.cell is None or where.cell == newest else f"cell [{where.cell}], line {where.line}"
