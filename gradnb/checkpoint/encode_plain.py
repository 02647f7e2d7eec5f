"""The kinds of Python's own values in the table of ``encode``."""

from __future__ import annotations

import base64
import datetime
import pathlib
import struct
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Mapping
from decimal import Decimal
from fractions import Fraction
from typing import Any

import torch

from ..errors import UsageError
from .encode import Packer, Place, Unpacker, _readers, kind
from .errors import DamagedError

_FACTORIES: dict[str, type] = {each.__name__: each for each in (list, dict, set, int, float, str, tuple, bool, OrderedDict, Counter, deque)}
_PATHS: dict[str, type] = {each.__name__: each for each in (type(pathlib.Path()), pathlib.PurePosixPath, pathlib.PureWindowsPath)}


def _number(unpacker: Unpacker, tree: Mapping[str, Any]) -> float:
    return struct.unpack(">d", bytes.fromhex(tree["bits"]))[0]


_readers["int"] = lambda unpacker, tree: int(tree["hex"], 16)
_readers["float"] = _number
_readers["str"] = lambda unpacker, tree: bytes.fromhex(tree["utf-8"]).decode("utf-8", "surrogatepass")
_readers["dict"] = lambda unpacker, tree: dict(unpacker.pairs(tree))


@kind("complex", complex, read=lambda unpacker, tree: complex(*(unpacker.read(part) for part in tree["of"])))
def _complex(packer: Packer, value: complex, place: Place) -> dict[str, Any]:
    return {"of": packer.items((value.real, value.imag), place)}


@kind("bytes", bytes, read=lambda unpacker, tree: base64.b64decode(tree["base64"], validate=True))
@kind("bytearray", bytearray, read=lambda unpacker, tree: bytearray(base64.b64decode(tree["base64"], validate=True)))
def _bytes(packer: Packer, value: bytes, place: Place) -> dict[str, Any]:
    return {"base64": base64.b64encode(value).decode()}


@kind("tuple", tuple, read=lambda unpacker, tree: tuple(unpacker.read(item) for item in tree["of"]))
@kind("set", set, read=lambda unpacker, tree: {unpacker.read(item) for item in tree["of"]})
@kind("frozenset", frozenset, read=lambda unpacker, tree: frozenset(unpacker.read(item) for item in tree["of"]))
@kind("Size", torch.Size, read=lambda unpacker, tree: torch.Size(tree["of"]))
def _sequence(packer: Packer, value: Any, place: Place) -> dict[str, Any]:
    return {"of": packer.items(value, place)}


@kind("deque", deque, read=lambda unpacker, tree: deque((unpacker.read(item) for item in tree["of"]), tree["maxlen"]))
def _deque(packer: Packer, value: deque, place: Place) -> dict[str, Any]:
    return {"of": packer.items(value, place), "maxlen": value.maxlen}


@kind("OrderedDict", OrderedDict, read=lambda unpacker, tree: OrderedDict(unpacker.pairs(tree)))
@kind("Counter", Counter, read=lambda unpacker, tree: Counter(dict(unpacker.pairs(tree))))
def _mapping(packer: Packer, value: Mapping, place: Place) -> dict[str, Any]:
    return {"of": packer.pairs(value, place)}


def _read_defaultdict(unpacker: Unpacker, tree: Mapping[str, Any]) -> defaultdict:
    return defaultdict(None if tree["factory"] is None else _FACTORIES[tree["factory"]], unpacker.pairs(tree))


@kind("defaultdict", defaultdict, read=_read_defaultdict)
def _defaultdict(packer: Packer, value: defaultdict, place: Place) -> dict[str, Any]:
    factory = value.default_factory
    if factory is not None and factory not in _FACTORIES.values():
        raise UsageError(
            f"{place} is a defaultdict whose factory is not one of {', '.join(_FACTORIES)}: a checkpoint cannot hold a function."
        )
    return {"of": packer.pairs(value, place), "factory": factory and factory.__name__}  # type: ignore[union-attr]


@kind("range", range, read=lambda unpacker, tree: range(*map(unpacker.read, tree["of"])))
@kind("slice", slice, read=lambda unpacker, tree: slice(*map(unpacker.read, tree["of"])))
def _steps(packer: Packer, value: Any, place: Place) -> dict[str, Any]:
    return {"of": packer.items((value.start, value.stop, value.step), place)}


@kind("date", datetime.date, read=lambda unpacker, tree: datetime.date(*tree["of"]))
def _date(packer: Packer, value: datetime.date, place: Place) -> dict[str, Any]:
    return {"of": [value.year, value.month, value.day]}


@kind("timedelta", datetime.timedelta, read=lambda unpacker, tree: datetime.timedelta(*tree["of"]))
def _timedelta(packer: Packer, value: datetime.timedelta, place: Place) -> dict[str, Any]:
    return {"of": [value.days, value.seconds, value.microseconds]}


def _read_datetime(unpacker: Unpacker, tree: Mapping[str, Any]) -> datetime.datetime:
    zone = tree["zone"]
    there = None if zone is None else datetime.UTC if zone == [0, 0, 0] else datetime.timezone(datetime.timedelta(*zone))
    return datetime.datetime(*tree["of"]).replace(tzinfo=there, fold=tree["fold"])


@kind("datetime", datetime.datetime, read=_read_datetime)
def _datetime(packer: Packer, value: datetime.datetime, place: Place) -> dict[str, Any]:
    if value.tzinfo is not None and type(value.tzinfo) is not datetime.timezone:
        raise UsageError(f"{place} is a datetime in the zone {value.tzinfo}: only naive ones and those with a fixed UTC offset are saved.")
    offset = value.utcoffset()
    zone = None if offset is None else [offset.days, offset.seconds, offset.microseconds]
    fields = [value.year, value.month, value.day, value.hour, value.minute, value.second, value.microsecond]
    return {"of": fields, "zone": zone, "fold": value.fold}


@kind("Decimal", Decimal, read=lambda unpacker, tree: Decimal(tree["of"]))
def _decimal(packer: Packer, value: Decimal, place: Place) -> dict[str, Any]:
    return {"of": str(value)}


@kind("Fraction", Fraction, read=lambda unpacker, tree: Fraction(*map(unpacker.read, tree["of"])))
def _fraction(packer: Packer, value: Fraction, place: Place) -> dict[str, Any]:
    return {"of": packer.items((value.numerator, value.denominator), place)}


@kind("Path", *_PATHS.values(), read=lambda unpacker, tree: _PATHS.get(tree["class"], pathlib.Path)(tree["of"]))
def _path(packer: Packer, value: pathlib.PurePath, place: Place) -> dict[str, Any]:
    return {"class": type(value).__name__, "of": packer.value(str(value), place)}


def _of_torch(expected: type) -> Any:
    def read(unpacker: Unpacker, tree: Mapping[str, Any]) -> Any:
        found = getattr(torch, str(tree["of"]), None)
        if type(found) is not expected:
            raise DamagedError(f"torch has no {expected.__name__} {tree['of']!r} here.")
        return found

    return read


@kind("dtype", torch.dtype, read=_of_torch(torch.dtype))
@kind("layout", torch.layout, read=_of_torch(torch.layout))
@kind("memory_format", torch.memory_format, read=_of_torch(torch.memory_format))
def _torch_constant(packer: Packer, value: Any, place: Place) -> dict[str, Any]:
    return {"of": str(value).removeprefix("torch.")}


@kind("device", torch.device, read=lambda unpacker, tree: torch.device(tree["of"]))
def _device(packer: Packer, value: torch.device, place: Place) -> dict[str, Any]:
    return {"of": str(value)}
