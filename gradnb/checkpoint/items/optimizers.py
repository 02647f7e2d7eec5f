"""Optimizers: exactly what they hold, also where torch's load_state_dict would cast it, and matched to parameters by name and shape."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from ..encode import Packer, Place, Unpacker, is_simple
from ..encode_tensors import write_all
from .item import Item, listed


class Optimizer(Item):
    kind = "optimizer"
    order = 2

    def save(self, packer: Packer, place: Place) -> dict[str, Any]:
        optimizer, parameters = self.thing, _parameters(self.thing)
        state = optimizer.state_dict()
        made: dict[str, Any] = {"class": type(optimizer).__name__}
        with packer.plain():
            if not isinstance(state, dict) or not {"state", "param_groups"} <= state.keys():
                return made | {"whole": packer.value(state, place)}
            dtypes = {dtype: str(dtype).removeprefix("torch.") for dtype in {p.dtype for p in parameters}}
            held, more = state["state"].items(), {key: value for key, value in state.items() if key not in ("state", "param_groups")}
            return made | {
                "groups": packer.items(state["param_groups"], place.at("groups")),
                "state": [
                    [packer.value(key, place), (write_all if is_simple(value) else Packer.value)(packer, value, place.at(key))]
                    for key, value in held
                ],
                "more": packer.value(more, place.at("more")),
                "defaults": packer.value(_plain(optimizer.defaults), place.at("defaults")),
                "parameters": [[packer.names.get(id(p), ""), list(p.shape), dtypes[p.dtype]] for p in parameters],
                "elsewhere": [[packer.value(index, place), key] for index, key in _elsewhere(held, parameters)],
            }

    def check(self, record: Mapping[str, Any], unpacker: Unpacker) -> list[str]:
        now = type(self.thing).__name__
        if record["class"] != now:
            return [f"{self.name}: saved a {record['class']}, now a {now}"]
        if "whole" in record:
            return []
        groups, here = record["groups"], self.thing.param_groups
        if len(groups) > len(here) and self._added(record, unpacker) is not None:
            return self._unlike(record, unpacker, len(here))
        if len(groups) != len(here):
            return [
                f"{self.name}: saved with {len(groups)} parameter groups, now {len(here)}; "
                "build the same groups (also those of add_param_group) before the checkpoint is loaded"
            ]
        return self._unlike(record, unpacker, len(here))

    def _added(self, record: Mapping[str, Any], unpacker: Unpacker) -> list[list[Tensor]] | None:
        """Parameters of the groups that the saved run had added (``add_param_group``), by their names; None where one is not here."""
        names = [name for name, _, _ in record["parameters"]]
        held = {id(p) for p in _parameters(self.thing)}
        found = [
            [unpacker.parameters.get(names[index]) for index in unpacker.read(group["params"])]
            for group in record["groups"][len(self.thing.param_groups) :]
        ]
        return found if all(p is not None and id(p) not in held for group in found for p in group) else None  # type: ignore[return-value]

    def _unlike(self, record: Mapping[str, Any], unpacker: Unpacker, groups: int) -> list[str]:
        """Differences in the first so many groups."""
        found = []
        for i, (before, after) in enumerate(zip(record["groups"][:groups], self.thing.param_groups)):
            count = len(unpacker.read(before["params"]))  # a long list is a tensor in the tree
            if count != len(after["params"]):
                found.append(f"{self.name}: group {i} was saved with {count} parameters, now {len(after['params'])}")
        if found:
            return found
        for i, ((name, shape, dtype), parameter) in enumerate(zip(record["parameters"], _parameters(self.thing))):
            called = unpacker.names.get(id(parameter), "")
            label = f"{self.name}: parameter {i}" + (f" ({called or name})" if called or name else "")
            if name and called and name != called:
                found.append(f"{self.name}: parameter {i} was {name}, now it is {called}")
            elif isinstance(parameter, torch.nn.parameter.UninitializedParameter):
                continue
            elif (list(parameter.shape), str(parameter.dtype).removeprefix("torch.")) != (shape, dtype):
                here_shape, here_dtype = "x".join(map(str, parameter.shape)), str(parameter.dtype).removeprefix("torch.")
                found.append(f"{label}: saved {'x'.join(map(str, shape))} {dtype}, now {here_shape} {here_dtype}")
        return found

    def load(self, record: Mapping[str, Any], unpacker: Unpacker) -> list[str]:
        optimizer = self.thing
        if "whole" in record:  # it writes its state in a form of its own
            optimizer.load_state_dict(unpacker.read(record["whole"]))
            return []
        notes = self._notes(record, unpacker)
        if len(record["groups"]) > len(optimizer.param_groups):
            names = [name for name, _, _ in record["parameters"]][len(_parameters(optimizer)) :]
            notes.append(f"{self.name}: parameters that the saved run had added (add_param_group) are added here, too: {listed(names)}")
            for added in self._added(record, unpacker) or []:
                optimizer.add_param_group({"params": added})
        del optimizer.param_groups[len(record["groups"]) :]  # only where a load that failed is put back
        parameters = _parameters(optimizer)
        held = {}
        for key, tree in record["state"]:
            index = unpacker.read(key)
            unpacker.like = parameters[index] if isinstance(index, int) and index < len(parameters) else None
            held[index] = unpacker.read(tree)
        unpacker.like = None
        groups = unpacker.read(record["groups"])
        old_state = {id(p): dict(optimizer.state[p]) for p in parameters if isinstance(optimizer.state.get(p), dict)}
        old_groups = [dict(group) for group in optimizer.param_groups]
        optimizer.load_state_dict({"state": _loadable(optimizer, held), "param_groups": groups, **unpacker.read(record["more"])})
        elsewhere = {(index, key) for index, key in record["elsewhere"]}
        with torch.no_grad():
            for index, values in held.items():
                if isinstance(index, int) and index < len(parameters) and isinstance(values, dict):
                    state = optimizer.state.get(parameters[index])
                    if isinstance(state, dict):
                        for key, value in values.items():
                            exact = _exact(state.get(key), value, key == "step", (index, key) in elsewhere)
                            state[key] = _into(old_state.get(id(parameters[index]), {}).get(key), exact)
            for group, old in zip(optimizer.param_groups, old_groups):
                for key in group.keys() - {"params"}:
                    group[key] = _into(old.get(key), group[key])
        return notes

    def _notes(self, record: Mapping[str, Any], unpacker: Unpacker) -> list[str]:
        """Options of the user's cell that the saved ones replace."""
        notes = []
        saved, here = unpacker.read(record["defaults"]), _plain(self.thing.defaults)
        for key in [key for key in here if key in saved and not _alike(saved[key], here[key])]:
            now = unpacker.read(record["groups"][0].get(key)) if len(record["groups"]) == 1 else saved[key]
            stands = "" if _alike(now, saved[key]) else f", now at {now}"
            notes.append(f"{self.name}: {key} {here[key]} of your cell is replaced by the saved run's {saved[key]}{stands}")
        return notes

    def parameters(self) -> dict[str, Tensor]:
        return {f"{self.name}[{i}]": p for i, p in enumerate(_parameters(self.thing))}


def _parameters(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """Each once, in the order of state_dict's numbers."""
    return [p for group in optimizer.param_groups for p in group["params"]]


def _elsewhere(held: Iterable[tuple[Any, Any]], parameters: list[Tensor]) -> Iterator[tuple[int, str]]:
    """Which state stands on another device than its parameter."""
    for index, values in held:
        if isinstance(values, dict) and isinstance(index, int) and index < len(parameters):
            device = parameters[index].device
            for key, value in values.items():
                if key != "step" and isinstance(value, Tensor) and value.device != device and isinstance(key, str):
                    yield index, key


def _plain(defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The options that are numbers, words or tuples of them. A learning rate in a tensor is none: schedulers write to that same tensor."""
    return {key: value for key, value in defaults.items() if _is_plain(value)}


def _alike(one: Any, other: Any) -> bool:
    return type(one) is type(other) and repr(one) == repr(other)


def _is_plain(value: Any) -> bool:
    return value is None or type(value) in (bool, int, float, str) or (type(value) is tuple and all(map(_is_plain, value)))


def _loadable(optimizer: torch.optim.Optimizer, state: dict[Any, Any]) -> dict[Any, Any]:
    """What torch's own load_state_dict can take: it breaks words and arrays, which are put in afterwards."""
    if type(optimizer).load_state_dict is not torch.optim.Optimizer.load_state_dict:
        return state
    return {
        index: {key: value for key, value in values.items() if _survives(value)} if isinstance(values, dict) else values
        for index, values in state.items()
    }


def _survives(value: Any) -> bool:
    if isinstance(value, Tensor) or not isinstance(value, Iterable):
        return True
    if isinstance(value, dict):
        return type(value) is dict and all(map(_survives, value.values()))
    return type(value) in (list, tuple) and all(map(_survives, value))


def _exact(loaded: Any, saved: Any, step: bool, elsewhere: bool) -> Any:
    """What torch made of a saved value, without the cast to the parameter's dtype; ``step`` has a rule of its own in torch."""
    if isinstance(loaded, Tensor) and isinstance(saved, Tensor):
        if step or loaded.shape != saved.shape:
            return loaded
        device = saved.device if elsewhere else loaded.device
        return loaded if (loaded.dtype, loaded.device) == (saved.dtype, device) else saved.to(device)
    if isinstance(loaded, dict) and isinstance(saved, dict) and loaded.keys() == saved.keys():
        return type(loaded)((key, _exact(loaded[key], saved[key], key == "step", elsewhere)) for key in loaded)
    if type(loaded) in (list, tuple) and type(saved) is type(loaded) and len(loaded) == len(saved):
        return type(loaded)(_exact(one, other, False, elsewhere) for one, other in zip(loaded, saved))
    return loaded if isinstance(loaded, Tensor) else saved


def _into(old: Any, new: Any) -> Any:
    """The old tensor with the new one's numbers, where it can hold them: a CUDA graph, or the user, may hold its memory."""
    if not isinstance(old, Tensor) or not isinstance(new, Tensor) or old is new:
        return new
    if (old.shape, old.dtype, old.layout) != (new.shape, new.dtype, new.layout) or old.layout is not torch.strided:
        return new
    if old.device != new.device or old.stride() != new.stride():
        return new
    old.copy_(new)
    return old
