"""Read after an error, while its frames and its graph still stand: saved tensors that were changed, gradients that were not there."""

from __future__ import annotations

import ast
import linecache
import re
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING, Any

import torch

from .frames import USER

if TYPE_CHECKING:
    from .recorder import Recorder

MODIFIED = "modified by an inplace operation"
_NODES = 50_000  # a graph larger than this is looked at in part
_VERSION = re.compile(r"\[([\w.]+) \[([\d, ]*)\]\](?:, which is output (\d+) of (\w+),)? is at version (\d+); expected version (\d+)")


@dataclass(slots=True)
class RawSpoiled:
    """A tensor that autograd saved and that was changed afterwards."""

    node: str
    sequence: int
    saved: str  # what the node calls it: "self", "result", "weight", …
    message: str
    values: tuple[int, ...] = ()  # recorded values that share its memory


@dataclass(slots=True)
class RawAbsent:
    """A tensor whose ``.grad`` was read and is None."""

    text: str
    value: int
    parameter: int
    leaf: bool
    trainable: bool


def spoiled(recorder: "Recorder", losses: list[torch.Tensor]) -> list[RawSpoiled]:
    """Every node behind the losses that refuses to hand out what it saved because that was changed."""
    found: list[RawSpoiled] = []
    names: dict[type, list[str]] = {}
    todo = [t.grad_fn for t in losses if t.grad_fn is not None]
    seen = set(todo)  # holds the nodes too: their ids would be used again
    while todo and len(seen) < _NODES:
        node: Any = todo.pop()
        kind = type(node)
        if kind not in names:
            names[kind] = [name for name in dir(node) if name.startswith("_saved_") or name == "saved_tensors"]
        for name in names[kind]:
            said = _refusal(node, name)
            if said:
                saved = name.removeprefix("_saved_")
                found.append(RawSpoiled(node.name(), node._sequence_nr(), saved, said, _sharing(recorder, node, name)))
        for following, _ in node.next_functions:
            if following is not None and following not in seen:
                seen.add(following)
                todo.append(following)
    return found


def _refusal(node: Any, name: str) -> str:
    """The error that reading a saved tensor gives, empty where it reads well or cannot be read without running the user's hooks."""
    for raw in _raw(node, name):
        if getattr(raw, "unpack_hook", None) is not None:
            return ""
    try:
        getattr(node, name)
    except RuntimeError as error:
        return str(error) if MODIFIED in str(error) else ""
    except Exception:
        return ""
    return ""


def _raw(node: Any, name: str) -> list[Any]:
    try:
        raw = getattr(node, "_raw" + name if name.startswith("_") else "_raw_" + name, None)
    except RuntimeError:
        return []
    return list(raw) if isinstance(raw, (list, tuple)) else [raw] if raw is not None else []


def _sharing(recorder: "Recorder", node: Any, name: str) -> tuple[int, ...]:
    """The recorded values that live in the memory of a saved tensor."""
    places = set()
    for raw in _raw(node, name):
        try:
            places.add(_memory(raw.data))
        except Exception:
            continue
    places.discard(0)
    found = []
    for reference, value in list(recorder.log._ids.values()) if places else ():
        tensor = reference()
        try:
            if tensor is not None and _memory(tensor) in places:
                found.append(value)
        except Exception:
            continue
    return tuple(found)


def _memory(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage().data_ptr() if tensor.layout == torch.strided and not tensor.is_meta else 0


def version(message: str) -> tuple[tuple[int, ...], str, int]:
    """Shape, the operation whose output it is now, and how many changes came after it was saved."""
    match = _VERSION.search(message)
    if match is None:
        return (), "", 0
    shape = tuple(int(n) for n in match[2].split(",") if n.strip())
    return shape, match[4] or "", int(match[5]) - int(match[6])


# -- gradients that were not there ---------------------------------------------------------------------------------------------


def absent(recorder: "Recorder", error: BaseException) -> list[RawAbsent]:
    """For a None that could not be used: the tensors whose ``.grad`` the failing statement reads and that have none."""
    if not isinstance(error, (TypeError, AttributeError)) or "None" not in str(error):
        return []
    frame, line = _users_frame(recorder, error)
    if frame is None:
        return []
    found: dict[int, RawAbsent] = {}
    for node in ast.walk(_statement(frame, line)):
        if isinstance(node, ast.Attribute) and node.attr == "grad" and isinstance(node.ctx, ast.Load):
            tensor = _evaluate(node.value, frame)
            if isinstance(tensor, torch.Tensor) and _without_gradient(tensor) and id(tensor) not in found:
                number = (
                    recorder.census.number(tensor)
                    if tensor.is_leaf and (tensor.requires_grad or isinstance(tensor, torch.nn.Parameter))
                    else -1
                )
                known = recorder.log.known(tensor)
                found[id(tensor)] = RawAbsent(ast.unparse(node.value), known, number, tensor.is_leaf, tensor.requires_grad)
    return list(found.values())


def _users_frame(recorder: "Recorder", error: BaseException) -> tuple[FrameType | None, int]:
    found, line = None, 0
    traceback = error.__traceback__
    while traceback is not None:
        code = traceback.tb_frame.f_code
        kind = recorder.frames.codes.get(id(code))
        if (recorder.frames.learn(code) if kind is None else kind) == USER:
            found, line = traceback.tb_frame, traceback.tb_lineno
        traceback = traceback.tb_next
    return found, line


def _statement(frame: FrameType, line: int) -> ast.AST:
    """The innermost statement of the frame's source around a line; an empty module where it cannot be read."""
    lines = linecache.getlines(frame.f_code.co_filename)
    for index, text in enumerate(lines):
        if text.lstrip().startswith(("%", "!")):
            lines[index] = "\n"
    best: ast.AST = ast.Module([], [])
    try:
        tree = ast.parse("".join(lines))
    except (SyntaxError, ValueError):
        return best
    for node in ast.walk(tree):
        if isinstance(node, ast.stmt) and not isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.AsyncFunctionDef)):
            if node.lineno <= line <= (node.end_lineno or node.lineno) and not getattr(node, "body", None):
                best = node
    return best


def _evaluate(node: ast.expr, frame: FrameType) -> Any:
    """What a plain name, attribute or item stands for in a frame; nothing of the user's is called for it."""
    if isinstance(node, ast.Name):
        return frame.f_locals.get(node.id, frame.f_globals.get(node.id))
    if isinstance(node, ast.Attribute):
        owner = _evaluate(node.value, frame)
        kept = getattr(owner, "__dict__", None)
        if not isinstance(kept, dict):
            return None
        for names in (kept, kept.get("_parameters"), kept.get("_buffers"), kept.get("_modules")):
            if isinstance(names, dict) and node.attr in names:
                return names[node.attr]
        return None
    if isinstance(node, ast.Subscript):
        owner = _evaluate(node.value, frame)
        key: Any = node.slice.value if isinstance(node.slice, ast.Constant) else _evaluate(node.slice, frame)
        try:
            return owner[key] if isinstance(owner, (dict, list, tuple)) else None
        except (KeyError, IndexError, TypeError):
            return None
    return None


def _without_gradient(tensor: torch.Tensor) -> bool:
    if not tensor.is_leaf:  # reading .grad of one would warn
        return not tensor.retains_grad
    return tensor.grad is None
