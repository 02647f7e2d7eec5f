"""What takes part in a training and is not tracked: found before the training, by one look at the objects that live."""

from __future__ import annotations

import gc
import sys
import weakref
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.swa_utils import AveragedModel

from ..recorder.frames import own_names
from ..recorder.roots import unwrapped
from .items.item import listed

_GradScaler = getattr(torch.amp, "GradScaler", None) or torch.cuda.amp.GradScaler
_WANTED = (torch.optim.Optimizer, LRScheduler, _GradScaler, AveragedModel)


def warnings(things: Mapping[str, Any], parameters: Mapping[str, Tensor]) -> list[str]:
    """Sentences on living optimizers, schedulers, scalers and averaged models that go with what is tracked, and on parameters that an
    optimizer moves and nothing tracked holds. ``parameters`` are those of ``things``, by name."""
    found = list(_homeless(things))
    suspects = _suspects(things, parameters)
    names = variables({id(reference()) for reference, _ in suspects} - {id(None)})
    if any(id(reference()) not in names for reference, _ in suspects):
        gc.collect()  # an optimizer of an earlier run of the cell lives in a cycle with its scheduler until then
    for reference, text in suspects:
        each = reference()
        if each is not None:
            called = names.get(id(each))
            one = type(each).__name__
            track = f"ckpt.track({called}={called})" if called and called.isidentifier() else "name it in ckpt.track(...)"
            who = f"{called} ({one})" if called else f"an unnamed {one}"
            found.append(f"{who} {text} and is not tracked: it would begin anew after a resume; {track}")
    return found


def _suspects(things: Mapping[str, Any], parameters: Mapping[str, Tensor]) -> list[tuple[weakref.ref, str]]:
    """What goes with the tracked and is not, and how. Only weak references leave, so that ``gc`` can still take what is dead."""
    tracked = _inside(things.values())
    related = ((each, _relation(each, things, parameters, tracked)) for each in _living() if id(each) not in tracked)
    return [(weakref.ref(each), text) for each, text in related if text]


def _living() -> list[Any]:
    objects = gc.get_objects()
    wanted = {one for one in set(map(type, objects)) if issubclass(one, _WANTED)}
    found = [each for each in objects if type(each) in wanted]
    parts = {id(part) for each in found for part in _parts(each)}
    return [each for each in found if id(each) not in parts]


def _parts(each: Any) -> list[Any]:
    """Schedulers that a scheduler holds: the outer one speaks for them."""
    if not issubclass(type(each), LRScheduler):
        return []
    held = [item for value in vars(each).values() for item in (value if isinstance(value, (list, tuple)) else [value])]
    return [item for item in held if issubclass(type(item), LRScheduler)]


def _inside(things: Iterable[Any]) -> set[int]:
    """Ids of what is tracked, with what stands in tracked containers, schedulers, modules and wrappers that save what they wrap."""
    found: set[int] = set()
    queue = [(thing, 0) for thing in things]
    while queue:
        thing, depth = queue.pop()
        one = type(thing)
        if id(thing) in found or depth > 4 or issubclass(one, (Tensor, str, bytes, int, float, type(None))):
            continue
        found.add(id(thing))
        if issubclass(one, dict):
            queue += [(item, depth + 1) for item in list(dict.values(thing))[:1000]]
        elif issubclass(one, (list, tuple)):
            queue += [(item, depth + 1) for item in thing[:1000]]
        elif issubclass(one, torch.nn.Module):
            queue += [(part, depth + 1) for part in thing.modules() if issubclass(type(part), AveragedModel)]
        elif issubclass(one, LRScheduler):
            queue += [(part, depth + 1) for part in _parts(thing)]
        elif _optimizes(thing):  # one that wraps another speaks for it where both have one state
            queue += [(item, depth + 1) for item in vars(thing).values() if _optimizes(item) and item.state is thing.state]
        elif callable(getattr(one, "state_dict", None)):
            held = getattr(thing, "__dict__", None)  # a wrapper with a state_dict of its own speaks for what it wraps
            kinds = (*_WANTED, dict, list, tuple)
            queue += [(item, depth + 1) for item in held.values() if issubclass(type(item), kinds)] if type(held) is dict else []
    return found


def _optimizes(thing: Any) -> bool:
    return issubclass(type(thing), torch.optim.Optimizer)


def _relation(each: Any, things: Mapping[str, Any], parameters: Mapping[str, Tensor], tracked: set[int]) -> str:
    """How it goes with what is tracked, as the middle of a sentence; empty where it does not."""
    names = {id(parameter): name for name, parameter in parameters.items()}
    if _optimizes(each):
        moved = [names[id(p)] for group in vars(each).get("param_groups", []) for p in group["params"] if id(p) in names]
        return f"moves {listed(moved)}" if moved else ""
    if issubclass(type(each), LRScheduler):
        optimizer = vars(each).get("optimizer")
        owner = next((name for name, thing in things.items() if thing is optimizer), None)
        if owner is None and id(optimizer) not in tracked:
            return ""
        return f"sets the learning rate of {owner or 'a tracked optimizer'}"
    if issubclass(type(each), AveragedModel):
        shapes = _shapes(each._modules.get("module"))
        return next((f"averages {name}" for name, thing in things.items() if shapes and shapes == _shapes(thing)), "")
    optimizers = any(map(_optimizes, things.values()))
    scales = vars(each).get("_enabled", False) and optimizers
    return "scales the loss" if scales else ""


def _shapes(module: Any) -> list[tuple[str, tuple[int, ...]]]:
    return [(name, tuple(p.shape)) for name, p in unwrapped(module).named_parameters()] if isinstance(module, torch.nn.Module) else []


def _homeless(things: Mapping[str, Any]) -> Iterable[str]:
    """Parameters that a tracked optimizer moves and nothing else that is tracked holds."""
    from .items import item

    held = {
        id(parameter)
        for name, thing in things.items()
        if not _optimizes(thing) and (each := item(name, thing)) is not None
        for parameter in each.parameters().values()
    }
    for name, thing in things.items():
        if _optimizes(thing):
            lost = [p for group in thing.param_groups for p in group["params"] if id(p) not in held]
            if lost:
                shapes = listed(["x".join(map(str, p.shape)) or "a scalar" for p in lost])
                count = "a parameter" if len(lost) == 1 else f"{len(lost)} parameters"
                yield f"{name} moves {count} ({shapes}) that nothing tracked holds: track the module, or the tensors, too"


def variables(wanted: set[int]) -> dict[int, str]:
    """What the user calls the objects with these ids: looked up in the main program and in the frames that led here."""
    found: dict[int, str] = {}

    def look(space: Mapping[str, Any]) -> None:
        for name, value in list(space.items()):
            if id(value) in wanted and not name.startswith("_"):
                found.setdefault(id(value), name)

    frame = sys._getframe(1) if wanted else None
    while frame is not None:
        if not str(frame.f_globals.get("__name__", "")).startswith("gradnb."):
            look(own_names(frame))
            look(frame.f_globals)
        frame = frame.f_back
    if "__main__" in sys.modules:
        look(vars(sys.modules["__main__"]))
    return found
