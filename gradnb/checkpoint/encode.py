"""Values to JSON and back, exactly: ``pack`` and ``unpack``. The table is closed: nothing in a file names a class or code."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..errors import UsageError
from .errors import DamagedError
from .shards import Pieces

TAG = "~"
"""The key that marks a JSON object as one of the kinds of the table; a plain dict that has this key is written as pairs."""

MANY = 64
"""Lists of at least so many floats, or ints of 64 bits, become one tensor: a loss history of a million steps costs 8 MB and no time."""


class Place:
    """Where in the user's things a value stands; its texts are made only when they are needed."""

    __slots__ = ("_name", "key", "parent")

    def __init__(self, key: Any, parent: "Place | None" = None):
        self.key, self.parent = key, parent
        self._name: str | None = None

    def at(self, key: Any) -> "Place":
        return Place(key, self)

    @property
    def name(self) -> str:
        """As a tensor is called: ``model/encoder.0.weight``."""
        if self._name is None:
            key = self.key if type(self.key) is str and _whole(self.key) else ascii(self.key)
            self._name = key if self.parent is None else f"{self.parent.name}/{key}"
        return self._name

    def __str__(self) -> str:
        return f"tracked {self.key!r}" if self.parent is None else f"{self.parent}[{self.key!r}]"


@dataclass(frozen=True)
class Saved:
    """The state of an object that stood inside a container; only the user's own object in the same place can take it up."""

    record: Mapping[str, Any]


Pack = Callable[["Packer", Any, Place], Any]
Unpack = Callable[["Unpacker", Mapping[str, Any]], Any]

_kinds: dict[type, tuple[str, Pack]] = {}
_readers: dict[str, Unpack] = {}
_families: list[tuple[Callable[[type], bool], Pack]] = []


def kind(name: str, *types: type, read: Unpack) -> Callable[[Pack], Pack]:
    """Put a kind into the table: how exactly these types are written, and how they are read."""

    def put(write: Pack) -> Pack:
        _readers[name] = read
        for each in types:
            _kinds[each] = name, write
        return write

    return put


def family(belongs: Callable[[type], bool], write: Pack) -> None:
    """Types that are known only when they are met (NumPy's, classes of tensors)."""
    _families.append((belongs, write))


class Packer:
    """Makes JSON trees of values and collects their tensors, each once, under names that say where they stand.

    ``objects`` writes what has a ``state_dict`` and stands inside a container; it returns the fields of its record.
    """

    def __init__(self, objects: Callable[["Packer", Any, Place], dict[str, Any]] | None = None):
        self.tensors: dict[str, Tensor] = {}
        self.stored: dict[Any, str] = {}
        """Address of a tensor, or its identity where another begins there, too -> its name, so that tied weights are written once."""
        self.parameters: Mapping[int, Mapping[str, Tensor]] = {}
        """Of tracked items by id, where they were asked for already: a walk through a large module takes its time."""
        self.settled: set[str] = set()
        """Names of tensors that are frozen parameters."""
        self.names: Mapping[int, str] = {}
        """What users call the tensors that are tracked: id -> ``model.head.weight``."""
        self._closed = False
        self._objects = objects or _state_of
        self._open: set[int] = set()

    def value(self, value: Any, place: Place) -> Any:
        """The tree of a value. UsageError names the place of what cannot be written."""
        one = type(value)
        if value is None or one is bool:
            return value
        if one is int:
            return value if -(2**63) <= value < 2**63 else {TAG: "int", "hex": hex(value)}
        if one is float:
            return value if math.isfinite(value) else {TAG: "float", "bits": struct.pack(">d", value).hex()}
        if one is str:
            return value if _whole(value) else {TAG: "str", "utf-8": value.encode("utf-8", "surrogatepass").hex()}
        if one is Tensor:
            return encode_tensors.write(self, value, place)
        if id(value) in self._open:
            raise UsageError(f"{place} contains itself; a checkpoint holds trees only.")
        self._open.add(id(value))
        try:
            return self._composite(value, one, place)
        finally:
            self._open.discard(id(value))

    def _composite(self, value: Any, one: type, place: Place) -> Any:
        if one is list:
            return _many(self, value, place) or [self.value(item, place.at(i)) for i, item in enumerate(value)]
        if one is dict:
            if is_simple(value):
                return encode_tensors.write_all(self, value, place)
            return {TAG: "dict", "of": self.pairs(value, place)}
        known = _kinds.get(one)
        if known is not None:
            name, write = known
            return {TAG: name, **write(self, value, place)}
        for belongs, pack in _families:
            if belongs(one):
                return pack(self, value, place)
        if not self._closed and callable(getattr(one, "state_dict", None)) and callable(getattr(one, "load_state_dict", None)):
            return {TAG: "object", **self._objects(self, value, place)}
        raise UsageError(f"{place} is {_what(value)}, which a checkpoint cannot hold. {_advice(one)}")

    @contextmanager
    def plain(self) -> Iterator[None]:
        """Objects with a state_dict are refused meanwhile: what reads this state could not take them up again."""
        self._closed = True
        try:
            yield
        finally:
            self._closed = False

    def pairs(self, value: Mapping[Any, Any], place: Place) -> list[Any]:
        return [[self.value(key, place.at(key)), self.value(item, place.at(key))] for key, item in value.items()]

    def items(self, values: Any, place: Place) -> list[Any]:
        return [self.value(item, place.at(i)) for i, item in enumerate(values)]


class Unpacker:
    """Makes values of trees. Tensors come as copies of their own, for the memory under ``tensors`` may be a file that is written again."""

    def __init__(self, tensors: Mapping[str, Tensor]):
        self.tensors = tensors
        self.made: dict[Any, Tensor] = {}
        """What came of a tensor's record, so that tied tensors stay one."""
        self.notes: list[str] = []
        self.objects = 0
        """How many ``Saved`` were made."""
        self.like: Tensor | None = None
        """The parameter that a value belongs to: what has its shape is split among processes as it is."""
        self.names: Mapping[int, str] = {}
        """As in ``Packer``."""
        self.parameters: Mapping[str, Tensor] = {}
        """All tensors that are tracked, by name."""

    def value(self, tree: Any) -> Any:
        """The value of a tree. DamagedError where this is not a tree of ours."""
        try:
            return self.read(tree)
        except DamagedError:
            raise
        except Exception as error:
            raise DamagedError(f"The checkpoint holds a value that cannot be read ({type(error).__name__}: {error}).") from error

    def read(self, tree: Any) -> Any:
        one = type(tree)
        if tree is None or one in (bool, int, float, str):
            return tree
        if one is list:
            return [self.read(item) for item in tree]
        if one is dict:
            if TAG not in tree:
                return {key: self.read(item) for key, item in tree.items()}
            reader = _readers.get(tree[TAG]) if isinstance(tree[TAG], str) else None
            if reader is not None:
                return reader(self, tree)
            raise DamagedError(f"The checkpoint holds a value of the unknown kind {tree[TAG]!r}; a newer gradnb may have written it.")
        raise DamagedError(f"The checkpoint holds {_what(tree)} where JSON was expected.")

    def pairs(self, tree: Mapping[str, Any], key: str = "of") -> Iterator[tuple[Any, Any]]:
        return ((self.read(k), self.read(v)) for k, v in tree[key])

    def tensor(self, name: str) -> Tensor:
        """The stored tensor itself: to copy from, never to keep. ``shards.Pieces`` stand where a tensor does: they have shape and dtype."""
        found = self.tensors.get(name)
        if not isinstance(found, (Tensor, Pieces)):
            raise DamagedError(f"The checkpoint names the tensor {name!r}, and has none of this name.")
        return found


def pack(value: Any, prefix: str) -> tuple[Any, dict[str, Tensor]]:
    """A value as ``(tree, tensors)``: a JSON tree, and the tensors that it names, ``prefix`` in front.

    Written exactly, and only, are: None, bool, int, float, complex, str, bytes, bytearray; list, tuple, dict, set, frozenset, deque, range,
    slice, OrderedDict, Counter, defaultdict (of a built-in factory); date, datetime (naive or of a UTC offset), timedelta, Decimal,
    Fraction, Path; torch.dtype, device, Size, layout, memory_format; tensors (dense and sparse, not quantized), NumPy arrays and scalars;
    random generators; objects with ``state_dict()`` and ``load_state_dict()``. Tensors are not copied, and come back detached from their
    graph. Subclasses of these, Enum members and dataclasses are refused, because reading them would need their class: save the member's
    ``.value``, or ``dataclasses.asdict(...)``. A UsageError names the place.
    """
    packer = Packer()
    try:
        return packer.value(value, Place(prefix)), packer.tensors
    except RecursionError:
        raise UsageError(f"{prefix!r} is nested too deep for a checkpoint.") from None


def unpack(tree: Any, tensors: Mapping[str, Tensor]) -> Any:
    """The value of which ``pack`` made this, in memory of its own. DamagedError where they do not fit; nothing is ever executed."""
    return Unpacker(tensors).value(tree)


def _many(packer: Packer, values: list, place: Place) -> dict[str, Any] | None:
    """A long list of numbers of one type, as the record of one tensor."""
    if len(values) < MANY:
        return None
    types = set(map(type, values))
    if types == {float} or (types == {int} and -(2**63) <= min(values) and max(values) < 2**63):
        return encode_arrays.write_numbers(packer, values, place)
    return None


def is_simple(value: Any) -> bool:
    """Whether it is a dict that JSON can hold as it is: its keys are texts, and none is ours."""
    if type(value) is not dict or TAG in value:
        return False
    for key in value:
        if type(key) is not str or not _whole(key):
            return False
    return True


def _whole(text: str) -> bool:
    """Whether JSON in UTF-8 can hold it: no half of a surrogate pair."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _what(value: Any) -> str:
    one = type(value)
    if isinstance(value, type):
        return f"the class {value.__qualname__}"
    if one.__name__ in ("function", "builtin_function_or_method", "method"):
        return f"a function ({getattr(value, '__qualname__', '?')})"
    return f"an object of {one.__module__}.{one.__qualname__}"


def _advice(one: type) -> str:
    import enum

    if issubclass(one, enum.Enum):
        return "Keep the member's .value there instead."
    if hasattr(one, "__dataclass_fields__"):
        return "Keep dataclasses.asdict(...) there, or give the class state_dict() and load_state_dict()."
    if issubclass(one, (dict, list, tuple, set, int, float, str, bytes)):
        return "Subclasses of built-in types are not read back: use the plain type, or give the class state_dict() and load_state_dict()."
    return "Leave it out, or give its class state_dict() and load_state_dict()."


def _state_of(packer: Packer, value: Any, place: Place) -> dict[str, Any]:
    return {"class": type(value).__name__, "state": packer.value(value.state_dict(), place)}


def _read_object(unpacker: Unpacker, tree: Mapping[str, Any]) -> Saved:
    unpacker.objects += 1
    return Saved(dict(tree))


_readers["object"] = _read_object

from . import encode_arrays, encode_generators, encode_plain, encode_tensors  # noqa: E402, F401  # they fill the table
