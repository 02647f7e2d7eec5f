"""Places in the source that no running frame names: where an attribute is assigned, a generator made, a function returns."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from ..recorder.recording import Holder, Location, Recording
from ..recorder.source import Source, span
from .cuts import graph_of

_LAZY = {"filter", "map", "zip", "parameters", "named_parameters", "chain", "iter", "from_iterable"}


def locate(recording: Recording, source: Source, node: ast.AST, function: str = "") -> Location:
    """The Location of a syntax node."""
    lines = source.text.split("\n")
    line = node.lineno  # type: ignore[attr-defined]
    code = lines[line - 1].strip() if line <= len(lines) else ""
    cell = recording.cells.get(source.filename)
    name = function
    if not name:
        scope = source.scope(span(node))
        name = getattr(scope, "name", "<module>" if isinstance(scope, ast.Module) else "<lambda>")
    return Location(cell, None if cell is not None else source.filename, line, name, code, *_end(node), source.filename)


def _end(node: ast.AST) -> tuple[int | None, int | None, int | None]:
    return node.end_lineno, node.col_offset, node.end_col_offset  # type: ignore[attr-defined]


def sources(recording: Recording) -> list[Source]:
    """The user's sources, the newest cell first: an older one may hold what the user has since mended and run again."""
    slicer = graph_of(recording).slicer
    names = sorted(recording.sources, key=lambda f: -recording.cells.get(f, 0))
    return [s for s in (slicer.source(f) for f in names) if s is not None]


def _newest(place: Location) -> tuple:
    return (-(place.cell or 0), place.filename, place.line)


def attribute_assigned(recording: Recording, attribute: str) -> list[Location]:
    """Every ``x.attribute = …`` in the user's source, the newest cell first, then in order."""
    found = []
    for source in sources(recording):
        for node in ast.walk(source.tree):  # type: ignore[arg-type]
            if isinstance(node, (ast.Assign, ast.AnnAssign, ast.AugAssign)):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                flat = [t for target in targets for t in (target.elts if isinstance(target, (ast.Tuple, ast.List)) else [target])]
                if any(isinstance(t, ast.Attribute) and t.attr == attribute for t in flat):
                    found.append(locate(recording, source, node))
    return sorted(found, key=_newest)


def mentioned(recording: Recording, name: str) -> list[Location]:
    """Every decorator and ``with`` line that names something, the newest cell first."""
    found: list[Location] = []
    for source in sources(recording):
        for node in ast.walk(source.tree):  # type: ignore[arg-type]
            heads: list[ast.expr] = []
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                heads = node.decorator_list
            elif isinstance(node, (ast.With, ast.AsyncWith)):
                heads = [item.context_expr for item in node.items]
            found.extend(locate(recording, source, e) for e in heads if name in ast.unparse(e))
    return sorted(found, key=_newest)


def uncalled(recording: Recording, method: str) -> Location | None:
    """A statement that only names a method, ``optimizer.step`` without parentheses."""
    for source in sources(recording):
        for node in ast.walk(source.tree):  # type: ignore[arg-type]
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Attribute) and node.value.attr == method:
                return locate(recording, source, node)
    return None


def called(recording: Recording, method: str) -> list[Location]:
    """Every statement that calls a method, the newest cell first, then in order."""
    found = []
    for source in sources(recording):
        for node in ast.walk(source.tree):  # type: ignore[arg-type]
            call = node.value if isinstance(node, ast.Expr) else None
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == method:
                found.append(locate(recording, source, call))
    return sorted(found, key=_newest)


def assigned(recording: Recording, holder: Holder) -> Location | None:
    """Where the attribute that hides something is assigned: in its class, before any other place."""
    places = attribute_assigned(recording, holder.attribute)
    if not places:
        return None
    if holder.site >= 0:
        init = recording.sites[holder.site]
        inside = [p for p in places if p.filename == init.filename and p.line >= init.line]
        return (inside or places)[0]
    return places[0]


def generator_of(recording: Recording, stack: tuple[int, ...]) -> Location | None:
    """The line that makes a one-way iterator which an optimizer's construction reads through a name."""
    if not stack:
        return None
    slicer = graph_of(recording).slicer
    locations = [recording.sites[s] for s in stack]
    found = slicer.at(locations[0])
    if found is None:
        return None
    built = found[2]
    arguments = [*built.args, *(k.value for k in built.keywords)] if isinstance(built, ast.Call) else [built]
    traced = slicer.trace(locations, arguments)
    for filename, expression in traced.expressions:
        source = slicer.source(filename)
        parent = source.parents.get(expression) if source is not None else None
        stored = isinstance(parent, (ast.Assign, ast.AnnAssign, ast.NamedExpr))
        if source is not None and stored and _lazy(expression):
            return locate(recording, source, source.statement(expression) or expression)
    return None


def _lazy(node: ast.AST) -> bool:
    if isinstance(node, ast.GeneratorExp):
        return True
    if isinstance(node, ast.Call):
        name = node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id if isinstance(node.func, ast.Name) else ""
        return name in _LAZY
    return False


def statement_of(recording: Recording, location: Location) -> tuple[Source, ast.stmt] | None:
    """The statement that an expression at a location belongs to."""
    found = graph_of(recording).slicer.at(location)
    if found is None:
        return None
    statement = found[0].statement(found[2])
    return (found[0], statement) if statement is not None else None


def switched_off(recording: Recording, stack: tuple[int, ...]) -> Location:
    """Where it was decided to freeze: outside of a helper that gets the flag as an argument and hands it on."""
    place = recording.sites[stack[0]]
    found = statement_of(recording, place)
    if found is None or len(stack) < 2:
        return place
    source, statement = found
    if isinstance(statement, ast.Assign):
        value: ast.expr | None = statement.value
    else:
        calls = [n for n in ast.walk(statement) if isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute)]
        value = next((c.args[0] for c in calls if c.func.attr == "requires_grad_" and c.args), None)  # type: ignore[attr-defined]
    scope = source.scope(span(statement))
    given = isinstance(value, ast.Name) and scope is not None and value.id in source.bindings(scope).parameters
    return recording.sites[stack[1]] if given else place


def last_return(recording: Recording, location: Location) -> Location | None:
    """The last ``return`` of the function around a location, None at module level."""
    found = graph_of(recording).slicer.at(location)
    if found is None or isinstance(found[1], (ast.Module, ast.Lambda)):
        return None
    source, scope, _ = found
    returns = [n for n in ast.walk(scope) if isinstance(n, ast.Return) and source.scope(span(n)) is scope and n.value is not None]
    later = [n for n in returns if n.lineno > location.line]
    chosen = (later or returns)[-1:] if returns else []
    return locate(recording, source, chosen[0]) if chosen else None


def methods(recording: Recording, owner: str | None, *names: str) -> Iterator[tuple[Source, ast.FunctionDef]]:
    """The methods with one of these names, of every class that is called so."""
    for source in sources(recording):
        for node in ast.walk(source.tree):  # type: ignore[arg-type]
            if isinstance(node, ast.ClassDef) and node.name == owner:
                yield from ((source, f) for f in node.body if isinstance(f, ast.FunctionDef) and f.name in names)


def counted(recording: Recording, stack: list[Location]) -> Location | None:
    """The remainder that a condition comes from, by names or by what a helper that it calls returns."""
    slicer = graph_of(recording).slicer
    asked = slicer.at(stack[0])
    for filename, expression in slicer.trace(stack, [asked[2]]).expressions if asked is not None else ():
        source = slicer.source(filename)
        if source is not None and _remainder(expression):
            return locate(recording, source, source.statement(expression) or expression)
        called = {ast.unparse(n.func).split(".")[-1] for n in ast.walk(expression) if isinstance(n, ast.Call)}
        for helper in sources(recording) if called else ():
            for scope in (s for s in helper.scopes if isinstance(s, ast.FunctionDef) and s.name in called):
                for returned in (n for n in ast.walk(scope) if isinstance(n, ast.Return) and _remainder(n)):
                    return locate(recording, helper, returned)
    return None


def _remainder(node: ast.AST) -> bool:
    return any(isinstance(n, ast.BinOp) and isinstance(n.op, ast.Mod) and not isinstance(n.left, ast.Constant) for n in ast.walk(node))
