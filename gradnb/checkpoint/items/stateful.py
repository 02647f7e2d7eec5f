"""Anything with state_dict() and load_state_dict(): schedulers, GradScaler, EMA, samplers, the monitor."""

from __future__ import annotations

import types
import weakref
from collections.abc import Mapping
from typing import Any

import torch
from torch.optim.lr_scheduler import LRScheduler

from ..encode import Packer, Place, Unpacker
from .item import Item
from .values import Choose, Value

_CODE = (types.FunctionType, types.MethodType, types.BuiltinFunctionType, weakref.ReferenceType)


class Stateful(Item):
    kind = "stateful"

    def __init__(self, name: str, thing: Any, choose: Choose):
        super().__init__(name, thing)
        self._choose = choose

    def save(self, packer: Packer, place: Place) -> dict[str, Any]:
        return {"class": type(self.thing).__name__, "state": packer.value(self._state(), place)}

    def _state(self) -> Any:
        state = self.thing.state_dict()
        if isinstance(self.thing, LRScheduler) and isinstance(state, dict):
            # It gives all its attributes; functions among them (SWALR of older torch) are made by its constructor.
            return {key: value for key, value in state.items() if not isinstance(value, _CODE)}
        return state

    def check(self, record: Mapping[str, Any], unpacker: Unpacker) -> list[str]:
        now = type(self.thing).__name__
        if record["class"] != now:
            return [f"{self.name}: saved a {record['class']}, now a {now}"]
        return self._inner().check(record, unpacker) if self._read(record, unpacker)[1] else []

    def load(self, record: Mapping[str, Any], unpacker: Unpacker) -> list[str]:
        if _is_scaler(self.thing):
            was, now = record["state"] != {}, self.thing.is_enabled()
            if was != now:
                return [f"{self.name}: the GradScaler was {_enabled(was)} when saved and is {_enabled(now)} now; it begins anew"]
        state, objects = self._read(record, unpacker)
        notes: list[str] = []
        if objects:  # a scheduler that holds another one: the inner one takes its own state up, and stays in its place
            inner = self._inner()
            notes, state = inner.load(record, unpacker), inner.thing
        self.thing.load_state_dict(state)
        return notes

    def _read(self, record: Mapping[str, Any], unpacker: Unpacker) -> tuple[Any, bool]:
        """Its state, and whether there are states of objects in it."""
        before = unpacker.objects
        state = unpacker.value(record["state"])
        return state, unpacker.objects > before

    def _inner(self) -> Value:
        return Value(self.name, self._state(), self._choose)


def _is_scaler(thing: Any) -> bool:
    scaler = getattr(torch.amp, "GradScaler", None) or torch.cuda.amp.GradScaler
    return isinstance(thing, scaler)


def _enabled(value: bool) -> str:
    return "enabled" if value else "disabled"
