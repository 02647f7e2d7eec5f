"""Where a tensor that outlives one round of a loop was put away: the line that should have detached it or made it anew."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass

from ...recorder.recording import Location, Recording
from ...recorder.slices import Slice
from ...recorder.source import Scope, Source, span
from ..cuts import graph_of
from ..places import locate
from .sources import behind

_KEEPERS = set("append appendleft extend insert add push put store update setdefault copy_ __setitem__".split())
_FREEING = set("detach detach_ item tolist numpy float int".split())
_LOOPS = (ast.For, ast.AsyncFor, ast.While, ast.ListComp, ast.GeneratorExp, ast.SetComp, ast.DictComp)
_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.Module)


@dataclass(slots=True)
class Kept:
    """The statement that put a tensor away, and what the code calls it there."""

    location: Location
    name: str
    attribute: bool  # in an object or a container, not in a local name


def kept(
    recording: Recording, made: tuple[int, ...], used: tuple[int, ...], before: tuple[int, ...], after: tuple[int, ...]
) -> Kept | None:
    """Where the tensor made on one stack and used on another was kept between two backward passes, whose stacks these are."""
    level = round_level(recording, made, used, before, after)
    slicer = graph_of(recording).slicer
    reader = [recording.sites[s] for s in used]
    found = slicer.at(reader[0]) if reader else None
    parts = _operands(found[2]) if found is not None else []
    read = slicer.trace(reader, parts) if parts else Slice()
    deeper = behind(recording, used, parts) if parts else read  # through the functions that the expression calls
    stores: list[Kept] = []
    confirmed: list[Kept] = []
    for depth, site in enumerate(made):
        location = recording.sites[site]
        here = slicer.at(location)
        if here is None:
            continue
        source, scope, node = here
        statement = source.statement(node)
        if statement is None:
            continue
        at_level = len(made) - 1 - depth <= level
        for kept_by, expression, name in _stores(source, scope, statement, node):
            entry = Kept(locate(recording, source, kept_by, location.function), name, True)
            stores.append(entry)
            if _read(deeper, source, expression):
                confirmed.append(entry)
        if confirmed:
            return confirmed[0]
        if at_level:
            name = _name(statement)
            local = Kept(locate(recording, source, statement, location.function), name, False)
            if name and any(_read(read, source, value) for value in _values(statement)):
                return local
            taken = _taken(recording, used)
            if taken is not None:
                return taken
            return next(_read_stores(recording, read), None) or (stores[0] if stores else local)
    return next(_read_stores(recording, read), None) or (stores[0] if stores else None)


def _operands(node: ast.expr) -> list[ast.expr]:
    """The parts of an expression whose values go into its own, without what only picks: an index, a called function."""
    if isinstance(node, ast.Subscript):
        return _operands(node.value)
    if isinstance(node, ast.BinOp):
        return [*_operands(node.left), *_operands(node.right)]
    if isinstance(node, ast.UnaryOp):
        return _operands(node.operand)
    if isinstance(node, ast.Call):
        receiver = _operands(node.func.value) if isinstance(node.func, ast.Attribute) else []
        return [*receiver, *(o for a in node.args for o in _operands(a)), *(o for k in node.keywords for o in _operands(k.value))]
    return [node]


def _taken(recording: Recording, used: tuple[int, ...]) -> Kept | None:
    """``self.best = points[i]``: the call that takes the tensor in is itself what is put away for the next round."""
    found = graph_of(recording).slicer.at(recording.sites[used[0]]) if used else None
    statement = found[0].statement(found[2]) if found is not None else None
    if found is None or statement is None:
        return None
    name = next((n for value, n in _kept_by(statement) if _inside(found[0], found[2], value)), None)
    return Kept(locate(recording, found[0], statement), name, True) if name is not None else None


def _read_stores(recording: Recording, read: Slice) -> Iterator[Kept]:
    """The statements that keep what the reading expression can come from, where the way in between is not known."""
    slicer = graph_of(recording).slicer
    for filename, expression in read.expressions:
        source = slicer.source(filename)
        statement = source.statement(expression) if source is not None else None
        if source is None or statement is None or getattr(source.scope(span(expression)), "name", "") == "__init__":
            continue
        names = [n for n in ast.walk(expression) if isinstance(n, ast.Name) and not _freed(source, n, expression)]
        for value, name in _kept_by(statement) if names else ():
            if span(value) == span(expression):
                yield Kept(locate(recording, source, statement), name, True)


def _values(statement: ast.stmt) -> list[ast.expr]:
    value = getattr(statement, "value", None)
    return [value, *(value.elts if isinstance(value, (ast.Tuple, ast.List)) else ())] if isinstance(value, ast.expr) else []


def round_level(recording: Recording, *stacks: tuple[int, ...]) -> int:
    """How many frames from the outside the one stands that lives through all the stacks: the frame of the training loop."""
    level = 0
    slicer = graph_of(recording).slicer
    outer = [list(reversed(s)) for s in stacks if s]
    for depth in range(min((len(s) for s in outer), default=0)):
        sites = [s[depth] for s in outer]
        if len({(recording.sites[s].filename, recording.sites[s].function) for s in sites}) > 1:
            break
        repeated = sites[-1] == sites[-2] if len(sites) > 1 else True  # the two backward passes
        found = slicer.at(recording.sites[sites[-1]])
        looped = found is not None and _looped(found[0], found[2])
        if len(set(sites)) > 1:
            return depth if looped or not repeated else level
        if looped:
            level = depth
    return level


def _looped(source: Source, node: ast.AST) -> bool:
    parent = source.parents.get(node)
    while parent is not None and not isinstance(parent, _SCOPES):
        if isinstance(parent, _LOOPS):
            return True
        parent = source.parents.get(parent)
    return False


def _read(read: Slice, source: Source, expression: ast.expr) -> bool:
    return span(expression) in read.regions.get(source.filename, ())


def _stores(source: Source, scope: Scope, statement: ast.stmt, node: ast.expr) -> list[tuple[ast.stmt, ast.expr, str]]:
    """The statements that keep what an expression gives: its own, or later ones that keep the name it is bound to."""
    own = [(statement, value, name) for value, name in _kept_by(statement) if _inside(source, node, value)]
    if own:
        return own
    names = _bound(statement)
    found = []
    for other in ast.walk(scope) if names else ():
        if not isinstance(other, ast.stmt) or other is statement or isinstance(other, _SCOPES):
            continue
        for value, name in _kept_by(other):
            if any(isinstance(n, ast.Name) and n.id in names and not _freed(source, n, value) for n in ast.walk(value)):
                found.append((other, value, name))
    return sorted(found, key=lambda f: (f[0].lineno < statement.lineno, f[0].lineno))


def _kept_by(statement: ast.stmt) -> list[tuple[ast.expr, str]]:
    """What a statement puts into an object or container, with the name of the place."""
    if isinstance(statement, ast.Assign):
        found: list[tuple[ast.expr, str]] = []
        for target in statement.targets:
            parts = [(target, statement.value)]
            if isinstance(target, (ast.Tuple, ast.List)):
                values = statement.value.elts if isinstance(statement.value, (ast.Tuple, ast.List)) else []
                same = len(values) == len(target.elts)
                parts = [(t, values[i] if same else statement.value) for i, t in enumerate(target.elts)]
            found.extend((value, ast.unparse(t)) for t, value in parts if isinstance(t, (ast.Attribute, ast.Subscript)))
        return found
    if isinstance(statement, (ast.AugAssign, ast.AnnAssign)) and statement.value is not None:
        if isinstance(statement.target, (ast.Attribute, ast.Subscript)):
            return [(statement.value, ast.unparse(statement.target))]
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call) and isinstance(statement.value.func, ast.Attribute):
        call = statement.value
        if call.func.attr in _KEEPERS:  # type: ignore[attr-defined]
            return [(a, ast.unparse(call.func.value)) for a in (*call.args, *(k.value for k in call.keywords))]  # type: ignore[attr-defined]
    return []


def _bound(statement: ast.stmt) -> set[str]:
    targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
    return {n.id for t in targets if t is not None for n in ast.walk(t) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}


def _name(statement: ast.stmt) -> str:
    return ", ".join(sorted(_bound(statement), key=lambda n: ast.unparse(statement).find(n)))


def _inside(source: Source, node: ast.AST, value: ast.expr) -> bool:
    current: ast.AST | None = node
    while current is not None and not isinstance(current, ast.stmt):
        if current is value:
            return not _freed(source, node, value)
        current = source.parents.get(current)
    return False


def _freed(source: Source, node: ast.AST, value: ast.expr) -> bool:
    """Is an expression detached, or made a number, before the value is kept."""
    current: ast.AST | None = node
    while current is not None and current is not value:
        current = source.parents.get(current)
        if isinstance(current, ast.Attribute) and (current.attr == "data" or current.attr in _FREEING):
            return True
        if isinstance(current, ast.Call) and isinstance(current.func, ast.Name) and current.func.id in _FREEING:
            return True
    return False
